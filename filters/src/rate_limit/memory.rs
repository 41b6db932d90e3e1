//! What is left of each key's allowance, exact and bounded.
//!
//! One memory outlives reloads: a limit that says the same as before goes on with its counts, one that
//! nobody names any more is dropped with the last request that was under it. A limit is split into
//! shards, so no lock is shared by all requests. A key whose allowance is whole again tells nothing and
//! is dropped: whoever adds a key looks at a few others, so there is no sweep that anybody waits for.
//! When a limit is full of keys that do tell something, none is forgotten; strangers share one
//! allowance instead.
//!
//! A key takes about 45 bytes and the bytes it is made of; a million of addresses takes 50 MB.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use imgate_identity::gcra::{Gcra, Nanos};
use indexmap::IndexMap;
use indexmap::map::raw_entry_v1::{RawEntryApiV1 as _, RawEntryMut};
use parking_lot::{Mutex, MutexGuard};

use super::Config;

/// How many keys all limits together hold that do not say how many they may.
pub const MAX_KEYS: usize = 1_000_000;

/// How many shards a limit has at most.
const MAX_SHARDS: usize = 300;

/// How many keys a shard is meant for: few enough to be moved to a larger table in well under a
/// millisecond, enough for each shard to hold some that can be dropped if any can, and not quite the
/// 3,584 for which a table of 4,096 places is doubled.
const PER_SHARD: usize = 3400;

/// How many keys are looked at whenever one is added. With more than one, dropping is faster than
/// adding.
const SWEEP: usize = 8;

/// The limits in force and what is left under each.
pub struct RateMemory {
    start: Instant,
    limits: Mutex<HashMap<Config, Weak<Limit>>>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    /// How many limits share [`MAX_KEYS`].
    sharing: AtomicUsize,
    overflows: AtomicU64,
    shared: [AtomicU64; 4],
}

/// What became of a request under a limit that gateways share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The store let it pass.
    Passed,
    /// The store refused it.
    Refused,
    /// It was refused without asking.
    Spared,
    /// The store could not be asked.
    Away,
}

/// What became of requests under limits that gateways share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedCounts {
    /// Those that the store let pass.
    pub passed: u64,
    /// Those that the store refused.
    pub refused: u64,
    /// Those refused without asking the store, which had said enough before.
    pub spared: u64,
    /// Those for which the store could not be asked.
    pub away: u64,
}

impl Default for RateMemory {
    fn default() -> Self {
        Self { start: Instant::now(), limits: Mutex::default(), tally: Arc::default() }
    }
}

impl RateMemory {
    /// Finds the limit of this policy, or begins it.
    pub(super) fn open(&self, policy: &Config) -> Arc<Limit> {
        let mut limits = self.limits.lock();
        limits.retain(|_, limit| limit.strong_count() > 0);
        if let Some(limit) = limits.get(policy).and_then(Weak::upgrade) {
            return limit;
        }
        let limit = Arc::new(Limit::new(policy, self.start, Arc::clone(&self.tally)));
        limits.insert(policy.clone(), Arc::downgrade(&limit));
        limit
    }

    /// How many keys are held, under all limits.
    pub fn keys(&self) -> usize {
        let limits = self.limits.lock();
        limits.values().filter_map(Weak::upgrade).map(|limit| limit.len.load(Ordering::Relaxed)).sum()
    }

    /// How often a stranger was counted together with others because a limit was full.
    pub fn overflows(&self) -> u64 {
        self.tally.overflows.load(Ordering::Relaxed)
    }

    /// What became of requests under limits that gateways share.
    pub fn shared(&self) -> SharedCounts {
        let count = |event: Event| self.tally.shared[event as usize].load(Ordering::Relaxed);
        SharedCounts {
            passed: count(Event::Passed),
            refused: count(Event::Refused),
            spared: count(Event::Spared),
            away: count(Event::Away),
        }
    }
}

/// What is left under one limit.
pub(super) struct Limit {
    gcra: Gcra,
    start: Instant,
    max_keys: Option<usize>,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    len: AtomicUsize,
    strangers: Mutex<Strangers>,
    tally: Arc<Tally>,
}

/// Some of the keys. Hashes are made outside, with the limit's own seed.
#[derive(Default)]
struct Shard {
    keys: IndexMap<Box<[u8]>, Nanos, ()>,
    latest: Nanos,
    hand: usize,
}

/// The allowance of all for whom there is no room.
#[derive(Default)]
struct Strangers {
    whole: Nanos,
    latest: Nanos,
}

impl Limit {
    fn new(policy: &Config, start: Instant, tally: Arc<Tally>) -> Self {
        tally.sharing.fetch_add(usize::from(policy.max_keys.is_none()), Ordering::Relaxed);
        let shards = policy.max_keys.unwrap_or(MAX_KEYS).div_ceil(PER_SHARD).clamp(1, MAX_SHARDS);
        Self {
            gcra: policy.gcra(),
            start,
            max_keys: policy.max_keys,
            hasher: RandomState::new(),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            len: AtomicUsize::new(0),
            strangers: Mutex::default(),
            tally,
        }
    }

    /// Counts a request of this key.
    ///
    /// # Errors
    /// It is too early by this long.
    pub(super) fn admit(&self, key: Vec<u8>, arrived: Instant) -> Result<(), Duration> {
        let now = self.since_start(arrived);
        let (hash, mut shard) = self.shard(&key);
        let now = catch_up(&mut shard.latest, now);
        if let RawEntryMut::Occupied(mut entry) = shard.entry(hash, &key) {
            *entry.get_mut() = self.gcra.admit(*entry.get(), now)?;
            return Ok(());
        }
        if !self.make_room(&mut shard, now) {
            drop(shard);
            return self.admit_stranger(now);
        }
        shard.insert(hash, key, self.gcra.first(now));
        Ok(())
    }

    /// Looks whether a request of this key could pass, and counts none.
    ///
    /// # Errors
    /// It is too early by this long.
    pub(super) fn peek(&self, key: &[u8], arrived: Instant) -> Result<(), Duration> {
        let now = self.since_start(arrived);
        let (hash, mut shard) = self.shard(key);
        let now = now.max(shard.latest);
        let RawEntryMut::Occupied(entry) = shard.entry(hash, key) else { return Ok(()) };
        match self.gcra.early(*entry.get(), now) {
            0 => Ok(()),
            early => Err(Duration::from_nanos(early)),
        }
    }

    /// Takes over from whoever counts this key for all that it is whole again so long after `arrived`, if
    /// that is later than what is known here. Without room it stays unknown.
    pub(super) fn learn(&self, key: Vec<u8>, arrived: Instant, whole_in: Duration) {
        let now = self.since_start(arrived);
        let whole = now.saturating_add(u64::try_from(whole_in.as_nanos()).unwrap_or(u64::MAX));
        let (hash, mut shard) = self.shard(&key);
        let now = catch_up(&mut shard.latest, now);
        if let RawEntryMut::Occupied(mut entry) = shard.entry(hash, &key) {
            *entry.get_mut() = whole.max(*entry.get());
        } else if self.make_room(&mut shard, now) {
            shard.insert(hash, key, whole);
        }
    }

    /// Notes what became of a request that is counted elsewhere.
    pub(super) fn note(&self, event: Event) {
        self.tally.shared[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn shard(&self, key: &[u8]) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.hasher.hash_one(key);
        // A table sorts by the lowest and the highest bits of a hash; these are of no use to it.
        (hash, self.shards[(hash >> 32) as usize % self.shards.len()].lock())
    }

    fn make_room(&self, shard: &mut Shard, now: Nanos) -> bool {
        self.len.fetch_sub(shard.sweep(now), Ordering::Relaxed);
        self.take_room()
    }

    fn admit_stranger(&self, now: Nanos) -> Result<(), Duration> {
        self.tally.overflows.fetch_add(1, Ordering::Relaxed);
        let mut strangers = self.strangers.lock();
        let now = catch_up(&mut strangers.latest, now);
        strangers.whole = self.gcra.admit(strangers.whole, now)?;
        Ok(())
    }

    fn take_room(&self) -> bool {
        let max = self.max_keys();
        let take = |len: usize| (len < max).then_some(len + 1);
        self.len.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// How many keys there may be.
    pub(super) fn max_keys(&self) -> usize {
        let share = || MAX_KEYS / self.tally.sharing.load(Ordering::Relaxed).max(1);
        self.max_keys.unwrap_or_else(share)
    }

    fn since_start(&self, arrived: Instant) -> Nanos {
        // It would take 292 years to get there.
        u64::try_from(arrived.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.tally.sharing.fetch_sub(usize::from(self.max_keys.is_none()), Ordering::Relaxed);
    }
}

impl Shard {
    fn entry(&mut self, hash: u64, key: &[u8]) -> RawEntryMut<'_, Box<[u8]>, Nanos, ()> {
        self.keys.raw_entry_mut_v1().from_key_hashed_nocheck(hash, key)
    }

    fn insert(&mut self, hash: u64, key: Vec<u8>, whole: Nanos) {
        if let RawEntryMut::Vacant(entry) = self.entry(hash, &key) {
            entry.insert_hashed_nocheck(hash, key.into(), whole);
        }
    }

    /// Drops those of the next few keys that are whole again, and tells how many.
    fn sweep(&mut self, now: Nanos) -> usize {
        let mut dropped = 0;
        for _ in 0..SWEEP.min(self.keys.len()) {
            if self.hand >= self.keys.len() {
                self.hand = 0;
            }
            if self.keys[self.hand] <= now {
                self.keys.swap_remove_index(self.hand);
                dropped += 1;
            } else {
                self.hand += 1;
            }
        }
        dropped
    }
}

/// Requests are not decided in the order in which they arrived: a body may have been waited for. Time
/// never goes back, or a key could be dropped as whole and be asked for as of a moment when it was not.
fn catch_up(latest: &mut Nanos, now: Nanos) -> Nanos {
    *latest = now.max(*latest);
    *latest
}
