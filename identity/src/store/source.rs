//! Where records are read from: Redis, or the store inside the process.
//!
//! Each question is one round trip, and with Redis it carries the question for the store mark, before
//! and after: a store that is flushed or filled between two commands is not mistaken for one that can
//! be trusted. In a cluster every slot bears a mark of its own: of the nodes one alone may be flushed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::{Cmd, ToRedisArgs, Value};
use tokio::time::Instant;

use super::decode::{RawTokens, RawUser};
use super::memory::Memory;
use super::servers::{Fleet, SLOTS, slot, tag};
use super::unavailable::{Fault, Refusal, Unavailable};
use crate::key::Keys;
use crate::session::SessionId;
use crate::user::UserId;

/// How long a caller waits for the store inside the process, which never makes it wait.
const EMBEDDED_PATIENCE: Duration = Duration::from_secs(1);

/// How many marks of a cluster are read or written at once.
const MARKS_AT_ONCE: usize = 512;

pub(super) enum Source {
    Redis(Redis),
    Memory(Arc<Memory>),
}

pub(super) struct Redis {
    pub(super) fleet: Fleet,
    pub(super) require_mark: bool,
}

impl Source {
    pub(super) fn deadline(&self) -> Instant {
        match self {
            Self::Redis(redis) => redis.fleet.deadline(),
            Self::Memory(_) => Instant::now() + EMBEDDED_PATIENCE,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        match self {
            Self::Redis(redis) => redis.fleet.is_up(),
            Self::Memory(memory) => memory.check().is_ok(),
        }
    }

    /// Whether anybody can be asked, perhaps not about every record.
    pub(super) fn answers(&self) -> bool {
        match self {
            Self::Redis(redis) => redis.fleet.answers(),
            Self::Memory(memory) => memory.check().is_ok(),
        }
    }

    pub(super) async fn session(
        &self,
        keys: &Keys,
        id: &SessionId,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Unavailable> {
        self.text(keys, &keys.session(id), deadline).await
    }

    pub(super) async fn ban(
        &self,
        keys: &Keys,
        id: &UserId,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Unavailable> {
        self.text(keys, &keys.ban(id), deadline).await
    }

    /// Whether the store bears its mark, or all of its marks.
    pub(super) async fn is_marked(&self, keys: &Keys) -> Result<bool, Unavailable> {
        match self {
            Self::Redis(redis) => redis.is_wholly_marked(keys).await,
            Self::Memory(memory) => Ok(memory.text(keys.store_mark())?.is_some()),
        }
    }

    pub(super) async fn admin_token(
        &self,
        keys: &Keys,
        id: &UserId,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Unavailable> {
        self.text(keys, &keys.admin_token(id), deadline).await
    }

    pub(super) async fn user(
        &self,
        keys: &Keys,
        id: &UserId,
        deadline: Instant,
    ) -> Result<RawUser, Unavailable> {
        let (token, ban) = (keys.token(id), keys.ban(id));
        match self {
            Self::Redis(redis) => redis.user(keys, &token, &ban, deadline).await,
            Self::Memory(memory) => memory.user(&token, &ban),
        }
    }

    async fn text(&self, keys: &Keys, key: &str, deadline: Instant) -> Result<Option<Vec<u8>>, Unavailable> {
        match self {
            Self::Redis(redis) => redis.text(keys, key, deadline).await,
            Self::Memory(memory) => memory.text(key),
        }
    }

    /// Notes the use of a nonce; says whether it is the first.
    pub(super) async fn claim(&self, key: &str, ttl: Duration) -> Result<bool, Unavailable> {
        let ttl = ttl.max(Duration::from_millis(1));
        match self {
            Self::Redis(redis) => redis.claim(key, ttl).await,
            Self::Memory(memory) => memory.claim(key, ttl),
        }
    }
}

impl Redis {
    /// The mark that vouches for `key`.
    fn mark_of(&self, keys: &Keys, key: &str) -> String {
        keys.store_mark_in(self.fleet.is_cluster().then(|| tag(slot(key))))
    }

    /// Asks about keys of one slot in one round trip, between two looks at the mark; returns the `N` answers
    /// between them.
    async fn ask<const N: usize>(
        &self,
        keys: &Keys,
        questions: [[&str; 2]; N],
        deadline: Instant,
    ) -> Result<[Value; N], Unavailable> {
        let [_, key] = questions[0];
        let mark = self.mark_of(keys, key);
        let looks = [["EXISTS", &mark]];
        let commands = looks.iter().chain(&questions).chain(&looks).map(|[name, key]| command(name, &[key]));
        let mut answers = self.fleet.ask(key, commands.collect(), deadline).await?.into_iter();
        let before = answers.next();
        let between: Vec<Value> = answers.by_ref().take(N).collect();
        let marked = is_marked(before)? && is_marked(answers.next())?;
        if self.require_mark && !marked {
            return Err(Unavailable::Unmarked);
        }
        between.try_into().map_err(|_| Unavailable::Down)
    }

    async fn text(&self, keys: &Keys, key: &str, deadline: Instant) -> Result<Option<Vec<u8>>, Unavailable> {
        let [answer] = self.ask(keys, [["GET", key]], deadline).await?;
        text(answer)
    }

    /// Runs `about` for every mark of the store, many at once.
    async fn each_mark<T>(
        &self,
        keys: &Keys,
        about: impl Fn(&str) -> Cmd,
        read: impl Fn(Option<Value>) -> Result<T, Unavailable>,
    ) -> Result<Vec<T>, Unavailable> {
        let slots: Vec<_> = match self.fleet.is_cluster() {
            true => (0..SLOTS).map(|slot| Some(tag(slot))).collect(),
            false => vec![None],
        };
        let mut found = Vec::with_capacity(slots.len());
        for some in slots.chunks(MARKS_AT_ONCE) {
            let deadline = self.fleet.deadline();
            let asked = some.iter().map(|tag| {
                let mark = keys.store_mark_in(*tag);
                let asked = about(&mark);
                async move { self.fleet.ask(&mark, vec![asked], deadline).await }
            });
            for answers in try_join_all(asked).await? {
                found.push(read(answers.into_iter().next())?);
            }
        }
        Ok(found)
    }

    async fn is_wholly_marked(&self, keys: &Keys) -> Result<bool, Unavailable> {
        let marks = self.each_mark(keys, |mark| command("EXISTS", &[mark]), is_marked).await?;
        Ok(marks.into_iter().all(|marked| marked))
    }

    /// Marks the store as the right one and complete.
    pub(super) async fn mark(&self, keys: &Keys) -> Result<(), Unavailable> {
        let done = |answer| match answer {
            Some(Value::Okay) => Ok(()),
            other => Err(unexpected(other)),
        };
        self.each_mark(keys, |mark| command("SET", &[mark, "1"]), done).await.map(|_| ())
    }

    async fn user(
        &self,
        keys: &Keys,
        token: &str,
        ban: &str,
        deadline: Instant,
    ) -> Result<RawUser, Unavailable> {
        let (of_token, of_ban) = ([["HGETALL", token], ["GET", token]], [["GET", ban]]);
        let [fields, one, ban] = if self.fleet.is_cluster() {
            let asked = (self.ask(keys, of_token, deadline), self.ask(keys, of_ban, deadline));
            let ([fields, one], [ban]) = tokio::try_join!(asked.0, asked.1)?;
            [fields, one, ban]
        } else {
            self.ask(keys, [of_token[0], of_token[1], of_ban[0]], deadline).await?
        };
        Ok(RawUser { tokens: tokens(fields, one)?, ban: text(ban)? })
    }

    async fn claim(&self, key: &str, ttl: Duration) -> Result<bool, Unavailable> {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).to_string();
        let claim = command("SET", &[key, "1", "NX", "PX", &millis]);
        match self.fleet.ask(key, vec![claim], self.fleet.deadline()).await?.pop() {
            Some(Value::Okay) => Ok(true),
            Some(Value::Nil) => Ok(false),
            other => Err(unexpected(other)),
        }
    }
}

/// Puts a command together.
pub(super) fn command<T: ToRedisArgs>(name: &str, arguments: &[T]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(arguments);
    command
}

/// What to make of an answer that is none of those the command has.
pub(super) fn unexpected(answer: Option<Value>) -> Unavailable {
    match answer {
        Some(Value::ServerError(error)) => Unavailable::from(&error),
        _ => Unavailable::Refused(Refusal::Other),
    }
}

fn is_marked(answer: Option<Value>) -> Result<bool, Unavailable> {
    match answer {
        Some(Value::Int(count)) => Ok(count > 0),
        other => Err(unexpected(other)),
    }
}

fn is_wrong_type(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "WRONGTYPE")
}

fn text(answer: Value) -> Result<Option<Vec<u8>>, Unavailable> {
    match answer {
        Value::Nil => Ok(None),
        Value::BulkString(text) => Ok(Some(text)),
        other if is_wrong_type(&other) => Err(Fault::WrongType.into()),
        other => Err(unexpected(Some(other))),
    }
}

/// Puts together what `HGETALL` and then `GET` answered of one key: one of the two has the wrong type.
///
/// `GET` comes second and has the last word, in case the key changed between the two.
fn tokens(fields: Value, one: Value) -> Result<RawTokens, Unavailable> {
    if !is_wrong_type(&one) {
        return Ok(text(one)?.map_or(RawTokens::Absent, RawTokens::One));
    }
    match fields {
        Value::Map(fields) if !fields.is_empty() => fields_of(fields),
        // The hash was not there yet when it was asked for: another try will tell.
        Value::Map(_) => Err(Unavailable::Refused(Refusal::WrongType)),
        fields if is_wrong_type(&fields) => Err(Fault::WrongType.into()),
        fields => Err(unexpected(Some(fields))),
    }
}

fn fields_of(fields: Vec<(Value, Value)>) -> Result<RawTokens, Unavailable> {
    let pair = |pair: (Value, Value)| match pair {
        (Value::BulkString(field), Value::BulkString(value)) => Ok((field, value)),
        (field, _) => Err(unexpected(Some(field))),
    };
    fields.into_iter().map(pair).collect::<Result<_, _>>().map(RawTokens::Fields)
}
