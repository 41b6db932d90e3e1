//! What is counted at the front door, before anything speaks HTTP.

use std::time::Duration;

use prometheus::{GaugeVec, Histogram, IntCounterVec, Opts};

use super::Maker;
use crate::config::Listener;
use crate::front::caps::Full;
use crate::front::proxy_protocol::Refused;
use crate::front::tls::Failure;

/// The handles of the front door.
#[derive(Clone, Debug)]
pub struct DoorMetrics {
    turned_away: IntCounterVec,
    handshake_failures: IntCounterVec,
    full: Histogram,
    resumed: Histogram,
    certificate_ends: GaugeVec,
}

/// How a handshake began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// From nothing.
    Full,
    /// With a ticket.
    Resumed,
}

impl DoorMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        let handshakes =
            make.histograms("imgate_tls_handshake_seconds", "Time until TLS was spoken", &["kind"])?;
        let turned_away = make.counters(
            "imgate_connections_refused_total",
            "Connections closed before a byte of them was served, by the cap or the PROXY header at fault",
            &["reason"],
        )?;
        let handshake_failures = make.counters(
            "imgate_tls_handshake_failures_total",
            "TLS handshakes that came to nothing",
            &["reason"],
        )?;
        // A reason is there with 0 before the first time, so that its rise can be seen.
        for reason in Full::ALL.map(Full::as_str).iter().chain(&Refused::WORDS) {
            turned_away.with_label_values(&[*reason]);
        }
        for reason in Failure::WORDS {
            handshake_failures.with_label_values(&[reason]);
        }
        Ok(Self {
            turned_away,
            handshake_failures,
            full: handshakes.with_label_values(&["full"]),
            resumed: handshakes.with_label_values(&["resumed"]),
            certificate_ends: make.register(GaugeVec::new(
                Opts::new("imgate_tls_certificate_not_after_timestamp_seconds", "When a certificate ends"),
                &["listener", "certificate"],
            )?)?,
        })
    }

    /// Notes a connection that was closed before a byte of it was served; the reasons are few.
    pub fn turned_away(&self, reason: &'static str) {
        self.turned_away.with_label_values(&[reason]).inc();
    }

    /// Notes a handshake that came to nothing; the reasons are few.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshake_failures.with_label_values(&[reason]).inc();
    }

    /// Notes a handshake and how long it took.
    pub fn shook_hands(&self, kind: Handshake, took: Duration) {
        let seconds = match kind {
            Handshake::Full => &self.full,
            Handshake::Resumed => &self.resumed,
        };
        seconds.observe(took.as_secs_f64());
    }

    /// Takes over when the certificates in force end; those of before are forgotten.
    pub fn observe_certificates(&self, listeners: &[Listener]) {
        self.certificate_ends.reset();
        for listener in listeners {
            let certificates = listener.tls.iter().flat_map(|tls| tls.certificates.iter());
            for certificate in certificates {
                let (address, file) = (listener.address.to_string(), certificate.file.display().to_string());
                let ends = self.certificate_ends.with_label_values(&[&address, &file]);
                ends.set(certificate.not_after.0 as f64);
            }
        }
    }
}
