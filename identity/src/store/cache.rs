//! What was loaded, for as long as it may be served.
//!
//! A load takes a ticket before it reads and shows it when it stores: if the link changed phase or the
//! key was announced as changed in between, nothing is stored. The check is made again after storing,
//! so it does not matter which of the two came first. Announcing counts first and removes second.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::config::CacheConfig;
use super::link::Link;
use super::stats::{Counters, Stats};
use super::user::User;
use crate::key::{Keys, Tracked};
use crate::session::{Session, SessionId};
use crate::time::UnixTime;
use crate::token::OpenimToken;
use crate::user::UserId;

/// Counters of changes. Keys share them, at the price of a needless reload now and then.
const GENERATIONS: usize = 4096;

/// How many OpenIM admins are held; there are a handful.
const ADMIN_ENTRIES: usize = 1024;

/// What the cache knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known<T> {
    /// It is there.
    Present(T),
    /// It is known not to be there.
    Absent,
    /// Nothing is known.
    Nothing,
}

#[derive(Clone)]
struct Entry<V> {
    value: V,
    expires: Instant,
    phase: u64,
}

/// Proof that nothing changed since a load began.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    phase: u64,
    slot: usize,
    generation: u64,
}

pub(super) struct Caches {
    pub(super) link: Link,
    pub(super) counters: Counters,
    pub(super) keys: Keys,
    config: CacheConfig,
    hasher: RandomState,
    generations: Box<[AtomicU64]>,
    sessions: Cache<SessionId, Entry<Arc<Session>>>,
    /// Bounded on its own, so that made-up session ids push out no good entry.
    unknown_sessions: Cache<SessionId, Entry<()>>,
    users: Cache<UserId, Entry<Arc<User>>>,
    admins: Cache<UserId, Entry<Option<Arc<OpenimToken>>>>,
}

/// How many unknown session ids are remembered beside `entries` sessions.
pub(super) fn unknown_entries(entries: usize) -> usize {
    (entries / 16).clamp(64, 65_536)
}

impl Caches {
    pub(super) fn new(keys: Keys, config: CacheConfig, link: Link) -> Self {
        let entries = config.entries.max(1);
        Self {
            link,
            counters: Counters::default(),
            keys,
            hasher: RandomState::default(),
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            sessions: Cache::new(entries),
            unknown_sessions: Cache::new(unknown_entries(entries)),
            users: Cache::new(entries),
            admins: Cache::new(ADMIN_ENTRIES.min(entries)),
            config,
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let sessions = self.sessions.len() + self.unknown_sessions.len();
        self.counters.snapshot(sessions + self.users.len() + self.admins.len())
    }

    fn look<K: Eq + Hash, V: Clone>(&self, cache: &Cache<K, Entry<V>>, key: &K, now: Instant) -> Option<V> {
        let entry = cache.get(key)?;
        let good = now < entry.expires && self.link.serves(entry.phase, now);
        good.then_some(entry.value)
    }

    pub(super) fn session(&self, id: &SessionId) -> Known<Arc<Session>> {
        let now = Instant::now();
        if let Some(session) = self.look(&self.sessions, id, now) {
            return Known::Present(session);
        }
        match self.look(&self.unknown_sessions, id, now) {
            Some(()) => Known::Absent,
            None => Known::Nothing,
        }
    }

    pub(super) fn user(&self, id: &UserId) -> Option<Arc<User>> {
        self.look(&self.users, id, Instant::now())
    }

    pub(super) fn admin_token(&self, id: &UserId) -> Known<Arc<OpenimToken>> {
        match self.look(&self.admins, id, Instant::now()) {
            Some(Some(token)) => Known::Present(token),
            Some(None) => Known::Absent,
            None => Known::Nothing,
        }
    }

    /// Begins a load of `key`; `None` while changes do not reach us and nothing may be stored.
    pub(super) fn ticket(&self, key: &impl Hash) -> Option<Ticket> {
        let phase = self.link.live_phase()?;
        let slot = self.slot(key);
        Some(Ticket { phase, slot, generation: self.generations[slot].load(Ordering::SeqCst) })
    }

    fn slot(&self, key: &impl Hash) -> usize {
        // Truncation is harmless: only the low bits are wanted.
        self.hasher.hash_one(key) as usize % GENERATIONS
    }

    fn holds(&self, ticket: Ticket) -> bool {
        self.link.live_phase() == Some(ticket.phase)
            && self.generations[ticket.slot].load(Ordering::SeqCst) == ticket.generation
    }

    fn store<K: Eq + Hash + Clone, V: Clone>(
        &self,
        cache: &Cache<K, Entry<V>>,
        key: &K,
        value: V,
        ttl: Duration,
        ticket: Option<Ticket>,
    ) {
        let Some(ticket) = ticket.filter(|ticket| self.holds(*ticket)) else { return };
        let entry = Entry { value, expires: Instant::now() + ttl, phase: ticket.phase };
        cache.insert(key.clone(), entry);
        if !self.holds(ticket) {
            cache.remove(key);
        }
    }

    pub(super) fn store_session(&self, id: &SessionId, found: Option<&Arc<Session>>, ticket: Option<Ticket>) {
        match found {
            Some(session) => self.store(&self.sessions, id, Arc::clone(session), self.config.ttl, ticket),
            None => self.store(&self.unknown_sessions, id, (), self.negative_ttl(), ticket),
        }
    }

    pub(super) fn store_user(&self, id: &UserId, user: &Arc<User>, ticket: Option<Ticket>) {
        let now = UnixTime::now();
        let ttl = self.ttl_until(now, user.next_expiry(now));
        self.store(&self.users, id, Arc::clone(user), ttl, ticket);
    }

    pub(super) fn store_admin(&self, id: &UserId, token: Option<&Arc<OpenimToken>>, ticket: Option<Ticket>) {
        let now = UnixTime::now();
        let expiry = token.filter(|token| !token.expired(now)).map(|token| token.expires_at);
        self.store(&self.admins, id, token.cloned(), self.ttl_until(now, expiry), ticket);
    }

    fn negative_ttl(&self) -> Duration {
        self.config.negative_ttl.min(self.config.ttl)
    }

    /// How long tokens are held: until the first expires, briefly if none is of use.
    fn ttl_until(&self, now: UnixTime, expiry: Option<UnixTime>) -> Duration {
        expiry.map_or(self.negative_ttl(), |expiry| now.until(expiry).min(self.config.ttl))
    }

    /// Counts a hit; `negative` if the answer is that there is nothing.
    pub(super) fn count_hit(&self, negative: bool) {
        self.counters.hits.add();
        if negative {
            self.counters.negative_hits.add();
        }
    }

    fn announce(&self, key: &impl Hash) {
        self.generations[self.slot(key)].fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn forget_session(&self, id: &SessionId) {
        self.announce(id);
        self.sessions.remove(id);
        self.unknown_sessions.remove(id);
    }

    pub(super) fn forget_user(&self, id: &UserId) {
        self.announce(id);
        self.users.remove(id);
    }

    pub(super) fn forget_admin(&self, id: &UserId) {
        self.announce(id);
        self.admins.remove(id);
    }

    /// Drops what was loaded from `key`, which has changed.
    pub(super) fn changed(&self, key: &[u8]) {
        self.counters.invalidations.add();
        match self.keys.classify(key) {
            Some(Tracked::Session(id)) => self.forget_session(&id),
            Some(Tracked::User(id)) => self.forget_user(&id),
            Some(Tracked::Admin(id)) => self.forget_admin(&id),
            None => {}
        }
    }

    /// Drops everything: the store was flushed.
    pub(super) fn flushed(&self) {
        self.counters.flushes.add();
        self.link.flushed();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    const ROUNDS: usize = 2000;

    fn caches() -> Caches {
        Caches::new(Keys::default(), CacheConfig::default(), Link::embedded())
    }

    fn id() -> UserId {
        UserId::parse("u1").unwrap()
    }

    fn store(caches: &Caches, ticket: Option<Ticket>) {
        caches.store_user(&id(), &Arc::new(User::default()), ticket);
    }

    #[test]
    fn what_was_loaded_is_kept_unless_its_key_changed_meanwhile() {
        let caches = caches();
        let ticket = caches.ticket(&id());
        store(&caches, ticket);
        assert!(caches.user(&id()).is_some());
        caches.changed(b"imgate:ban:u1");
        assert!(caches.user(&id()).is_none());
        store(&caches, ticket);
        assert!(caches.user(&id()).is_none());
    }

    #[test]
    fn what_was_loaded_before_a_flush_or_without_a_live_link_is_not_kept() {
        let caches = caches();
        let ticket = caches.ticket(&id());
        caches.flushed();
        store(&caches, ticket);
        assert!(caches.user(&id()).is_none());
        caches.link.lost();
        assert!(caches.ticket(&id()).is_none());
        store(&caches, None);
        assert!(caches.user(&id()).is_none());
    }

    #[test]
    fn a_change_that_races_the_storing_leaves_nothing_behind() {
        let (caches, barrier) = (caches(), Barrier::new(2));
        let ids: Vec<UserId> = (0..256).map(|n| UserId::parse(&format!("u{n}")).unwrap()).collect();
        let user = Arc::new(User::default());
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    barrier.wait();
                    ids.iter().for_each(|id| caches.forget_user(id));
                    barrier.wait();
                }
            });
            let mut stale = 0;
            for _ in 0..ROUNDS {
                let tickets: Vec<_> = ids.iter().map(|id| caches.ticket(id)).collect();
                barrier.wait();
                // Both threads go through the same keys, so they meet at many of them.
                ids.iter().zip(tickets).for_each(|(id, ticket)| caches.store_user(id, &user, ticket));
                barrier.wait();
                stale += ids.iter().filter(|id| caches.user(id).is_some()).count();
            }
            assert_eq!(stale, 0);
        });
    }
}
