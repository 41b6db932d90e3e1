//! New work let in at a pace, when all of it comes at once.
//!
//! A [`Pacer`] books: whoever comes gets the next free moment and waits for it, or is refused at once if
//! that is too far off. So nobody waits in vain, and no queue is held: how many wait is bounded by the
//! pace and the patience. What is refused should come back at different times, hence [`spread`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::gcra::{Gcra, Nanos};

/// How much new work is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How far apart pieces of work begin when more of it waits.
    pub interval: Duration,
    /// How many may begin at once after a pause; at least one.
    pub burst: u32,
    /// How long one waits for its turn at most.
    pub patience: Duration,
}

/// So much work waits already that one more would wait for longer than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more work waits than can be begun in time")]
pub struct Crowded;

/// Lets work in at a [`Pace`]. Those who share one share the pace.
#[derive(Debug)]
pub struct Pacer {
    gcra: Gcra,
    patience: Nanos,
    start: Instant,
    whole: AtomicU64,
    refused: AtomicU64,
}

impl Pacer {
    /// Begins with the whole burst.
    pub fn new(pace: Pace) -> Self {
        Self {
            gcra: Gcra::new(nanos(pace.interval), pace.burst),
            patience: nanos(pace.patience),
            start: Instant::now(),
            whole: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Takes the next free moment and tells when it is. It is taken even if it is not used.
    ///
    /// # Errors
    /// It is further off than anybody waits; none is taken.
    pub fn book(&self) -> Result<Instant, Crowded> {
        let asked = Instant::now();
        let now = nanos(asked.saturating_duration_since(self.start));
        let next = |whole: Nanos| {
            let in_time = self.gcra.early(whole, now) <= self.patience;
            in_time.then(|| self.gcra.first(whole.max(now)))
        };
        let before = self.whole.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        match before {
            Ok(whole) => Ok(asked + Duration::from_nanos(self.gcra.early(whole, now))),
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Crowded)
            }
        }
    }

    /// How many were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits for its turn, which is at once unless others wait. Who is dropped while waiting leaves its
    /// moment unused.
    ///
    /// # Errors
    /// It would have to wait for longer than anybody does; this is told at once.
    pub async fn pass(&self) -> Result<(), Crowded> {
        let turn = self.book()?;
        if turn > Instant::now() {
            sleep_until(turn).await;
        }
        Ok(())
    }
}

fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A time between these two, another one each time: those who are told to come back then do not come
/// together.
pub fn spread(least: Duration, most: Duration) -> Duration {
    // Without randomness they merely come together.
    let roll = getrandom::u32().unwrap_or(u32::MAX / 2);
    least + most.saturating_sub(least).mul_f64(f64::from(roll) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Barrier;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn pacer(interval: Duration, burst: u32, patience: Duration) -> Pacer {
        Pacer::new(Pace { interval, burst, patience })
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_let_in_at_the_pace_and_the_rest_is_told_at_once() {
        let pacer = Arc::new(pacer(100 * MILLI, 5, 2000 * MILLI));
        let began = Instant::now();
        let callers = (0..100).map(|_| {
            let pacer = Arc::clone(&pacer);
            tokio::spawn(async move { (pacer.pass().await, began.elapsed().as_millis()) })
        });
        let mut came = Vec::new();
        for caller in callers.collect::<Vec<_>>() {
            came.push(caller.await.unwrap());
        }
        assert_eq!(pacer.refused(), 75);
        let refused: Vec<_> = came.iter().filter(|(passed, _)| passed.is_err()).collect();
        assert!(refused.iter().all(|(_, waited)| *waited == 0), "{refused:?}");
        let waited: Vec<u128> = came.iter().filter(|(passed, _)| passed.is_ok()).map(|(_, at)| *at).collect();
        let expected: Vec<u128> = [0; 5].into_iter().chain((1..=20).map(|turn| turn * 100)).collect();
        assert_eq!(waited, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_the_burst_is_there_again_and_no_more() {
        for pause in [99, 100, 150, 299, 300, 1_000_000] {
            let pacer = pacer(100 * MILLI, 3, Duration::ZERO);
            while pacer.pass().await.is_ok() {}
            tokio::time::advance(pause * MILLI).await;
            let passed = (0..10).filter(|_| pacer.book().is_ok()).count();
            assert_eq!(passed, (pause / 100).min(3) as usize, "after {pause} ms");
        }
    }

    #[test]
    fn threads_share_one_pace_exactly() {
        let pacer = pacer(Duration::from_secs(3600), 7, 5 * Duration::from_secs(3600));
        let barrier = Barrier::new(8);
        let booked: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        (0..50).filter(|_| pacer.book().is_ok()).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // Seven at once, five that would have to wait; a moment has passed, so not six.
        assert_eq!(booked, 12);
    }

    #[test]
    fn times_to_come_back_are_spread_over_the_whole_span() {
        let times: Vec<Duration> = (0..1000).map(|_| spread(MILLI, 5 * MILLI)).collect();
        assert!(times.iter().all(|time| (MILLI..=5 * MILLI).contains(time)));
        for quarter in 0..4 {
            let from = MILLI + quarter * MILLI;
            let count = times.iter().filter(|time| (from..from + MILLI).contains(*time)).count();
            assert!((150..350).contains(&count), "{count} in quarter {quarter}");
        }
    }
}
