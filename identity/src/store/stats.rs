//! Counters of the store, cheap enough for the hot path.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Unavailable;

/// What the store did since it was made, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Lookups answered from the cache.
    pub hits: u64,
    /// Lookups the cache could not answer.
    pub misses: u64,
    /// Lookups answered "no such session" or "no token" from the cache; also among the hits.
    pub negative_hits: u64,
    /// Reads of the store; callers that wait for the same key share one.
    pub loads: u64,
    /// Reads that failed.
    pub failures: Failures,
    /// Changes announced to us.
    pub invalidations: u64,
    /// Times the whole store was flushed under us.
    pub flushes: u64,
    /// Times the link that announces changes was lost.
    pub link_losses: u64,
    /// Entries held now, those that are no longer served included.
    pub entries: u64,
    /// Lookups that wait for their turn to read the store now.
    pub waiting: u64,
}

/// Failed reads, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// There is no connection to the server that would know: see [`Unavailable::Down`],
    /// [`Unavailable::Tls`], [`Unavailable::NoMaster`].
    pub down: u64,
    /// See [`Unavailable::Deadline`].
    pub deadline: u64,
    /// See [`Unavailable::Overloaded`].
    pub overloaded: u64,
    /// See [`Unavailable::Unmarked`].
    pub unmarked: u64,
    /// See [`Unavailable::Broken`].
    pub broken: u64,
    /// See [`Unavailable::Refused`].
    pub refused: u64,
}

/// How many copies of a hot counter there are, so that cores do not fight over one cache line.
const LANES: usize = 16;

static NEXT_LANE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static LANE: usize = NEXT_LANE.fetch_add(1, Ordering::Relaxed) % LANES;
}

#[derive(Default)]
#[repr(align(128))]
struct Lane(AtomicU64);

/// A counter that many threads add to and few read.
#[derive(Default)]
pub(super) struct HotCounter([Lane; LANES]);

impl HotCounter {
    pub(super) fn add(&self) {
        self.0[LANE.with(|lane| *lane)].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|lane| lane.0.load(Ordering::Relaxed)).sum()
    }
}

#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) hits: HotCounter,
    pub(super) misses: Counter,
    pub(super) negative_hits: Counter,
    pub(super) loads: Counter,
    pub(super) invalidations: Counter,
    pub(super) flushes: Counter,
    pub(super) link_losses: Counter,
    down: Counter,
    deadline: Counter,
    overloaded: Counter,
    unmarked: Counter,
    broken: Counter,
    refused: Counter,
    /// Tries to make the link that announces changes that failed, and losses of it, by cause.
    link_faults: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    /// Counts why changes are not announced.
    pub(super) fn link_failed(&self, why: Unavailable) {
        *self.link_faults.lock().entry(why.as_str()).or_default() += 1;
    }

    pub(super) fn link_faults(&self) -> BTreeMap<&'static str, u64> {
        self.link_faults.lock().clone()
    }

    pub(super) fn failed(&self, why: Unavailable) {
        match why {
            Unavailable::Down | Unavailable::Tls | Unavailable::Silent | Unavailable::NoMaster(_) => {
                self.down.add();
            }
            Unavailable::Deadline => self.deadline.add(),
            Unavailable::Overloaded => self.overloaded.add(),
            Unavailable::Unmarked => self.unmarked.add(),
            Unavailable::Broken(_) => self.broken.add(),
            Unavailable::Refused(_) => self.refused.add(),
        }
    }

    pub(super) fn snapshot(&self, entries: usize) -> Stats {
        Stats {
            hits: self.hits.sum(),
            misses: self.misses.sum(),
            negative_hits: self.negative_hits.sum(),
            loads: self.loads.sum(),
            failures: Failures {
                down: self.down.sum(),
                deadline: self.deadline.sum(),
                overloaded: self.overloaded.sum(),
                unmarked: self.unmarked.sum(),
                broken: self.broken.sum(),
                refused: self.refused.sum(),
            },
            invalidations: self.invalidations.sum(),
            flushes: self.flushes.sum(),
            link_losses: self.link_losses.sum(),
            entries: entries as u64,
            waiting: 0,
        }
    }
}
