//! Where records are read from: Redis, or the store inside the process.
//!
//! Each question is one round trip, and with Redis it carries the question for the store mark, before
//! and after: a store that is flushed or filled between two commands is not mistaken for one that can
//! be trusted.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::time::Instant;

use super::commands::Commands;
use super::decode::{RawTokens, RawUser};
use super::memory::Memory;
use super::unavailable::{Fault, Refusal, Unavailable};
use crate::key::Keys;
use crate::session::SessionId;
use crate::user::UserId;

/// How long a caller waits for the store inside the process, which never makes it wait.
const EMBEDDED_PATIENCE: Duration = Duration::from_secs(1);

pub(super) enum Source {
    Redis(Redis),
    Memory(Arc<Memory>),
}

pub(super) struct Redis {
    pub(super) commands: Commands,
    pub(super) require_mark: bool,
}

impl Source {
    pub(super) fn deadline(&self) -> Instant {
        match self {
            Self::Redis(redis) => redis.commands.deadline(),
            Self::Memory(_) => Instant::now() + EMBEDDED_PATIENCE,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        match self {
            Self::Redis(redis) => redis.commands.is_up(),
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

    pub(super) async fn mark(&self, keys: &Keys, deadline: Instant) -> Result<Option<Vec<u8>>, Unavailable> {
        self.text(keys, keys.store_mark(), deadline).await
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
    /// Asks in one round trip, between two looks at the mark; returns the `N` answers between them.
    async fn ask<const N: usize>(
        &self,
        keys: &Keys,
        questions: [[&str; 2]; N],
        deadline: Instant,
    ) -> Result<[Value; N], Unavailable> {
        let mut pipeline = Pipeline::with_capacity(N + 2);
        pipeline.cmd("EXISTS").arg(keys.store_mark());
        for [command, key] in questions {
            pipeline.cmd(command).arg(key);
        }
        pipeline.cmd("EXISTS").arg(keys.store_mark());
        let answers = self.commands.ask(pipeline, deadline).await?;
        let mut answers = answers.into_iter();
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

    async fn user(
        &self,
        keys: &Keys,
        token: &str,
        ban: &str,
        deadline: Instant,
    ) -> Result<RawUser, Unavailable> {
        let questions = [["HGETALL", token], ["GET", token], ["GET", ban]];
        let [fields, one, ban] = self.ask(keys, questions, deadline).await?;
        Ok(RawUser { tokens: tokens(fields, one)?, ban: text(ban)? })
    }

    async fn claim(&self, key: &str, ttl: Duration) -> Result<bool, Unavailable> {
        let mut pipeline = Pipeline::with_capacity(1);
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        pipeline.cmd("SET").arg(key).arg(1).arg("NX").arg("PX").arg(millis);
        match self.commands.ask(pipeline, self.commands.deadline()).await?.pop() {
            Some(Value::Okay) => Ok(true),
            Some(Value::Nil) => Ok(false),
            other => Err(unexpected(other)),
        }
    }
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
