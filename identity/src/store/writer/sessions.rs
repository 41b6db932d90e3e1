//! Sessions, as the backend and the command line write them: made, revoked, rotated, sealed anew.
//!
//! A record is changed by comparing and swapping, so that no change of somebody else's is lost.

use std::time::Duration;

use futures_util::future::try_join_all;
use redis::Value;

use super::{MARGIN, WriteError, Writer};
use crate::key::Tracked;
use crate::secret::Secret;
use crate::session::{PreviousSecret, Record, SessionId, SessionSecret};
use crate::store::decode;
use crate::store::servers::{SLOTS, tag};
use crate::store::source::{Redis, Source, command, unexpected};
use crate::store::unavailable::{Fault, Refusal, Unavailable};
use crate::time::UnixTime;

/// How often a change is tried anew when somebody else writes the same record.
const MAX_TRIES: usize = 8;

/// How many keys Redis looks at per page. It answers nobody else meanwhile.
const PAGE: &str = "500";

/// How many slots of a cluster are looked at per page.
const SLOTS_PER_PAGE: u16 = 128;

/// What a revocation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The session is revoked now.
    Revoked,
    /// It was revoked before, at the moment given.
    AlreadyRevoked(UnixTime),
    /// There is no such session.
    Unknown,
}

/// What a rotation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The session has the new secret; the old one is honoured to the second given, if at all.
    Rotated(Option<UnixTime>),
    /// The session was revoked, at the moment given, and keeps its secret.
    Revoked(UnixTime),
    /// The session has expired.
    Expired,
    /// There is no such session.
    Unknown,
}

/// What sealing a page of records anew came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Where the next page begins; `None` after the last.
    pub next: Option<u64>,
    /// Records that were written anew.
    pub resealed: u64,
    /// Records that were in the present form already.
    pub current: u64,
    /// Records that cannot be read, and were left alone.
    pub broken: Vec<(SessionId, Fault)>,
}

/// What becomes of a record.
enum Change<T> {
    /// It stays.
    Keep(T),
    /// It is written, if nobody else wrote it meanwhile.
    Write(Record, T),
}

impl Writer {
    /// Writes a session, to be kept until a little after it expires.
    ///
    /// # Errors
    /// The store cannot be asked, or there is no randomness to seal with.
    pub async fn put_session(&self, id: &SessionId, record: &Record) -> Result<(), WriteError> {
        let ttl = UnixTime::now().until(record.expires_at) + MARGIN;
        self.set(&self.keys.session(id), self.written(id, record)?.expose(), Some(ttl)).await
    }

    /// Reads a session as it is stored.
    ///
    /// # Errors
    /// The store cannot be asked, or holds no usable record.
    pub async fn session(&self, id: &SessionId) -> Result<Option<Record>, WriteError> {
        match self.source.session(&self.keys, id, self.source.deadline()).await? {
            Some(json) => Ok(Some(decode::record(id, Secret::new(json).expose(), &self.seals)?)),
            None => Ok(None),
        }
    }

    /// Revokes a session as of `now`. It is kept, revoked, until it would have expired.
    ///
    /// # Errors
    /// The store cannot be asked, holds no usable record, or others keep changing it.
    pub async fn revoke_session(&self, id: &SessionId, now: UnixTime) -> Result<Revocation, WriteError> {
        let found = self.change(id, |record, _| match record.revoked_at {
            Some(at) => Change::Keep(Revocation::AlreadyRevoked(at)),
            None => Change::Write(Record { revoked_at: Some(now), ..record }, Revocation::Revoked),
        });
        Ok(found.await?.unwrap_or(Revocation::Unknown))
    }

    /// Gives a session a new secret as of `now`, and honours the one it had for `grace`, but not beyond
    /// the session's end. A secret that was on its way out already is not honoured any more.
    ///
    /// Doing it again with the same secret changes nothing, so a call whose outcome is not known may be
    /// repeated.
    ///
    /// # Errors
    /// The store cannot be asked, holds no usable record, or others keep changing it.
    pub async fn rotate_session(
        &self,
        id: &SessionId,
        secret: &SessionSecret,
        grace: Duration,
        now: UnixTime,
    ) -> Result<Rotation, WriteError> {
        let found = self.change(id, |record, _| {
            if let Some(at) = record.revoked_at {
                return Change::Keep(Rotation::Revoked(at));
            }
            if now >= record.expires_at {
                return Change::Keep(Rotation::Expired);
            }
            if record.secret == *secret {
                return Change::Keep(Rotation::Rotated(record.previous.map(|previous| previous.until)));
            }
            let until = (!grace.is_zero()).then(|| now.plus(grace).min(record.expires_at));
            let previous = until.map(|until| PreviousSecret { secret: record.secret, until });
            let rotated = Record { secret: secret.clone(), previous, ..record };
            Change::Write(rotated, Rotation::Rotated(until))
        });
        Ok(found.await?.unwrap_or(Rotation::Unknown))
    }

    /// Writes a page of session records in the present form: sealed with the active key. Begins at 0,
    /// and goes on where the page before ended, which may be another day.
    ///
    /// A record that cannot be read, or is plain where only sealed ones count, is named and left alone.
    ///
    /// # Errors
    /// The store cannot be asked, or there is no randomness to seal with. The page may be done again.
    pub async fn reseal_sessions(&self, cursor: u64) -> Result<Resealed, WriteError> {
        let (next, ids) = self.page(cursor).await?;
        let mut page = Resealed { next, ..Resealed::default() };
        for id in ids {
            let resealed = self.change(&id, |record, json| match Record::is_current(json, &self.seals) {
                Ok(true) => Change::Keep(false),
                Ok(false) | Err(_) => Change::Write(record, true),
            });
            match resealed.await {
                Ok(Some(true)) => page.resealed += 1,
                Ok(Some(false)) => page.current += 1,
                // It ran out or was deleted after the page was read.
                Ok(None) => {}
                Err(WriteError::Unavailable(Unavailable::Broken(fault))) => page.broken.push((id, fault)),
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }

    /// The sessions of a page, and where the next begins. Other keys under the prefix are no sessions.
    async fn page(&self, cursor: u64) -> Result<(Option<u64>, Vec<SessionId>), WriteError> {
        let (next, keys) = match &self.source {
            Source::Memory(memory) => (0, memory.keys(self.keys.session_prefix())),
            Source::Redis(redis) if redis.fleet.is_cluster() => self.slots(redis, cursor).await?,
            Source::Redis(redis) => {
                let pattern = glob(self.keys.session_prefix());
                let cursor = cursor.to_string();
                let arguments = [cursor.as_str(), "MATCH", &pattern, "COUNT", PAGE];
                scanned(redis.command("", "SCAN", &arguments).await?)?
            }
        };
        let ids = keys.iter().filter_map(|key| match self.keys.classify(key) {
            Some(Tracked::Session(id)) => Some(id),
            Some(Tracked::User(_) | Tracked::Admin(_)) | None => None,
        });
        Ok(((next != 0).then_some(next), ids.collect()))
    }

    /// All keys of some slots, and the slot after them; 0 after the last. Slots stay what they are when a
    /// cluster is changed, so a cursor is good another day.
    async fn slots(&self, redis: &Redis, cursor: u64) -> Result<(u64, Vec<Vec<u8>>), WriteError> {
        let first = u16::try_from(cursor).ok().filter(|slot| *slot < SLOTS);
        let first = first.ok_or(Unavailable::Refused(Refusal::Other))?;
        let next = first.saturating_add(SLOTS_PER_PAGE).min(SLOTS);
        let keys = try_join_all((first..next).map(|slot| self.slot(redis, slot))).await?;
        Ok((u64::from(if next == SLOTS { 0 } else { next }), keys.concat()))
    }

    async fn slot(&self, redis: &Redis, slot: u16) -> Result<Vec<Vec<u8>>, Unavailable> {
        let (owned, number) = (self.keys.store_mark_in(Some(tag(slot))), slot.to_string());
        let about = async |words: &[&str]| {
            let asked = vec![command("CLUSTER", words)];
            redis
                .fleet
                .ask_owner(&owned, asked, redis.fleet.deadline())
                .await
                .map(|mut answers| answers.pop())
        };
        let count = match about(&["COUNTKEYSINSLOT", &number]).await? {
            Some(Value::Int(count)) => count.to_string(),
            other => return Err(unexpected(other)),
        };
        match about(&["GETKEYSINSLOT", &number, &count]).await? {
            Some(answer @ Value::Array(_)) => redis::from_redis_value(answer).map_err(|_| unexpected(None)),
            other => Err(unexpected(other)),
        }
    }

    fn written(&self, id: &SessionId, record: &Record) -> Result<Secret<String>, WriteError> {
        record.write(id, &self.seals).map_err(|_| WriteError::Randomness)
    }

    /// Changes a record; `None` if there is none.
    async fn change<T>(
        &self,
        id: &SessionId,
        change: impl Fn(Record, &[u8]) -> Change<T>,
    ) -> Result<Option<T>, WriteError> {
        let key = self.keys.session(id);
        for _ in 0..MAX_TRIES {
            let Some(old) = self.source.session(&self.keys, id, self.source.deadline()).await? else {
                return Ok(None);
            };
            let old = Secret::new(old);
            let record = decode::record(id, old.expose(), &self.seals)?;
            match change(record, old.expose()) {
                Change::Keep(found) => return Ok(Some(found)),
                Change::Write(record, done) => {
                    let new = self.written(id, &record)?;
                    if self.swap(&key, old.expose(), new.expose().as_bytes()).await? {
                        return Ok(Some(done));
                    }
                }
            }
        }
        Err(Unavailable::Overloaded.into())
    }
}

/// Finds what begins with `prefix`, whatever is special in a pattern of Redis.
fn glob(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern + "*"
}

/// Reads what `SCAN` answers: where it goes on, and keys.
fn scanned(answer: Value) -> Result<(u64, Vec<Vec<u8>>), Unavailable> {
    redis::from_redis_value(answer).map_err(|_| unexpected(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_in_a_prefix_is_taken_literally() {
        assert_eq!(glob("imgate:session:"), "imgate:session:*");
        assert_eq!(glob("a*b?[c]\\"), "a\\*b\\?\\[c\\]\\\\*");
    }
}
