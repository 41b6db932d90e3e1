//! What the servers of one upstream have in common: the breaker, the account of repeats, who is left
//! out, and what is counted. It goes on over reloads that leave the upstream's options as they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use tracing::{info, warn};

use super::Options;
use super::breaker::{Admission, Breaker, Turn};
use super::budget::Budget;
use super::eject::Ejector;
use super::window::Befell;

/// Common to all servers of an upstream.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) options: Options,
    pub(super) counts: Arc<Counts>,
    pub(super) ejector: Option<Ejector>,
    /// How many servers there are, and how many of them fail their health checks.
    pub(super) size: AtomicUsize,
    pub(super) down: AtomicUsize,
    breaker: Option<Breaker>,
    budget: Budget,
    /// How many requests went well.
    good: AtomicU64,
    /// Times are kept as milliseconds since then.
    base: Instant,
    /// How much time a test has let pass.
    #[cfg(test)]
    pub(super) ahead: parking_lot::Mutex<std::time::Duration>,
}

/// What an upstream counts, whatever becomes of its configuration.
#[derive(Debug, Default)]
pub struct Counts {
    /// Times a server was left out.
    pub ejections: AtomicU64,
    /// Times the breaker opened, trials that failed included.
    pub breaker_openings: AtomicU64,
    /// Requests refused because the breaker was open.
    pub breaker_refusals: AtomicU64,
    /// Repeats that were made.
    pub repeats: AtomicU64,
    /// Repeats for which the account was too low.
    pub repeats_refused: AtomicU64,
    /// Health checks that went well.
    pub checks_passed: AtomicU64,
    /// Health checks that did not.
    pub checks_failed: AtomicU64,
    /// Names that were looked up.
    pub lookups: AtomicU64,
    /// Names that could not be looked up.
    pub lookups_failed: AtomicU64,
    /// Changes of servers that lookups brought.
    pub changes: AtomicU64,
}

impl Counts {
    /// Everything, by its name in metrics.
    pub fn all(&self) -> [(&'static str, u64); 10] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("ejection", of(&self.ejections)),
            ("breaker_opening", of(&self.breaker_openings)),
            ("breaker_refusal", of(&self.breaker_refusals)),
            ("repeat", of(&self.repeats)),
            ("repeat_unpaid", of(&self.repeats_refused)),
            ("check_passed", of(&self.checks_passed)),
            ("check_failed", of(&self.checks_failed)),
            ("lookup", of(&self.lookups)),
            ("lookup_failed", of(&self.lookups_failed)),
            ("address_change", of(&self.changes)),
        ]
    }
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Group {
    pub(super) fn new(name: Arc<str>, options: Options, counts: Arc<Counts>) -> Arc<Self> {
        let base = Instant::now();
        Arc::new(Self {
            name,
            counts,
            ejector: options.eject.clone().map(Ejector::new),
            size: AtomicUsize::new(0),
            down: AtomicUsize::new(0),
            breaker: options.breaker.clone().map(|breaker| Breaker::new(breaker, base)),
            budget: Budget::new(options.retries.clone(), base),
            options,
            good: AtomicU64::new(0),
            base,
            #[cfg(test)]
            ahead: parking_lot::Mutex::default(),
        })
    }

    pub(super) fn has_open_breaker(&self) -> bool {
        self.breaker.as_ref().is_some_and(Breaker::is_open)
    }

    /// Whether a request may go on to a server.
    pub(super) fn admit(&self) -> Admission {
        let admission = self.breaker.as_ref().map_or(Admission::Free, |breaker| breaker.admit(|| self.now()));
        if admission == Admission::Refused {
            count(&self.counts.breaker_refusals);
        }
        admission
    }

    /// Whether something may be tried once more; if so, it is paid for.
    pub(super) fn may_repeat(&self) -> bool {
        let is_paid = self.budget.pay(self.now(), self.good.load(Ordering::Relaxed));
        count(if is_paid { &self.counts.repeats } else { &self.counts.repeats_refused });
        is_paid
    }

    pub(super) fn good(&self, admission: Admission) {
        self.good.fetch_add(1, Ordering::Relaxed);
        if let Some(breaker) = &self.breaker {
            self.turned(breaker.good(admission));
        }
    }

    pub(super) fn bad(&self, admission: Admission, befell: Befell) {
        if let Some(breaker) = &self.breaker {
            let good = self.good.load(Ordering::Relaxed);
            self.turned(breaker.bad(self.now(), admission, befell, good));
        }
    }

    pub(super) fn undecided(&self, admission: Admission) {
        if let Some(breaker) = &self.breaker {
            breaker.undecided(admission);
        }
    }

    fn turned(&self, turn: Turn) {
        let upstream = &*self.name;
        match turn {
            Turn::None => {}
            Turn::Opened => {
                count(&self.counts.breaker_openings);
                warn!(upstream, "nearly everything fails: requests are refused until a trial goes well");
            }
            Turn::Closed => info!(upstream, "a trial went well: requests are let through again"),
        }
    }

    /// What time it is.
    #[cfg(not(test))]
    pub(super) fn now(&self) -> Instant {
        Instant::now()
    }

    #[cfg(test)]
    pub(super) fn now(&self) -> Instant {
        Instant::now() + *self.ahead.lock()
    }

    /// Milliseconds since this group was made, never 0.
    pub(super) fn millis(&self, at: Instant) -> u64 {
        let millis = at.saturating_duration_since(self.base).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1)
    }
}
