//! From the bytes in the store to records, with a bound on every size.

use std::sync::Arc;

use super::unavailable::{Fault, Unavailable};
use super::user::{Tokens, User};
use crate::seal::Seals;
use crate::session::{Ban, Record, Session, SessionId};
use crate::token::{OpenimToken, TokenFault};
use crate::user::{Platform, UserId};

/// The largest session record or ban that is read, in bytes.
pub(super) const MAX_RECORD: usize = 16 * 1024;

/// What is stored under a token's key.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum RawTokens {
    Absent,
    One(Vec<u8>),
    Fields(Vec<(Vec<u8>, Vec<u8>)>),
}

pub(super) struct RawUser {
    pub(super) tokens: RawTokens,
    pub(super) ban: Option<Vec<u8>>,
}

fn bounded(bytes: &[u8]) -> Result<&[u8], Fault> {
    if bytes.len() > MAX_RECORD { Err(Fault::TooLarge) } else { Ok(bytes) }
}

pub(super) fn record(id: &SessionId, json: &[u8], seals: &Seals) -> Result<Record, Unavailable> {
    Ok(Record::read(id, bounded(json)?, seals)?)
}

pub(super) fn session(id: SessionId, json: &[u8], seals: &Seals) -> Result<Arc<Session>, Unavailable> {
    Ok(Arc::new(Session::new(id, &record(&id, json, seals)?)))
}

pub(super) fn ban(json: &[u8]) -> Result<Ban, Unavailable> {
    Ok(Ban::parse(bounded(json)?)?)
}

pub(super) fn user(id: &UserId, raw: &RawUser) -> Result<User, Unavailable> {
    Ok(User { ban: raw.ban.as_deref().map(ban).transpose()?, tokens: tokens(id, &raw.tokens)? })
}

pub(super) fn admin_token(id: &UserId, raw: &[u8]) -> Result<Arc<OpenimToken>, Unavailable> {
    Ok(Arc::new(OpenimToken::read(raw, id, Some(Platform::ADMIN))?))
}

fn tokens(user: &UserId, raw: &RawTokens) -> Result<Tokens, Unavailable> {
    match raw {
        RawTokens::Absent => Ok(Tokens::None),
        RawTokens::One(raw) => Ok(Tokens::One(Arc::new(OpenimToken::read(raw, user, None)?))),
        RawTokens::Fields(fields) => per_platform(user, fields),
    }
}

fn per_platform(user: &UserId, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Tokens, Unavailable> {
    if fields.len() > Platform::COUNT {
        return Err(Fault::TooLarge.into());
    }
    let mut tokens = [const { None }; Platform::COUNT];
    for (field, raw) in fields {
        let platform = platform(field)?;
        if platform == Platform::ADMIN {
            return Err(TokenFault::Foreign.into());
        }
        let token = OpenimToken::read(raw, user, Some(platform))?;
        tokens[usize::from(platform.number()) - 1] = Some(Arc::new(token));
    }
    Ok(Tokens::PerPlatform(Box::new(tokens)))
}

/// Reads a field's name: the platform's number in its one decimal spelling.
fn platform(field: &[u8]) -> Result<Platform, Fault> {
    let text = std::str::from_utf8(field).map_err(|_| Fault::UnknownField)?;
    Platform::parse(text).ok_or(Fault::UnknownField)
}
