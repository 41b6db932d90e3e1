//! Failures within a stretch of time, beside what went well.
//!
//! What goes well costs nothing here: whoever owns a window counts it anyway and hands the count over
//! when something fails. Failures of one caller alone never add up to a verdict, so a request that
//! breaks any server cannot be used to have all of them taken out.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The most callers that are told apart in one window.
const MAX_CALLERS: usize = 64;

/// When failures are too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// How many there are at least.
    pub failures: u32,
    /// How many callers they befell at least.
    pub users: usize,
    /// Their share of all requests at least, in percent.
    pub share: u8,
    /// The stretch of time that is looked at.
    pub within: Duration,
}

/// Whom a failure befell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Befell {
    /// This caller's request; it may have been the request's own fault.
    Caller(u64),
    /// A connection before any request was on it: no caller has a part in that.
    Nobody,
}

/// The failures of the present stretch of time.
#[derive(Debug, Default)]
pub(super) struct Window(Mutex<Option<Stretch>>);

#[derive(Debug)]
struct Stretch {
    began: Instant,
    /// How much had gone well before it.
    good_before: u64,
    failures: u32,
    callers: HashSet<u64>,
    /// Failures that no caller has a part in.
    nobodys: usize,
}

impl Window {
    /// Notes a failure, after so many requests in all that went well. Says whether failures are too
    /// many now; then counting starts anew.
    pub(super) fn failed(&self, now: Instant, befell: Befell, good: u64, threshold: &Threshold) -> bool {
        let mut current = self.0.lock();
        let is_over = |stretch: &Stretch| now.duration_since(stretch.began) > threshold.within;
        if current.as_ref().is_some_and(is_over) {
            *current = None;
        }
        let stretch = current.get_or_insert_with(|| Stretch::begin(now, good));
        stretch.add(befell);
        let is_too_much = stretch.exceeds(good, threshold);
        if is_too_much {
            *current = None;
        }
        is_too_much
    }

    /// Forgets what failed so far.
    pub(super) fn clear(&self) {
        *self.0.lock() = None;
    }
}

impl Stretch {
    fn begin(now: Instant, good_before: u64) -> Self {
        Self { began: now, good_before, failures: 0, callers: HashSet::new(), nobodys: 0 }
    }

    fn add(&mut self, befell: Befell) {
        self.failures = self.failures.saturating_add(1);
        match befell {
            Befell::Nobody => self.nobodys += 1,
            Befell::Caller(caller) if self.callers.len() < MAX_CALLERS => {
                self.callers.insert(caller);
            }
            Befell::Caller(_) => {}
        }
    }

    fn exceeds(&self, good: u64, threshold: &Threshold) -> bool {
        let failures = u64::from(self.failures);
        let all = failures + good.saturating_sub(self.good_before);
        self.failures >= threshold.failures
            && self.callers.len() + self.nobodys >= threshold.users
            && failures * 100 >= all * u64::from(threshold.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold() -> Threshold {
        Threshold { failures: 4, users: 2, share: 50, within: Duration::from_secs(10) }
    }

    #[test]
    fn one_caller_alone_never_makes_too_many_failures() {
        let (window, now) = (Window::default(), Instant::now());
        let fail = |caller| window.failed(now, Befell::Caller(caller), 0, &threshold());
        assert!((0..100).all(|_| !fail(1)));
        assert!(fail(2));
        assert!(!fail(2), "counting started anew");
    }

    #[test]
    fn connections_that_do_not_open_are_nobodys_fault() {
        let (window, now) = (Window::default(), Instant::now());
        let said: Vec<bool> = (0..4).map(|_| window.failed(now, Befell::Nobody, 0, &threshold())).collect();
        assert_eq!(said, [false, false, false, true]);
    }

    #[test]
    fn failures_count_beside_what_went_well_and_only_for_a_while() {
        let (window, now) = (Window::default(), Instant::now());
        let later = now + Duration::from_secs(11);
        let fail_at = |at, n: u64, good: u64| window.failed(at, Befell::Caller(n), good, &threshold());
        let fail = |n, good| fail_at(now, n, good);
        // 1,000 went well before the first failure, and do not count; five since then do.
        let said: Vec<bool> = (1000..1006).map(|good| fail(good, good)).collect();
        assert_eq!(said, [false, false, false, true, false, false]);
        window.clear();
        assert!((0..4).all(|n| !fail(n, 1000 + 10 * n)));
        assert!((0..3).all(|n| !fail_at(later, n, 2000)), "what failed long ago is forgotten");
        assert!(fail_at(later, 3, 2000));
    }
}
