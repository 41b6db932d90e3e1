//! What is counted of reloads and upgrades.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Maker;

/// What came of reloads and upgrades, and what runs now.
pub struct ReloadMetrics {
    /// Reloads that took effect.
    pub ok: IntCounter,
    /// Reloads that were refused.
    pub refused: IntCounter,
    /// Whether the last attempt to load the configuration went well.
    pub last_ok: IntGauge,
    /// When the running configuration was loaded, in seconds since the Unix epoch.
    pub loaded: Gauge,
    /// A hash of the running configuration.
    hash: Gauge,
    changes: IntCounterVec,
    needs_restart: IntGaugeVec,
    upgrades: IntCounterVec,
}

/// What came of an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeResult {
    /// The successor serves.
    Ok,
    /// The successor did not come to serve; the old process goes on.
    Failed,
    /// Another upgrade was under way.
    Refused,
}

impl UpgradeResult {
    const ALL: [Self; 3] = [Self::Ok, Self::Failed, Self::Refused];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

impl ReloadMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        let reloads = make.counters(
            "imgate_config_reloads_total",
            "Reloads, by whether they took effect",
            &["result"],
        )?;
        let upgrades = make.counters(
            "imgate_upgrades_total",
            "Attempts to hand over to a successor, by what came of them",
            &["result"],
        )?;
        for result in UpgradeResult::ALL {
            upgrades.with_label_values(&[result.as_str()]);
        }
        Ok(Self {
            ok: reloads.with_label_values(&["ok"]),
            refused: reloads.with_label_values(&["refused"]),
            last_ok: make.gauge(
                "imgate_config_last_load_ok",
                "Whether the last attempt to load the configuration went well; 0 means the files are refused",
            )?,
            loaded: make.register(Gauge::new(
                "imgate_config_loaded_timestamp_seconds",
                "When the running configuration was loaded",
            )?)?,
            hash: make.register(Gauge::new(
                "imgate_config_hash",
                "Hash of the running configuration's files but for its secrets, the same on gateways that run the same",
            )?)?,
            changes: make.counters(
                "imgate_config_changes_total",
                "Entries that reloads added, removed or changed, by section of the file",
                &["section"],
            )?,
            needs_restart: make.gauges(
                "imgate_config_needs_restart",
                "Whether the file says something else of this than what runs, until a restart",
                &["key"],
            )?,
            upgrades,
        })
    }

    /// Notes the hash of what runs now: as much of it as a float holds exactly.
    pub fn set_hash(&self, hash: &[u8; 32]) {
        let number = hash[..6].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        self.hash.set(number as f64);
    }

    /// Notes how many entries of a section differ.
    pub fn changed(&self, section: &str, count: u64) {
        self.changes.with_label_values(&[section]).inc_by(count);
    }

    /// Notes whether a key waits for a restart.
    pub fn needs_restart(&self, key: &str, needs: bool) {
        self.needs_restart.with_label_values(&[key]).set(i64::from(needs));
    }

    /// Notes what came of an upgrade.
    pub fn upgraded(&self, result: UpgradeResult) {
        self.upgrades.with_label_values(&[result.as_str()]).inc();
    }
}
