//! A limit whose allowances all gateways on one store share, and what is done without the store.
//!
//! What is known here of a key is never more than what is left of it: whoever is refused by that is not
//! asked for, so a flood costs the store about as much as it lets through. When the store is away, the
//! count goes on from what it said last.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use imgate_identity::store::{Policy, Store, Taken, Unavailable};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::{info, warn};

use super::Config;
use super::memory::{Event, Limit};
use crate::reject::{Cause, Hint, Reject};

/// Who shares an allowance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Each gateway counts for itself.
    #[default]
    Node,
    /// All gateways on one store count together.
    Shared,
}

/// What becomes of requests while the store does not say what is left of an allowance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Away {
    /// Each gateway counts for itself.
    #[default]
    Local,
    /// They are refused as long as it lasts; nobody is blamed.
    Refuse,
    /// They pass.
    Allow,
}

/// Counts in the store.
pub(super) struct Shared {
    store: Arc<Store>,
    policy: Policy,
    away: Away,
    outage: Outage,
}

/// How long there must be answers before an outage is over: one that comes and goes is logged once.
const CALM: Duration = Duration::from_secs(10);

/// Whether the store is away, so that only a change is logged.
#[derive(Default)]
struct Outage {
    lasts: AtomicBool,
    /// When there was no answer last.
    last: Mutex<Option<Instant>>,
}

impl Outage {
    /// Notes that there was no answer; whether that is news.
    fn begins(&self, now: Instant) -> bool {
        *self.last.lock() = Some(now);
        !self.lasts.swap(true, Ordering::Relaxed)
    }

    /// Notes that there was an answer; whether that is news.
    fn ends(&self, now: Instant) -> bool {
        let calm = |last: Instant| now.saturating_duration_since(last) >= CALM;
        self.lasts.load(Ordering::Relaxed)
            && self.last.lock().is_none_or(calm)
            && self.lasts.swap(false, Ordering::Relaxed)
    }
}

impl Shared {
    pub(super) fn new(config: &Config, store: &Arc<Store>) -> Self {
        let name = config.name.as_deref().unwrap_or("");
        let interval = Duration::from_nanos(config.rate.interval());
        Self {
            store: Arc::clone(store),
            policy: Policy::new(&format!("{} {name}", config.per), interval, config.burst),
            away: config.when_store_is_away.unwrap_or_default(),
            outage: Outage::default(),
        }
    }

    /// Counts a request of this key, with `limit` for what is known here.
    pub(super) async fn admit(&self, limit: &Limit, key: Vec<u8>, arrived: Instant) -> Result<(), Reject> {
        if let Err(wait) = limit.peek(&key, arrived) {
            limit.note(Event::Spared);
            return Err(refused(wait));
        }
        match self.store.take(&self.policy, &key).await {
            Ok(taken) => self.heed(taken, limit, key, arrived),
            Err(why) => self.do_without(why, limit, key, arrived),
        }
    }

    fn heed(&self, taken: Taken, limit: &Limit, key: Vec<u8>, arrived: Instant) -> Result<(), Reject> {
        if self.outage.ends(arrived) {
            info!("shared rate limits are counted in the store again");
        }
        limit.learn(key, arrived, taken.whole_in());
        match taken {
            Taken::Passed { .. } => {
                limit.note(Event::Passed);
                Ok(())
            }
            Taken::Refused { wait, .. } => {
                limit.note(Event::Refused);
                Err(refused(wait))
            }
        }
    }

    fn do_without(
        &self,
        why: Unavailable,
        limit: &Limit,
        key: Vec<u8>,
        arrived: Instant,
    ) -> Result<(), Reject> {
        if self.outage.begins(arrived) {
            let (cause, instead) = (why.as_str(), self.away);
            warn!(cause, %instead, "shared rate limits cannot be counted in the store");
        }
        limit.note(Event::Away);
        match self.away {
            Away::Local => limit.admit(key, arrived).map_err(refused),
            Away::Refuse => Err(why.into()),
            Away::Allow => Ok(()),
        }
    }
}

/// Refuses who comes too early by this long.
pub(super) fn refused(wait: Duration) -> Reject {
    Reject::new(Cause::RateLimited, "rate_limited").with(Hint::RetryAfter(wait))
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "each gateway counts for itself",
            Self::Refuse => "requests are refused",
            Self::Allow => "requests pass",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_that_comes_and_goes_is_logged_once() {
        let (outage, start) = (Outage::default(), Instant::now());
        assert!(!outage.ends(start));
        assert!(outage.begins(start));
        for n in 1..20 {
            let now = start + n * (CALM / 2);
            assert!(!outage.ends(now) && !outage.begins(now), "{n}");
        }
        let calm = start + 20 * CALM;
        assert!(outage.ends(calm) && !outage.ends(calm));
        assert!(outage.begins(calm));
    }
}
