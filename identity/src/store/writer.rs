//! The backend's and the command line's side of the store: it writes what the gateway reads.
//!
//! A token is checked before it is written: the gateway would refuse it later, to every user's cost.

mod sessions;

use std::sync::Arc;
use std::time::Duration;

use redis::{ToRedisArgs, Value};

use super::config::{BadRedisConfig, RedisConfig};
use super::decode;
use super::layout::Layout;
use super::memory::Memory;
use super::servers::Fleet;
use super::source::{Redis, Source, command, unexpected};
use super::unavailable::Unavailable;
use super::user::User;
use crate::key::Keys;
use crate::seal::Seals;
use crate::session::Ban;
use crate::time::UnixTime;
use crate::token::{OpenimToken, TokenFault};
use crate::user::{Platform, UserId};

/// How long a record outlives its last second in the store, in case clocks differ.
const MARGIN: Duration = Duration::from_secs(60);

/// Writes the second value if the key holds the first, and keeps its expiry.
const SWAP: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
     redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL') return 1 else return 0 end";

pub use self::sessions::{Resealed, Revocation, Rotation};

/// Why a write did not happen, or is not known to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The description of Redis makes no sense.
    #[error(transparent)]
    Config(#[from] BadRedisConfig),
    /// The store cannot be asked, or holds something that cannot be used.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The token is malformed, or another user's.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// The operating system has no randomness to seal with.
    #[error("operating system has no randomness to give")]
    Randomness,
}

/// Writes records. Keeps its connection; share it rather than making one for each write.
pub struct Writer {
    source: Source,
    keys: Keys,
    seals: Seals,
}

impl Writer {
    /// Connects to Redis and waits for the first answer.
    ///
    /// # Errors
    /// The description makes no sense, or Redis does not answer or refuses us.
    pub async fn connect(redis: RedisConfig, layout: impl Into<Layout>) -> Result<Self, WriteError> {
        let Layout { keys, seals } = layout.into();
        let fleet = Fleet::follow(redis.into_target()?);
        fleet.greet().await?;
        // A writer makes the mark, so it cannot ask for it.
        Ok(Self { source: Source::Redis(Redis { fleet, require_mark: false }), keys, seals })
    }

    /// Writes to a store inside the process.
    pub fn memory(memory: Arc<Memory>, layout: impl Into<Layout>) -> Self {
        let Layout { keys, seals } = layout.into();
        Self { source: Source::Memory(memory), keys, seals }
    }

    /// Writes the one token of a user, in place of any other.
    ///
    /// # Errors
    /// The token is malformed or not the user's, or the store cannot be asked.
    pub async fn put_token(&self, user: &UserId, raw: &str) -> Result<(), WriteError> {
        OpenimToken::read(raw, user, None)?;
        self.set(&self.keys.token(user), raw, None).await
    }

    /// Writes a user's token for one kind of device, beside those for others.
    ///
    /// # Errors
    /// The token is malformed, not the user's or not for that platform, the user has one token for all
    /// devices (delete it first), or the store cannot be asked.
    pub async fn put_platform_token(
        &self,
        user: &UserId,
        platform: Platform,
        raw: &str,
    ) -> Result<(), WriteError> {
        if platform == Platform::ADMIN {
            return Err(TokenFault::Foreign.into());
        }
        OpenimToken::read(raw, user, Some(platform))?;
        let (key, field) = (self.keys.token(user), platform.number().to_string());
        match &self.source {
            Source::Memory(memory) => memory.set_field(&key, &field, raw),
            Source::Redis(redis) => redis.write(&key, "HSET", &[&key, &field, raw]).await?,
        }
        Ok(())
    }

    /// Reads what the gateway would know of a user.
    ///
    /// # Errors
    /// The store cannot be asked, or holds something that cannot be used.
    pub async fn user(&self, user: &UserId) -> Result<User, WriteError> {
        let raw = self.source.user(&self.keys, user, self.source.deadline()).await?;
        Ok(decode::user(user, &raw)?)
    }

    /// Removes all tokens of a user.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn delete_token(&self, user: &UserId) -> Result<(), WriteError> {
        self.delete(&self.keys.token(user)).await
    }

    /// Removes a user's token for one kind of device.
    ///
    /// # Errors
    /// The user has one token for all devices, or the store cannot be asked.
    pub async fn delete_platform_token(&self, user: &UserId, platform: Platform) -> Result<(), WriteError> {
        let (key, field) = (self.keys.token(user), platform.number().to_string());
        match &self.source {
            Source::Memory(memory) => memory.delete_field(&key, &field),
            Source::Redis(redis) => redis.write(&key, "HDEL", &[&key, &field]).await?,
        }
        Ok(())
    }

    /// Writes the token of an OpenIM admin.
    ///
    /// # Errors
    /// The token is malformed or not that admin's, or the store cannot be asked.
    pub async fn put_admin_token(&self, admin: &UserId, raw: &str) -> Result<(), WriteError> {
        OpenimToken::read(raw, admin, Some(Platform::ADMIN))?;
        self.set(&self.keys.admin_token(admin), raw, None).await
    }

    /// Reads the token of an OpenIM admin.
    ///
    /// # Errors
    /// The store cannot be asked, or holds something that cannot be used.
    pub async fn admin_token(&self, admin: &UserId) -> Result<Option<Arc<OpenimToken>>, WriteError> {
        match self.source.admin_token(&self.keys, admin, self.source.deadline()).await? {
            Some(raw) => Ok(Some(decode::admin_token(admin, &raw)?)),
            None => Ok(None),
        }
    }

    /// Removes the token of an OpenIM admin.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn delete_admin_token(&self, admin: &UserId) -> Result<(), WriteError> {
        self.delete(&self.keys.admin_token(admin)).await
    }

    /// Bans a user; the ban is kept until a little after it ends.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn put_ban(&self, user: &UserId, ban: &Ban) -> Result<(), WriteError> {
        let ttl = (ban.until.0 != 0).then(|| UnixTime::now().until(ban.until) + MARGIN);
        let json = serde_json::to_string(ban).expect("numbers and strings always serialise");
        self.set(&self.keys.ban(user), &json, ttl).await
    }

    /// Reads a user's ban; it may be over.
    ///
    /// # Errors
    /// The store cannot be asked, or holds something that is no ban.
    pub async fn ban(&self, user: &UserId) -> Result<Option<Ban>, WriteError> {
        match self.source.ban(&self.keys, user, self.source.deadline()).await? {
            Some(json) => Ok(Some(decode::ban(&json)?)),
            None => Ok(None),
        }
    }

    /// Lifts a ban.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn delete_ban(&self, user: &UserId) -> Result<(), WriteError> {
        self.delete(&self.keys.ban(user)).await
    }

    /// Marks the store as the right one, complete with its records. Gateways do not trust it before.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn put_mark(&self) -> Result<(), WriteError> {
        match &self.source {
            Source::Memory(memory) => memory.set(self.keys.store_mark(), "1", None),
            Source::Redis(redis) => redis.mark(&self.keys).await?,
        }
        Ok(())
    }

    /// Whether the store bears its mark.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn is_marked(&self) -> Result<bool, WriteError> {
        Ok(self.source.is_marked(&self.keys).await?)
    }

    async fn set(&self, key: &str, value: &str, ttl: Option<Duration>) -> Result<(), WriteError> {
        match (&self.source, ttl) {
            (Source::Memory(memory), ttl) => memory.set(key, value, ttl),
            (Source::Redis(redis), None) => redis.write(key, "SET", &[key, value]).await?,
            (Source::Redis(redis), Some(ttl)) => {
                let seconds = ttl.as_secs().max(1).to_string();
                redis.write(key, "SET", &[key, value, "EX", &seconds]).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), WriteError> {
        match &self.source {
            Source::Memory(memory) => memory.delete(key),
            Source::Redis(redis) => redis.write(key, "DEL", &[key]).await?,
        }
        Ok(())
    }

    async fn swap(&self, key: &str, old: &[u8], new: &[u8]) -> Result<bool, WriteError> {
        let redis = match &self.source {
            Source::Memory(memory) => return Ok(memory.swap(key, old, new)),
            Source::Redis(redis) => redis,
        };
        let arguments: [&[u8]; 5] = [SWAP.as_bytes(), b"1", key.as_bytes(), old, new];
        match redis.command(key, "EVAL", &arguments).await? {
            Value::Int(swapped) => Ok(swapped == 1),
            other => Err(unexpected(Some(other)).into()),
        }
    }
}

impl Redis {
    /// Sends a command about `key`, and about none outside of its slot.
    async fn command<T: ToRedisArgs>(
        &self,
        key: &str,
        name: &str,
        arguments: &[T],
    ) -> Result<Value, Unavailable> {
        let asked = vec![command(name, arguments)];
        let answer = self.fleet.ask(key, asked, self.fleet.deadline()).await?.pop();
        match answer {
            Some(Value::ServerError(_)) | None => Err(unexpected(answer)),
            Some(answer) => Ok(answer),
        }
    }

    async fn write(&self, key: &str, name: &str, arguments: &[&str]) -> Result<(), Unavailable> {
        self.command(key, name, arguments).await.map(|_| ())
    }
}
