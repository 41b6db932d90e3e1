//! The arithmetic of a limit: GCRA, a leaky bucket of which one number per key is remembered.
//!
//! That number is the moment at which the key's allowance is whole again. It lies in the past for a key
//! that may do all it ever may, so such a key need not be remembered.

use std::time::Duration;

/// A moment, in nanoseconds since the memory was made.
pub(super) type Nanos = u64;

/// A rate and a burst, as the algorithm wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gcra {
    interval: Nanos,
    tolerance: Nanos,
}

impl Gcra {
    /// Takes how far apart requests are at the full rate, and how many may come at once; at least one.
    pub(super) fn new(interval: Nanos, burst: u32) -> Self {
        Self { interval, tolerance: interval * u64::from(burst.saturating_sub(1)) }
    }

    /// The moment at which a key that comes for the first time will be whole again.
    pub(super) fn first(self, now: Nanos) -> Nanos {
        now + self.interval
    }

    /// Lets a request through and tells when its key, whole again at `whole`, is so now.
    ///
    /// Source: ITU-T I.371, annex A, the virtual scheduling algorithm.
    ///
    /// # Errors
    /// It is too early by this long.
    pub(super) fn admit(self, whole: Nanos, now: Nanos) -> Result<Nanos, Duration> {
        let due = whole.max(now);
        let early = (due - now).saturating_sub(self.tolerance);
        if early == 0 { Ok(due + self.interval) } else { Err(Duration::from_nanos(early)) }
    }
}
