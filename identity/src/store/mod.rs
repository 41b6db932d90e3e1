//! Where sessions, bans and tokens come from, and how they are cached.
//!
//! [`Store`] is the gateway's side: it reads. A cached answer costs no allocation and no round trip;
//! Redis announces every change, so an entry is dropped within milliseconds of it. [`Writer`] is the
//! side of the backend and of the command line. [`Memory`] stands in for Redis inside the process.
//!
//! What is promised: an answer is never a guess. If the store cannot be asked or cannot be trusted,
//! the answer is [`Unavailable`]. If the link that announces changes dies without a word, a value that
//! was changed since is served for at most the longer of 1.2 s and [`CacheConfig::stale_grace`].

mod address;
mod allowance;
mod cache;
mod config;
mod decode;
mod flight;
mod layout;
mod link;
mod lookups;
mod memory;
mod servers;
mod source;
mod stats;
mod tls;
mod unavailable;
mod user;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use tracing::error;

pub use self::address::{Address, BadAddress};
pub use self::allowance::{Policy, Taken};
pub use self::config::{BadRedisConfig, CacheConfig, Login, Proof, RedisConfig, SentinelConfig, Servers};
pub use self::layout::Layout;
pub use self::lookups::{LookupRate, Lookups};
pub use self::memory::Memory;
pub use self::servers::ServerInfo;
pub use self::stats::{Failures, Stats};
pub use self::tls::{BadTls, Tls, TlsConfig};
pub use self::unavailable::{Fault, NoMaster, Refusal, Unavailable};
pub use self::user::{Tokens, User};
pub use self::writer::{Resealed, Revocation, Rotation, WriteError, Writer};

use self::cache::{Caches, Known};
use self::flight::{Accept, Flights};
use self::link::Link;
use self::lookups::Door;
use self::servers::Fleet;
use self::source::{Redis, Source};
use crate::seal::Seals;
use crate::session::{Session, SessionId};
use crate::time::UnixTime;
use crate::token::OpenimToken;
use crate::user::UserId;

/// Whether changes reach us and misses can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// All links to the store work.
    Live,
    /// One of them does not: cached callers go on for the grace, others may be turned away.
    Down,
}

/// What became of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody used it before.
    Fresh,
    /// It was used before.
    Seen,
}

/// The gateway's view of the store: read, cached, and told of every change.
pub struct Store {
    caches: Arc<Caches>,
    source: Source,
    seals: Seals,
    door: Door,
    sessions: Flights<SessionId, Option<Arc<Session>>>,
    users: Flights<UserId, Arc<User>>,
    admins: Flights<UserId, Option<Arc<OpenimToken>>>,
    alarm: Alarm,
}

/// Lets one alarm through per second.
#[derive(Default)]
struct Alarm(AtomicU64);

impl Alarm {
    fn is_due(&self, now: UnixTime) -> bool {
        self.0.swap(now.0, Ordering::Relaxed) != now.0
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl Store {
    /// Reads from Redis. Returns at once and connects in the background, until the store is dropped.
    ///
    /// # Errors
    /// The description of Redis makes no sense.
    ///
    /// # Panics
    /// There is no tokio runtime to connect on.
    pub fn redis(
        redis: RedisConfig,
        layout: impl Into<Layout>,
        cache: CacheConfig,
    ) -> Result<Arc<Self>, BadRedisConfig> {
        let target = redis.into_target()?;
        let Layout { keys, seals } = layout.into();
        let (link, door) = (Link::new(cache.stale_grace), Door::new(&target.lookups));
        let caches = Arc::new(Caches::new(keys, cache, link));
        let require_mark = target.require_mark;
        let source = Source::Redis(Redis { fleet: Fleet::track(target, Arc::clone(&caches)), require_mark });
        Ok(Self::new(caches, source, door, seals))
    }

    /// Reads from a store inside the process.
    pub fn memory(memory: Arc<Memory>, layout: impl Into<Layout>, cache: CacheConfig) -> Arc<Self> {
        let Layout { keys, seals } = layout.into();
        let caches = Arc::new(Caches::new(keys, cache, Link::embedded()));
        memory.subscribe(&caches);
        Self::new(caches, Source::Memory(memory), Door::new(&Lookups::default()), seals)
    }

    fn new(caches: Arc<Caches>, source: Source, door: Door, seals: Seals) -> Arc<Self> {
        Arc::new(Self {
            caches,
            source,
            seals,
            door,
            sessions: Flights::new(),
            users: Flights::new(),
            admins: Flights::new(),
            alarm: Alarm::default(),
        })
    }

    /// Finds a session; `None` if the store can be trusted and has none of this name.
    ///
    /// # Errors
    /// The store cannot be asked, cannot be trusted, or holds a record that cannot be used.
    pub async fn session(&self, id: &SessionId) -> Result<Option<Arc<Session>>, Unavailable> {
        match self.caches.session(id) {
            Known::Present(session) => {
                self.caches.count_hit(false);
                Ok(Some(session))
            }
            Known::Absent => {
                self.caches.count_hit(true);
                Ok(None)
            }
            // Boxed so that a hit does not drag the state of a load along.
            Known::Nothing => Box::pin(self.miss_session(id)).await,
        }
    }

    /// Finds what is stored of a user: the ban and the tokens. They are of one moment, but for a cluster,
    /// where two servers may be asked at once.
    ///
    /// # Errors
    /// The store cannot be asked, cannot be trusted, or holds something that cannot be used.
    pub async fn user(&self, id: &UserId) -> Result<Arc<User>, Unavailable> {
        match self.caches.user(id) {
            Some(user) => {
                self.caches.count_hit(matches!(user.tokens, Tokens::None));
                Ok(user)
            }
            None => Box::pin(self.miss_user(id)).await,
        }
    }

    /// Finds the token of an OpenIM admin.
    ///
    /// # Errors
    /// The store cannot be asked, cannot be trusted, or holds something that cannot be used.
    pub async fn admin_token(&self, id: &UserId) -> Result<Option<Arc<OpenimToken>>, Unavailable> {
        match self.caches.admin_token(id) {
            Known::Present(token) => {
                self.caches.count_hit(false);
                Ok(Some(token))
            }
            Known::Absent => {
                self.caches.count_hit(true);
                Ok(None)
            }
            Known::Nothing => Box::pin(self.miss_admin(id)).await,
        }
    }

    /// Forgets what is cached of a user and reads it anew. Callers that come together share one read,
    /// never one that began before they came.
    ///
    /// # Errors
    /// As [`Store::user`].
    pub async fn reread_user(&self, id: &UserId) -> Result<Arc<User>, Unavailable> {
        self.caches.forget_user(id);
        self.users.join(id, Accept::New, self.deadline(), self.load_user(id)).await
    }

    /// Reads a user past the cache, which keeps what it has until the answer is there: for a caller who
    /// has proven nothing yet and must not take away what others are served.
    ///
    /// # Errors
    /// As [`Store::user`].
    pub async fn refresh_user(&self, id: &UserId) -> Result<Arc<User>, Unavailable> {
        self.users.join(id, Accept::New, self.deadline(), self.load_user(id)).await
    }

    /// Forgets the cached token of an OpenIM admin and reads it anew, as [`Store::reread_user`] does.
    ///
    /// # Errors
    /// As [`Store::admin_token`].
    pub async fn reread_admin_token(&self, id: &UserId) -> Result<Option<Arc<OpenimToken>>, Unavailable> {
        self.caches.forget_admin(id);
        self.admins.join(id, Accept::New, self.deadline(), self.load_admin(id)).await
    }

    /// Notes that a session used a nonce, for every gateway to see, and forgets it after `ttl`.
    ///
    /// # Errors
    /// The store cannot be asked or does not take it. Whether the nonce was noted is not known then.
    pub async fn claim_nonce(
        &self,
        session: &SessionId,
        nonce: &str,
        ttl: Duration,
    ) -> Result<Claim, Unavailable> {
        let key = self.caches.keys.nonce(session, nonce);
        let claimed = self.source.claim(&key, ttl).await.inspect_err(|why| self.caches.counters.failed(*why));
        Ok(if claimed? { Claim::Fresh } else { Claim::Seen })
    }

    /// Whether all links to the store work now.
    pub fn health(&self) -> Health {
        let live = self.caches.link.is_live(Instant::now()) && self.source.is_up();
        if live { Health::Live } else { Health::Down }
    }

    /// Tries once, on connections of its own, whether the store can be used: its servers take our
    /// credentials, answer, announce changes, and bear their marks.
    ///
    /// # Errors
    /// One of these is not so.
    pub async fn probe(&self) -> Result<(), Unavailable> {
        match &self.source {
            Source::Memory(memory) => memory.check(),
            Source::Redis(redis) => redis.fleet.probe(&self.caches.keys).await,
        }
    }

    /// Asks every server that holds records what an operator should know of it, on connections of its own;
    /// there is none for a store inside the process.
    ///
    /// # Errors
    /// It is not known which they are, or one cannot be asked.
    pub async fn examine(&self) -> Result<Vec<ServerInfo>, Unavailable> {
        match &self.source {
            Source::Memory(_) => Ok(Vec::new()),
            Source::Redis(redis) => redis.fleet.examine(&self.caches.keys).await,
        }
    }

    /// What the store did so far, for metrics.
    pub fn stats(&self) -> Stats {
        Stats { waiting: self.door.waiting() as u64, ..self.caches.stats() }
    }

    /// Why changes were not announced to us, by [`Unavailable::as_str`]: tries to link to the servers that
    /// failed, and losses of a link.
    pub fn link_faults(&self) -> BTreeMap<&'static str, u64> {
        self.caches.counters.link_faults()
    }

    async fn miss_session(&self, id: &SessionId) -> Result<Option<Arc<Session>>, Unavailable> {
        self.caches.counters.misses.add();
        let load = async {
            // Another caller may have loaded it while this one was on its way here.
            match self.caches.session(id) {
                Known::Present(session) => Ok(Some(session)),
                Known::Absent => Ok(None),
                Known::Nothing => self.load_session(id).await,
            }
        };
        self.sessions.join(id, Accept::UnderWay, self.deadline(), load).await
    }

    async fn miss_user(&self, id: &UserId) -> Result<Arc<User>, Unavailable> {
        self.caches.counters.misses.add();
        let load = async {
            match self.caches.user(id) {
                Some(user) => Ok(user),
                None => self.load_user(id).await,
            }
        };
        self.users.join(id, Accept::UnderWay, self.deadline(), load).await
    }

    async fn miss_admin(&self, id: &UserId) -> Result<Option<Arc<OpenimToken>>, Unavailable> {
        self.caches.counters.misses.add();
        let load = async {
            match self.caches.admin_token(id) {
                Known::Present(token) => Ok(Some(token)),
                Known::Absent => Ok(None),
                Known::Nothing => self.load_admin(id).await,
            }
        };
        self.admins.join(id, Accept::UnderWay, self.deadline(), load).await
    }

    async fn load_session(&self, id: &SessionId) -> Result<Option<Arc<Session>>, Unavailable> {
        let (_place, deadline) = self.begin().await?;
        let ticket = self.caches.ticket(id);
        let raw = self.source.session(&self.caches.keys, id, deadline).await;
        let open = |json: Vec<u8>| decode::session(*id, &json, &self.seals);
        let found = raw.and_then(|raw| raw.map(open).transpose());
        let found = found.inspect_err(|why| self.note("session", id, *why))?;
        self.caches.store_session(id, found.as_ref(), ticket);
        Ok(found)
    }

    async fn load_user(&self, id: &UserId) -> Result<Arc<User>, Unavailable> {
        let (_place, deadline) = self.begin().await?;
        let ticket = self.caches.ticket(id);
        let raw = self.source.user(&self.caches.keys, id, deadline).await;
        let user = raw.and_then(|raw| decode::user(id, &raw)).map(Arc::new);
        let user = user.inspect_err(|why| self.note("user", id, *why))?;
        self.caches.store_user(id, &user, ticket);
        Ok(user)
    }

    async fn load_admin(&self, id: &UserId) -> Result<Option<Arc<OpenimToken>>, Unavailable> {
        let (_place, deadline) = self.begin().await?;
        let ticket = self.caches.ticket(id);
        let raw = self.source.admin_token(&self.caches.keys, id, deadline).await;
        let found = raw.and_then(|raw| raw.map(|token| decode::admin_token(id, &token)).transpose());
        let found = found.inspect_err(|why| self.note("admin token", id, *why))?;
        self.caches.store_admin(id, found.as_ref(), ticket);
        Ok(found)
    }

    /// When a call that begins now has to be over, its turn waited for.
    fn deadline(&self) -> Instant {
        self.source.deadline() + self.door.wait()
    }

    /// Waits for the turn to read; tells when the read has to be over.
    async fn begin(&self) -> Result<(SemaphorePermit<'_>, Instant), Unavailable> {
        let place = self.door.enter(self.source.answers()).await;
        let place = place.inspect_err(|why| self.caches.counters.failed(*why))?;
        self.caches.counters.loads.add();
        Ok((place, self.source.deadline()))
    }

    /// Counts a load that failed; what is broken in the store is also reported by name.
    fn note(&self, kind: &'static str, id: &impl fmt::Display, why: Unavailable) {
        self.caches.counters.failed(why);
        // Every request for a broken record comes here; one line a second is alarm enough.
        if matches!(why, Unavailable::Broken(_)) && self.alarm.is_due(UnixTime::now()) {
            error!(kind, %id, cause = why.as_str(), "record in the store is unusable");
        }
    }
}
