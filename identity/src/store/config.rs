//! What a store is told: where Redis is, and how long to remember.

use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

use super::address::Address;
use super::lookups::Lookups;
use super::servers::Dialer;
use super::tls::{BadTls, Tls, TlsConfig};
use crate::secret::Secret;

/// Bounds of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// How many sessions, and how many users, are held at most.
    pub entries: usize,
    /// How long an entry is served at most, even if Redis announces no change.
    pub ttl: Duration,
    /// How long "no such session" and "no token" are remembered.
    pub negative_ttl: Duration,
    /// How long entries are served after the link that announces changes was last known to work.
    pub stale_grace: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(2),
            stale_grace: Duration::from_secs(10),
        }
    }
}

/// Where Redis is, who we are to it and how patient to be with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// Which servers hold the records, and how they share them.
    pub servers: Servers,
    /// Who we are to the servers that hold records; it wins over a URL.
    pub login: Login,
    /// TLS to the servers that hold records; by default what the scheme of the URL says.
    pub tls: Option<Tls>,
    /// How long a caller waits for an answer, connecting and queueing included.
    pub timeout: Duration,
    /// How long one try to connect may take, handshakes included.
    pub connect_timeout: Duration,
    /// Whether a store without its mark is distrusted.
    pub require_mark: bool,
    /// How reads are admitted.
    pub lookups: Lookups,
    /// How a new link proves that changes are announced on it.
    pub proof: Proof,
}

/// Servers that hold the records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a configuration has one")]
pub enum Servers {
    /// One, by its URL: `redis[s]://[user@]host:port/database`.
    Url(Secret<String>),
    /// One at a time, named by Redis Sentinel.
    Sentinel(SentinelConfig),
    /// A Redis Cluster, found by way of any of these nodes.
    Cluster(Vec<Address>),
}

/// A group that Redis Sentinel watches over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelConfig {
    /// The name of the group, as in `sentinel monitor`.
    pub master: String,
    /// All its sentinels: a master is taken on the word of more than half of them.
    pub sentinels: Vec<Address>,
    /// Who we are to the sentinels.
    pub login: Login,
    /// TLS to the sentinels.
    pub tls: Option<Tls>,
    /// The number of the database at the master.
    pub database: u32,
}

/// Who we are to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The ACL user; by default `default`.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret<String>>,
}

/// How a new link to a server proves that changes are announced on it, before it counts as live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// It writes a canary under every prefix and waits for the announcement.
    #[default]
    Canary,
    /// It asks `CLIENT TRACKINGINFO` what the server means to announce: for users that may not write. A
    /// proxy that swallows announcements goes unnoticed.
    Info,
}

impl RedisConfig {
    /// Describes the Redis at `url` with the default patience: 100 ms for an answer, 500 ms for a
    /// connection, the mark required.
    pub fn new(url: impl Into<String>) -> Self {
        Self::of(Servers::Url(Secret::new(url.into())))
    }

    /// Describes these servers, with the patience of [`RedisConfig::new`].
    pub fn of(servers: Servers) -> Self {
        Self {
            servers,
            login: Login::default(),
            tls: None,
            timeout: Duration::from_millis(100),
            connect_timeout: Duration::from_millis(500),
            require_mark: true,
            lookups: Lookups::default(),
            proof: Proof::Canary,
        }
    }
}

/// Why a description of Redis is refused. A URL is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRedisConfig {
    /// Not `redis[s]://[user@]host:port/database`.
    #[error("redis url is not redis[s]://[user@]host:port/database")]
    Malformed,
    /// Neither a sentinel nor a node of the cluster is named.
    #[error("no address to begin with")]
    NoAddress,
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] BadTls),
}

/// Where to begin to look for the servers.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a store has one")]
pub(super) enum Seeds {
    One(Address),
    Sentinel { master: Box<str>, sentinels: Vec<Address>, dialer: Dialer },
    Cluster(Vec<Address>),
}

/// A [`RedisConfig`] that was understood.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) seeds: Seeds,
    /// For the servers that hold records.
    pub(super) dialer: Dialer,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) require_mark: bool,
    pub(super) lookups: Lookups,
    pub(super) proof: Proof,
}

impl RedisConfig {
    pub(super) fn into_target(self) -> Result<Target, BadRedisConfig> {
        let patience = self.connect_timeout;
        let (seeds, info, tls) = match self.servers {
            Servers::Url(url) => one(url.expose())?,
            Servers::Sentinel(group) => sentinel(group, patience)?,
            Servers::Cluster(nodes) if nodes.is_empty() => return Err(BadRedisConfig::NoAddress),
            Servers::Cluster(nodes) => (Seeds::Cluster(nodes), settings(0), None),
        };
        let info = with_login(info, &self.login);
        Ok(Target {
            seeds,
            dialer: Dialer::new(info, self.tls.or(tls), patience),
            timeout: self.timeout,
            connect_timeout: patience,
            require_mark: self.require_mark,
            lookups: self.lookups,
            proof: self.proof,
        })
    }
}

type Understood = (Seeds, RedisConnectionInfo, Option<Tls>);

fn one(url: &str) -> Result<Understood, BadRedisConfig> {
    // The library reads URLs; the TLS is ours, so that there is one stack and one provider.
    let (rest, tls) = match url.split_once("://") {
        Some(("redis" | "valkey", rest)) => (rest, None),
        Some(("rediss" | "valkeys", rest)) => (rest, Some(Tls::new(TlsConfig::default()))),
        Some(_) | None => return Err(BadRedisConfig::Malformed),
    };
    let info: ConnectionInfo =
        format!("redis://{rest}").into_connection_info().map_err(|_| BadRedisConfig::Malformed)?;
    let ConnectionAddr::Tcp(host, port) = info.addr() else { return Err(BadRedisConfig::Malformed) };
    let address = Address::new(host, *port).map_err(|_| BadRedisConfig::Malformed)?;
    // Invalidations are RESP3 pushes; one protocol for all links keeps the replies alike.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok((Seeds::One(address), settings, tls.transpose()?))
}

fn sentinel(group: SentinelConfig, patience: Duration) -> Result<Understood, BadRedisConfig> {
    let SentinelConfig { master, sentinels, login, tls, database } = group;
    if sentinels.is_empty() {
        return Err(BadRedisConfig::NoAddress);
    }
    let dialer = Dialer::new(with_login(settings(0), &login), tls, patience);
    Ok((Seeds::Sentinel { master: master.into(), sentinels, dialer }, settings(database), None))
}

fn settings(database: u32) -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_db(database.into())
}

fn with_login(info: RedisConnectionInfo, login: &Login) -> RedisConnectionInfo {
    // To say what library this is would be one more permission to ask for.
    let mut info = info.set_skip_set_lib_name();
    if let Some(user) = &login.user {
        info = info.set_username(user);
    }
    if let Some(password) = &login.password {
        info = info.set_password(password.expose());
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_understood_or_refused_without_being_repeated() {
        let refused = |url: &str| RedisConfig::new(url).into_target().map(|_| ()).err();
        for good in
            ["redis://localhost:6379/1", "redis://user@127.0.0.1/", "redis://[::1]:6379", "rediss://h"]
        {
            assert_eq!(refused(good), None, "{good}");
        }
        for bad in
            ["", "localhost:6379", "http://localhost", "redis://localhost/x", "redis://:pw@", "unix:///x"]
        {
            assert_eq!(refused(bad), Some(BadRedisConfig::Malformed), "{bad}");
        }
        let none = RedisConfig::of(Servers::Cluster(Vec::new()));
        assert_eq!(none.into_target().err(), Some(BadRedisConfig::NoAddress));
    }

    #[test]
    fn debug_shows_no_password() {
        let login = Login { user: None, password: Some(Secret::new("hunter2".to_owned())) };
        let config = RedisConfig { login, ..RedisConfig::new("redis://:hunter2@localhost") };
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!format!("{:?}", config.into_target()).contains("hunter2"));
    }
}
