//! Who may read the store now: after a restart or a flush, everybody comes at once and nobody is cached.
//!
//! So many reads are under way at once and, if that is bounded, so many begin in a second. Others wait
//! for their turn, not for ever and not in any number; who is turned away is told to come back. Callers
//! that are cached never come here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Unavailable;
use crate::pace::{Pace, Pacer};

/// How reads of the store are admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookups {
    /// How many may be under way at once; at least one.
    pub concurrent: usize,
    /// How many may wait for their turn.
    pub queue: usize,
    /// How long one waits for its turn at most.
    pub wait: Duration,
    /// How many may begin, if that is bounded.
    pub rate: Option<LookupRate>,
}

/// How many reads may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupRate {
    /// How far apart they begin when more of them wait.
    pub interval: Duration,
    /// How many may begin at once after a pause; at least one.
    pub burst: u32,
}

impl Default for Lookups {
    fn default() -> Self {
        Self { concurrent: 1024, queue: 16_384, wait: Duration::from_secs(1), rate: None }
    }
}

impl Lookups {
    /// Nobody is booked a turn that the queue has no room for.
    fn pace(&self) -> Option<Pace> {
        let LookupRate { interval, burst } = self.rate?;
        let room = u32::try_from(self.queue).unwrap_or(u32::MAX);
        Some(Pace { interval, burst, patience: self.wait.min(interval.saturating_mul(room)) })
    }
}

/// The door to the store.
pub(super) struct Door {
    pacer: Option<Pacer>,
    places: Semaphore,
    queue: usize,
    waiting: AtomicUsize,
    wait: Duration,
}

/// One more that waits, for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize, room: usize) -> Result<Self, Unavailable> {
        let waiting = Self(count);
        match count.fetch_add(1, Ordering::Relaxed) {
            before if before < room => Ok(waiting),
            _ => Err(Unavailable::Overloaded),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    pub(super) fn new(lookups: &Lookups) -> Self {
        Self {
            pacer: lookups.pace().map(Pacer::new),
            places: Semaphore::new(lookups.concurrent.clamp(1, Semaphore::MAX_PERMITS)),
            queue: lookups.queue,
            waiting: AtomicUsize::new(0),
            wait: lookups.wait,
        }
    }

    /// How long one waits here at most.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// How many wait now.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for its turn, and for a place, which is free again when the permit is dropped. A store that
    /// is away needs no pace: it answers nobody, and that at once.
    pub(super) async fn enter(&self, store_is_up: bool) -> Result<SemaphorePermit<'_>, Unavailable> {
        let now = Instant::now();
        let turn = match &self.pacer {
            Some(pacer) if store_is_up => pacer.book().map_err(|_| Unavailable::Overloaded)?,
            _ => now,
        };
        if turn <= now
            && let Ok(place) = self.places.try_acquire()
        {
            return Ok(place);
        }
        let _waiting = Waiting::new(&self.waiting, self.queue)?;
        if turn > now {
            sleep_until(turn).await;
        }
        match timeout_at(now + self.wait, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Unavailable::Overloaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::yield_now;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn door(concurrent: usize, queue: usize, per_second: Option<u32>) -> Arc<Door> {
        let rate = per_second.map(|n| LookupRate { interval: SECOND / n, burst: 1 });
        Arc::new(Door::new(&Lookups { concurrent, queue, wait: SECOND, rate }))
    }

    /// Lets this many in at once, each to stay for as long; tells how many were, and how long it took.
    async fn storm(door: &Arc<Door>, callers: u32, stay: Duration, up: bool) -> (usize, Duration) {
        let began = Instant::now();
        let callers = (0..callers).map(|_| {
            let door = Arc::clone(door);
            tokio::spawn(async move {
                let place = door.enter(up).await?;
                tokio::time::sleep(stay).await;
                drop(place);
                Ok::<_, Unavailable>(())
            })
        });
        let mut entered = 0;
        for caller in callers.collect::<Vec<_>>() {
            match caller.await.unwrap() {
                Ok(()) => entered += 1,
                Err(why) => assert_eq!(why, Unavailable::Overloaded),
            }
        }
        assert_eq!((door.waiting(), door.places.available_permits()), (0, door.places.available_permits()));
        (entered, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_inside_and_so_many_wait() {
        assert_eq!(storm(&door(10, 20, None), 100, SECOND / 4, true).await, (30, SECOND * 3 / 4));
        assert_eq!(storm(&door(10, 0, None), 100, SECOND, true).await, (10, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_he_may() {
        let door = door(1, 100, None);
        let (entered, took) = storm(&door, 50, SECOND * 3, true).await;
        assert_eq!((entered, took), (1, SECOND * 3));
        assert_eq!(storm(&door, 1, SECOND, true).await, (1, SECOND), "those who left take no place");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_comes_back_is_not_run_over() {
        // One at once and ten that wait a second at most; places are no matter.
        assert_eq!(storm(&door(1000, 1000, Some(10)), 500, Duration::ZERO, true).await.0, 11);
        // The queue has room for four.
        assert_eq!(storm(&door(1000, 4, Some(10)), 500, Duration::ZERO, true).await.0, 5);
        // Without a store to spare there is no pace to keep.
        let (entered, took) = storm(&door(1000, 1000, Some(10)), 500, Duration::ZERO, false).await;
        assert!(entered == 500 && took < SECOND / 10, "{entered} in {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_his_place_in_the_queue() {
        let door = door(1, 1, None);
        let inside = door.enter(true).await.unwrap();
        let queued = |door: &Arc<Door>| {
            let door = Arc::clone(door);
            tokio::spawn(async move { door.enter(true).await.map(drop) })
        };
        let waiting = queued(&door);
        yield_now().await;
        assert_eq!((door.waiting(), door.enter(true).await.map(drop)), (1, Err(Unavailable::Overloaded)));
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!(door.waiting(), 0);
        let next = queued(&door);
        yield_now().await;
        drop(inside);
        assert_eq!(next.await.unwrap(), Ok(()));
    }
}
