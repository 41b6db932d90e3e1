//! Stops asking an upstream of which nearly everything fails.
//!
//! While it is open, requests are refused at once instead of piling up behind timeouts. After a pause
//! one request goes through on trial: if it goes well all do, if not the pause doubles. Closed, the
//! breaker costs one read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::window::{Befell, Threshold, Window};

/// When it opens, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which failures open it.
    pub threshold: Threshold,
    /// How long it stays open before a first trial.
    pub pause: Duration,
    /// The longest it stays open between two trials.
    pub longest_pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let threshold = Threshold { failures: 20, users: 3, share: 80, within: Duration::from_secs(10) };
        Self { threshold, pause: Duration::from_secs(1), longest_pause: Duration::from_secs(5) }
    }
}

/// The breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    options: Options,
    is_open: AtomicBool,
    window: Window,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    on_trial: bool,
}

/// Whether a request may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may, like all others.
    Free,
    /// It may, and what becomes of it decides about the others.
    Trial,
    /// It may not.
    Refused,
}

/// What a request's end did to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    None,
    /// It opened, or stays open after a trial.
    Opened,
    /// It closed.
    Closed,
}

impl Breaker {
    pub(super) fn new(options: Options, now: Instant) -> Self {
        let open = Open { until: now, pause: options.pause, on_trial: false };
        Self { options, is_open: AtomicBool::new(false), window: Window::default(), open: Mutex::new(open) }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Whether a request may go on; what time it is, is asked only if it matters.
    pub(super) fn admit(&self, now: impl FnOnce() -> Instant) -> Admission {
        if !self.is_open() {
            return Admission::Free;
        }
        let mut open = self.open.lock();
        if !self.is_open() {
            return Admission::Free;
        }
        if open.on_trial || now() < open.until {
            return Admission::Refused;
        }
        open.on_trial = true;
        Admission::Trial
    }

    /// Notes that a request went well.
    pub(super) fn good(&self, admission: Admission) -> Turn {
        if admission != Admission::Trial {
            return Turn::None;
        }
        let mut open = self.open.lock();
        open.on_trial = false;
        open.pause = self.options.pause;
        self.window.clear();
        self.is_open.store(false, Ordering::Relaxed);
        Turn::Closed
    }

    /// Notes that a request failed, after so many in all that went well.
    pub(super) fn bad(&self, now: Instant, admission: Admission, befell: Befell, good: u64) -> Turn {
        if admission == Admission::Trial {
            return self.fail_trial(now);
        }
        // What was under way when it opened tells nothing new.
        if self.is_open() || !self.window.failed(now, befell, good, &self.options.threshold) {
            return Turn::None;
        }
        let mut open = self.open.lock();
        *open = Open { until: now + self.options.pause, pause: self.options.pause, on_trial: false };
        self.is_open.store(true, Ordering::Relaxed);
        Turn::Opened
    }

    fn fail_trial(&self, now: Instant) -> Turn {
        let mut open = self.open.lock();
        let pause = (open.pause * 2).min(self.options.longest_pause);
        *open = Open { until: now + pause, pause, on_trial: false };
        Turn::Opened
    }

    /// Notes that a trial ended without telling anything.
    pub(super) fn undecided(&self, admission: Admission) {
        if admission == Admission::Trial {
            self.open.lock().on_trial = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::new(Options::default(), now);
        let turns: Vec<Turn> =
            (0..20).map(|n| breaker.bad(now, Admission::Free, Befell::Caller(n), 0)).collect();
        assert!(turns[..19].iter().all(|turn| *turn == Turn::None));
        assert_eq!(turns[19], Turn::Opened);
        breaker
    }

    #[test]
    fn after_a_pause_one_request_decides_for_all() {
        let now = Instant::now();
        let breaker = opened(now);
        assert_eq!(breaker.admit(|| now), Admission::Refused);
        let admit = || breaker.admit(|| now + Duration::from_secs(1));
        assert_eq!([admit(), admit()], [Admission::Trial, Admission::Refused]);
        assert_eq!(breaker.good(Admission::Free), Turn::None, "one from before tells nothing new");
        assert!(breaker.is_open());
        assert_eq!(breaker.good(Admission::Trial), Turn::Closed);
        assert_eq!(admit(), Admission::Free);
    }

    #[test]
    fn each_trial_that_fails_doubles_the_pause_up_to_a_bound() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for pause in [1, 2, 4, 5, 5] {
            now += Duration::from_millis(pause * 1000 - 1);
            assert_eq!(breaker.admit(|| now), Admission::Refused, "{pause}");
            now += Duration::from_millis(1);
            assert_eq!(breaker.admit(|| now), Admission::Trial, "{pause}");
            assert_eq!(breaker.bad(now, Admission::Trial, Befell::Caller(1), 0), Turn::Opened);
        }
    }

    #[test]
    fn a_trial_that_is_given_up_leaves_room_for_another() {
        let now = Instant::now();
        let breaker = opened(now);
        let admit = || breaker.admit(|| now + Duration::from_secs(1));
        assert_eq!(admit(), Admission::Trial);
        breaker.undecided(Admission::Trial);
        assert_eq!(admit(), Admission::Trial);
    }

    #[test]
    fn it_stays_closed_while_a_fair_share_goes_well() {
        let now = Instant::now();
        let breaker = Breaker::new(Options::default(), now);
        // Two of three fail, which is below four of five.
        let fail = |n: u64| breaker.bad(now, Admission::Free, Befell::Caller(n), n / 2);
        assert!((0..1000).all(|n| fail(n) == Turn::None));
    }
}
