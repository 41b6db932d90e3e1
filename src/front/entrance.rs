//! What a connection passes before it speaks HTTP: the caps, the PROXY protocol, TLS.
//!
//! Each step has a deadline, and whoever fails one is gone with no answer: nobody knows yet what it
//! speaks. A reload changes the steps for connections from then on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use rustls::HandshakeKind;
use tokio_rustls::TlsStream;
use tracing::debug;

use super::address::Accepted;
use super::caps::{Caps, Full, Seat, Seats};
use super::proxy_protocol::{self, ProxyProtocol};
use super::tls::{self, Acceptor, BadSettings};
use super::trusted::TrustedProxies;
use crate::admission::Pacer;
use crate::config::Listener;
use crate::metrics::{DoorMetrics, Handshake};
use crate::wire::{Plain, Wire};

/// As whose a connection counts that has no address: what comes by a Unix socket is on this machine.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The way into one listener.
pub struct Entrance {
    steps: ArcSwap<Steps>,
    seats: Arc<Seats>,
    metrics: DoorMetrics,
}

/// What connections pass.
pub struct Steps {
    proxy_protocol: Option<ProxyProtocol>,
    tls: Option<Arc<Acceptor>>,
    trusted: TrustedProxies,
}

/// A connection that has a place.
pub struct Admitted {
    stream: Plain,
    peer: SocketAddr,
    seat: Seat,
}

/// Why a connection is closed before it speaks HTTP.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("too many connections: {}", .0.as_str())]
    Full(Full),
    #[error(transparent)]
    ProxyProtocol(#[from] proxy_protocol::Refused),
    #[error(transparent)]
    Tls(#[from] tls::Failure),
    #[error("too many handshakes wait")]
    Crowded,
    #[error("it was gone before it was served: {0}")]
    Gone(#[from] io::Error),
}

impl Entrance {
    /// The way into this listener, whose connections take `seats` with those of others.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(
        listener: &Listener,
        trusted: &TrustedProxies,
        seats: &Arc<Seats>,
        metrics: DoorMetrics,
    ) -> Result<Self, BadSettings> {
        let steps = ArcSwap::from_pointee(Steps::new(listener, trusted, None)?);
        Ok(Self { steps, seats: Arc::clone(seats), metrics })
    }

    /// A way in that bounds nothing and speaks no TLS.
    pub fn open(metrics: DoorMetrics) -> Self {
        let steps = Steps { proxy_protocol: None, tls: None, trusted: TrustedProxies::default() };
        Self { steps: ArcSwap::from_pointee(steps), seats: Seats::new(Caps::NONE), metrics }
    }

    /// What connections would pass by what is said of the listener now.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn plan(&self, listener: &Listener, trusted: &TrustedProxies) -> Result<Steps, BadSettings> {
        Steps::new(listener, trusted, self.steps.load().tls.as_ref())
    }

    /// Has connections pass these steps from now on.
    pub fn set(&self, steps: Steps) {
        self.steps.store(Arc::new(steps));
    }

    /// Gives a connection a place; one that finds none is closed, and none is returned.
    pub fn admit(&self, accepted: Accepted) -> Option<Admitted> {
        let steps = self.steps.load();
        let (stream, peer) = match accepted {
            Accepted::Ip(stream, peer) => (Plain::from(stream), peer),
            Accepted::Unix(stream) => (Plain::from(stream), LOCAL),
        };
        let mut seat = match self.seats.take() {
            Ok(seat) => seat,
            Err(full) => return self.turn_away(&stream, peer, &Closed::Full(full)),
        };
        // With the PROXY protocol the connection is somebody's whom nobody knows yet.
        if steps.proxy_protocol.is_none()
            && let Err(full) = steps.assign(&mut seat, peer)
        {
            return self.turn_away(&stream, peer, &Closed::Full(full));
        }
        Some(Admitted { stream, peer, seat })
    }

    fn turn_away(&self, stream: &Plain, peer: SocketAddr, why: &Closed) -> Option<Admitted> {
        self.note(peer, why);
        stream.reset_when_dropped();
        None
    }

    /// Leads a connection to where HTTP is spoken, and says whose it is; none if it did not get there.
    /// Handshakes begin at `pace`, if there is one.
    pub async fn enter(&self, admitted: Admitted, pace: Option<Arc<Pacer>>) -> Option<(Wire, SocketAddr)> {
        let peer = admitted.peer;
        let entered = self.pass(admitted, pace).await;
        entered.inspect_err(|why| self.note(peer, why)).ok()
    }

    async fn pass(&self, admitted: Admitted, pace: Option<Arc<Pacer>>) -> Result<(Wire, SocketAddr), Closed> {
        let steps = self.steps.load_full();
        let Admitted { mut stream, peer, mut seat } = admitted;
        stream.set_nodelay()?;
        let client = match &steps.proxy_protocol {
            None => peer,
            Some(proxy_protocol) => {
                let client = proxy_protocol.client(&mut stream, peer).await?;
                steps.assign(&mut seat, client).map_err(Closed::Full)?;
                client
            }
        };
        let stream = stream.seated(seat);
        let wire = match &steps.tls {
            None => Wire::Plain(stream),
            Some(acceptor) => {
                if let Some(pacer) = pace {
                    pacer.pass().await.map_err(|_| Closed::Crowded)?;
                }
                Wire::Tls(Box::new(self.shake_hands(acceptor, stream).await?))
            }
        };
        Ok((wire, client))
    }

    async fn shake_hands(
        &self,
        acceptor: &Acceptor,
        stream: Plain,
    ) -> Result<TlsStream<Plain>, tls::Failure> {
        let began = Instant::now();
        let stream = acceptor.accept(stream).await?;
        let kind = match stream.get_ref().1.handshake_kind() {
            Some(HandshakeKind::Resumed) => Handshake::Resumed,
            _ => Handshake::Full,
        };
        self.metrics.shook_hands(kind, began.elapsed());
        Ok(stream.into())
    }

    fn note(&self, peer: SocketAddr, why: &Closed) {
        match why {
            Closed::Full(full) => self.metrics.turned_away(full.as_str()),
            Closed::ProxyProtocol(refused) => self.metrics.turned_away(refused.as_str()),
            Closed::Tls(failure) => self.metrics.handshake_failed(failure.as_str()),
            // The pacer counts whom it turns away.
            Closed::Crowded | Closed::Gone(_) => {}
        }
        debug!(%peer, %why, "connection was closed before it was served");
    }
}

impl Steps {
    fn new(
        listener: &Listener,
        trusted: &TrustedProxies,
        before: Option<&Arc<Acceptor>>,
    ) -> Result<Self, BadSettings> {
        let tls = listener.tls.as_ref().map(|settings| Acceptor::new(settings, before)).transpose()?;
        Ok(Self { proxy_protocol: listener.proxy_protocol.clone(), tls, trusted: trusted.clone() })
    }

    /// Counts a place for an address, unless it stands for many clients: a proxy's, or this machine's.
    fn assign(&self, seat: &mut Seat, client: SocketAddr) -> Result<(), Full> {
        if client == LOCAL || self.trusted.contain(client.ip()) {
            return Ok(());
        }
        seat.assign(client.ip())
    }
}
