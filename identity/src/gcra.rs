//! The arithmetic of a rate: GCRA, a leaky bucket of which one number is remembered.
//!
//! That number is the moment at which the allowance is whole again. It lies in the past for whoever may
//! do all he ever may, so of him nothing need be remembered. Limits, the pace of new work and the script
//! that Redis runs reckon alike.

use std::time::Duration;

/// A moment or a length of time, in nanoseconds; since when, the caller knows.
pub type Nanos = u64;

/// A rate and a burst, as the algorithm wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gcra {
    interval: Nanos,
    tolerance: Nanos,
}

impl Gcra {
    /// Takes how far apart requests are at the full rate, and how many may come at once; at least one.
    pub fn new(interval: Nanos, burst: u32) -> Self {
        Self { interval, tolerance: interval.saturating_mul(u64::from(burst.saturating_sub(1))) }
    }

    /// How far apart requests are at the full rate.
    pub fn interval(self) -> Nanos {
        self.interval
    }

    /// How far from whole an allowance may be for another request to pass.
    pub fn tolerance(self) -> Nanos {
        self.tolerance
    }

    /// The moment at which one that comes for the first time will be whole again.
    pub fn first(self, now: Nanos) -> Nanos {
        now.saturating_add(self.interval)
    }

    /// How much too early a request comes whose allowance is whole at `whole`; 0 if it may pass.
    pub fn early(self, whole: Nanos, now: Nanos) -> Nanos {
        whole.saturating_sub(now).saturating_sub(self.tolerance)
    }

    /// Lets a request through and tells when its allowance, whole again at `whole`, is so now.
    ///
    /// Source: ITU-T I.371, annex A, the virtual scheduling algorithm.
    ///
    /// # Errors
    /// It is too early by this long.
    pub fn admit(self, whole: Nanos, now: Nanos) -> Result<Nanos, Duration> {
        match self.early(whole, now) {
            0 => Ok(self.first(whole.max(now))),
            early => Err(Duration::from_nanos(early)),
        }
    }
}
