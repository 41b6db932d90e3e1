//! One read per key at a time: callers that miss together share one answer.
//!
//! Reads of a key queue behind its gate and are numbered as they begin. A caller takes the answer of
//! any read that was under way when it came, or, if it must not see an older one, of any that began
//! later. When the caller that reads goes away, the next in the queue reads instead.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::Unavailable;

/// Which read may answer a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accept {
    /// One that is under way, or a new one.
    UnderWay,
    /// Only one that begins after the call.
    New,
}

type Answer<V> = Result<V, Unavailable>;

pub(super) struct Flights<K, V> {
    gates: Mutex<HashMap<K, Taken<V>>>,
}

/// A gate and how many stand at it.
struct Taken<V> {
    seats: usize,
    gate: Arc<Gate<V>>,
}

struct Gate<V> {
    begun: AtomicU64,
    ended: AtomicU64,
    /// The number and answer of the last read. Held, across the wait, by whoever reads.
    last: tokio::sync::Mutex<Option<(u64, Answer<V>)>>,
}

impl<V> Gate<V> {
    fn new() -> Self {
        Self { begun: AtomicU64::new(0), ended: AtomicU64::new(0), last: tokio::sync::Mutex::new(None) }
    }

    /// The number of the first read whose answer will do.
    fn wanted(&self, accept: Accept) -> u64 {
        let begun = self.begun.load(Ordering::SeqCst);
        let under_way = begun > self.ended.load(Ordering::SeqCst);
        // A read whose caller went away counts as under way; the one that replaces it comes later.
        if under_way && accept == Accept::UnderWay { begun } else { begun + 1 }
    }
}

/// A place at a gate. The last to leave takes the gate down.
struct Seat<'a, K: Eq + Hash, V> {
    flights: &'a Flights<K, V>,
    key: &'a K,
    gate: Arc<Gate<V>>,
}

impl<K: Eq + Hash, V> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        let mut gates = self.flights.gates.lock();
        if let Some(taken) = gates.get_mut(self.key) {
            taken.seats -= 1;
            if taken.seats == 0 {
                gates.remove(self.key);
            }
        }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    pub(super) fn new() -> Self {
        Self { gates: Mutex::new(HashMap::new()) }
    }

    /// Waits for a read of `key` that others began, or runs `load`, which keeps the deadline itself.
    pub(super) async fn join(
        &self,
        key: &K,
        accept: Accept,
        deadline: Instant,
        load: impl Future<Output = Answer<V>>,
    ) -> Answer<V> {
        let seat = self.seat(key);
        take_or_read(&seat.gate, accept, deadline, load).await
    }

    fn seat<'a>(&'a self, key: &'a K) -> Seat<'a, K, V> {
        let mut gates = self.gates.lock();
        let taken =
            gates.entry(key.clone()).or_insert_with(|| Taken { seats: 0, gate: Arc::new(Gate::new()) });
        taken.seats += 1;
        Seat { flights: self, key, gate: Arc::clone(&taken.gate) }
    }
}

async fn take_or_read<V: Clone>(
    gate: &Gate<V>,
    accept: Accept,
    deadline: Instant,
    load: impl Future<Output = Answer<V>>,
) -> Answer<V> {
    let wanted = gate.wanted(accept);
    let Ok(mut last) = timeout_at(deadline, gate.last.lock()).await else {
        return Err(Unavailable::Deadline);
    };
    if let Some((number, answer)) = &*last
        && *number >= wanted
    {
        return answer.clone();
    }
    let number = gate.begun.fetch_add(1, Ordering::SeqCst) + 1;
    let answer = load.await;
    gate.ended.store(number, Ordering::SeqCst);
    *last = Some((number, answer.clone()));
    answer
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    type Shared = Arc<Flights<u8, u32>>;

    fn deadline() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// A caller whose read, if it comes to one, answers what is sent.
    fn caller(flights: &Shared, accept: Accept) -> (JoinHandle<Answer<u32>>, oneshot::Sender<u32>) {
        let (answer, read) = oneshot::channel();
        let flights = Arc::clone(flights);
        let load = async move { read.await.map_err(|_| Unavailable::Down) };
        (tokio::spawn(async move { flights.join(&1, accept, deadline(), load).await }), answer)
    }

    /// Lets every task run until it waits.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn callers_that_miss_together_share_one_read() {
        let flights = Shared::new(Flights::new());
        let (first, answer) = caller(&flights, Accept::UnderWay);
        settle().await;
        let others: Vec<_> = (0..100).map(|_| caller(&flights, Accept::UnderWay)).collect();
        settle().await;
        answer.send(7).unwrap();
        assert_eq!(first.await.unwrap(), Ok(7));
        for (other, unused) in others {
            assert_eq!(other.await.unwrap(), Ok(7));
            assert!(unused.is_closed());
        }
        assert!(flights.gates.lock().is_empty());
    }

    #[tokio::test]
    async fn a_reread_takes_no_answer_of_an_earlier_read_and_shares_a_later_one() {
        let flights = Shared::new(Flights::new());
        let (old, old_answer) = caller(&flights, Accept::UnderWay);
        settle().await;
        let (reread, new_answer) = caller(&flights, Accept::New);
        let (second, unused) = caller(&flights, Accept::New);
        settle().await;
        old_answer.send(1).unwrap();
        new_answer.send(2).unwrap();
        assert_eq!(old.await.unwrap(), Ok(1));
        assert_eq!(reread.await.unwrap(), Ok(2));
        assert_eq!(second.await.unwrap(), Ok(2));
        assert!(unused.is_closed());
    }

    #[tokio::test]
    async fn when_the_reader_goes_away_the_next_caller_reads() {
        let flights = Shared::new(Flights::new());
        let (first, _unanswered) = caller(&flights, Accept::UnderWay);
        settle().await;
        let (second, answer) = caller(&flights, Accept::UnderWay);
        let (third, _unused) = caller(&flights, Accept::UnderWay);
        settle().await;
        first.abort();
        answer.send(3).unwrap();
        assert_eq!(second.await.unwrap(), Ok(3));
        assert_eq!(third.await.unwrap(), Ok(3));
        assert!(flights.gates.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_waits_too_long_gives_up() {
        let flights = Shared::new(Flights::new());
        let (_first, _unanswered) = caller(&flights, Accept::UnderWay);
        settle().await;
        let (second, _unused) = caller(&flights, Accept::UnderWay);
        assert_eq!(second.await.unwrap(), Err(Unavailable::Deadline));
    }

    #[tokio::test]
    async fn an_answer_is_not_kept_for_those_who_come_later() {
        let flights = Shared::new(Flights::new());
        let (first, answer) = caller(&flights, Accept::UnderWay);
        answer.send(1).unwrap();
        assert_eq!(first.await.unwrap(), Ok(1));
        let (second, answer) = caller(&flights, Accept::UnderWay);
        answer.send(2).unwrap();
        assert_eq!(second.await.unwrap(), Ok(2));
    }
}
