//! What a store is told: where Redis is, and how long to remember.

use std::fmt;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use super::lookups::Lookups;
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

/// Where Redis is and how patient to be with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// `redis://[user@]host:port/db`.
    pub url: Secret<String>,
    /// The password; it wins over one in the URL.
    pub password: Option<Secret<String>>,
    /// How long a caller waits for an answer, connecting and queueing included.
    pub timeout: Duration,
    /// How long one try to connect may take, handshake included.
    pub connect_timeout: Duration,
    /// Whether a store without its mark is distrusted.
    pub require_mark: bool,
    /// How reads are admitted.
    pub lookups: Lookups,
}

impl RedisConfig {
    /// Describes the Redis at `url` with the default patience: 100 ms for an answer, 500 ms for a
    /// connection, the mark required.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: Secret::new(url.into()),
            password: None,
            timeout: Duration::from_millis(100),
            connect_timeout: Duration::from_millis(500),
            require_mark: true,
            lookups: Lookups::default(),
        }
    }
}

/// Why a Redis URL is refused. The URL is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRedisUrl {
    /// A scheme that asks for TLS, which this build does not speak to Redis.
    #[error("redis url asks for TLS, which this build does not speak to Redis")]
    Tls,
    /// Not `redis://[user@]host:port/db`.
    #[error("redis url is not redis://[user@]host:port/db")]
    Malformed,
}

/// A [`RedisConfig`] that was understood.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) require_mark: bool,
    pub(super) lookups: Lookups,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl RedisConfig {
    pub(super) fn into_target(self) -> Result<Target, BadRedisUrl> {
        let url = self.url.expose().as_str();
        if url.starts_with("rediss:") || url.starts_with("valkeys:") {
            return Err(BadRedisUrl::Tls);
        }
        let info: ConnectionInfo = url.into_connection_info().map_err(|_| BadRedisUrl::Malformed)?;
        // Invalidations are RESP3 pushes; one protocol for both links keeps the replies alike.
        let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose());
        }
        let info =
            info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Target {
            client: Client::open(info).map_err(|_| BadRedisUrl::Malformed)?,
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            require_mark: self.require_mark,
            lookups: self.lookups,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_understood_or_refused_without_being_repeated() {
        let refused = |url: &str| RedisConfig::new(url).into_target().map(|_| ()).err();
        assert_eq!(refused("redis://localhost:6379/1"), None);
        assert_eq!(refused("redis://user@127.0.0.1/"), None);
        assert_eq!(refused("rediss://localhost"), Some(BadRedisUrl::Tls));
        for bad in ["", "localhost:6379", "http://localhost", "redis://localhost/x", "redis://:pw@"] {
            assert_eq!(refused(bad), Some(BadRedisUrl::Malformed), "{bad}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let config = RedisConfig {
            password: Some(Secret::new("hunter2".to_owned())),
            ..RedisConfig::new("redis://:hunter2@localhost")
        };
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!format!("{:?}", config.into_target()).contains("hunter2"));
    }
}
