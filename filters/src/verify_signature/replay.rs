//! The nonces this process has seen, none forgotten while a signature with it could still pass.
//!
//! One memory serves all chains and outlives reloads: a replay stays a replay across both.
//!
//! Two sets take turns: when the younger one is as old as a signature can be valid, the older one
//! holds only dead nonces and is dropped whole. A set is split into shards, so no lock is shared by
//! all requests.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use imgate_identity::session::SessionId;
use imgate_identity::time::UnixTime;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

/// What is known of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is new, and noted from now on.
    Never,
    /// It was noted before.
    Before,
    /// It is new, but there is no room to note it.
    Full,
}

/// A nonce under its session: half a SHA-256. Two nonces that shared one would make a good request
/// look like a replay, never the reverse.
type Fingerprint = [u8; 16];

type Set = HashSet<Fingerprint, RandomState>;

const SHARDS: usize = 64;

/// The memory of used nonces.
pub struct ReplayMemory {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    per_shard: AtomicUsize,
    generation_secs: AtomicU64,
}

#[derive(Default)]
struct Shard {
    current: Set,
    previous: Set,
    since: Option<UnixTime>,
}

impl Default for ReplayMemory {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::default(),
            per_shard: AtomicUsize::new(0),
            generation_secs: AtomicU64::new(0),
        }
    }
}

impl ReplayMemory {
    /// Makes room for `capacity` nonces of signatures that are valid `clock_skew` either way. It only
    /// ever grows: what one chain needs, a reload of another must not take away.
    pub(super) fn allow_for(&self, capacity: usize, clock_skew: Duration) {
        self.per_shard.fetch_max(capacity.div_ceil(SHARDS), Ordering::Relaxed);
        // A nonce noted at t was created no later than t + skew, so it is dead after t + 2 skew.
        // Clocks have whole seconds, hence one more.
        self.generation_secs.fetch_max(2 * clock_skew.as_secs() + 1, Ordering::Relaxed);
    }

    /// Notes a nonce, once.
    pub(crate) fn claim(&self, session: &SessionId, nonce: &str, now: UnixTime) -> Seen {
        let print = fingerprint(session, nonce);
        let mut hasher = self.hasher.build_hasher();
        hasher.write(&print);
        // The shard comes from bits the set's own hash, seeded apart, knows nothing of.
        let mut shard = self.shards[hasher.finish() as usize % SHARDS].lock();
        shard.turn(now, self.generation_secs.load(Ordering::Relaxed));
        if shard.previous.contains(&print) || shard.current.contains(&print) {
            return Seen::Before;
        }
        if shard.current.len() + shard.previous.len() >= self.per_shard.load(Ordering::Relaxed) {
            return Seen::Full;
        }
        shard.current.insert(print);
        Seen::Never
    }
}

impl Shard {
    fn turn(&mut self, now: UnixTime, generation: u64) {
        let since = *self.since.get_or_insert(now);
        let age = since.until(now).as_secs();
        if age <= generation {
            return;
        }
        // After a quiet spell both sets may hold only dead nonces.
        let current = std::mem::take(&mut self.current);
        self.previous = if age > 2 * generation { Set::default() } else { current };
        self.since = Some(now);
    }
}

fn fingerprint(session: &SessionId, nonce: &str) -> Fingerprint {
    let digest = Sha256::new().chain_update(session.as_bytes()).chain_update(nonce).finalize();
    let mut print = [0; 16];
    print.copy_from_slice(&digest[..16]);
    print
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(capacity: usize) -> ReplayMemory {
        let memory = ReplayMemory::default();
        memory.allow_for(capacity, Duration::from_secs(60));
        memory
    }

    fn session(n: u8) -> SessionId {
        SessionId::from_bytes([n; 16])
    }

    #[test]
    fn a_nonce_passes_once_per_session() {
        let seen = memory(1000);
        assert_eq!(seen.claim(&session(1), "n", UnixTime(100)), Seen::Never);
        assert_eq!(seen.claim(&session(1), "n", UnixTime(100)), Seen::Before);
        assert_eq!(seen.claim(&session(2), "n", UnixTime(100)), Seen::Never);
    }

    #[test]
    fn no_nonce_is_forgotten_while_its_signature_is_valid() {
        let seen = memory(100_000);
        for start in 0..300_u64 {
            let nonce = format!("n{start}");
            seen.claim(&session(1), &nonce, UnixTime(start));
            // Created up to 60 s ahead of our clock, so valid for up to 120 s from now.
            for earlier in start.saturating_sub(120)..start {
                let again = seen.claim(&session(1), &format!("n{earlier}"), UnixTime(start));
                assert_eq!(again, Seen::Before, "n{earlier} at {start}");
            }
        }
    }

    #[test]
    fn a_full_memory_refuses_and_recovers() {
        let seen = memory(64);
        let claims = |now: u64| {
            let nonces = (0..1000).map(|i| seen.claim(&session(1), &format!("{now}-{i}"), UnixTime(now)));
            nonces.collect::<Vec<Seen>>()
        };
        assert!(claims(0).iter().filter(|s| **s == Seen::Full).count() > 900);
        assert!(claims(1000).contains(&Seen::Never), "dead nonces make room");
    }
}
