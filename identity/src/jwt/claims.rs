//! What a token claims, read strictly.

use serde_json::{Map, Value};

use super::fault::{Claim, Fault};
use super::json;
use crate::time::UnixTime;

/// The longest subject, in bytes. Source: OpenID Connect Core 1.0 section 2, 255 characters.
const MAX_SUBJECT: usize = 255;
/// The most roles a token may list.
const MAX_ROLES: usize = 64;
/// The longest name of a role, in bytes.
const MAX_ROLE: usize = 128;
/// The most audiences a token may list.
const MAX_AUDIENCES: usize = 16;
/// The last second of the year 9999. A time beyond it is a mistake, such as milliseconds.
const LAST: u64 = 253_402_300_799;

/// What a token that was verified says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Whom it speaks of: 1 to 255 bytes without control characters.
    pub subject: Box<str>,
    /// What that one may do, as the issuer names it.
    pub roles: Box<[Box<str>]>,
    /// The first second in which it is no longer valid, but for the leeway.
    pub expires_at: UnixTime,
}

/// The claims as the token has them, each of the right kind but none of them believed yet.
pub(super) struct Wire {
    pub(super) issuer: String,
    pub(super) audience: Vec<String>,
    pub(super) expires_at: UnixTime,
    pub(super) issued_at: UnixTime,
    pub(super) not_before: Option<UnixTime>,
    subject: Box<str>,
    roles: Box<[Box<str>]>,
}

impl Wire {
    /// # Errors
    /// They are no JSON object with distinct members, or a claim is missing or of the wrong kind.
    pub(super) fn parse(json: &[u8]) -> Result<Self, Fault> {
        let mut members = json::object(json).ok_or(Fault::Claims)?;
        let members = &mut members;
        Ok(Self {
            issuer: text(required(members, Claim::Iss)?).ok_or(Fault::Ill(Claim::Iss))?,
            audience: audience(required(members, Claim::Aud)?)?,
            expires_at: time(&required(members, Claim::Exp)?, Claim::Exp)?,
            issued_at: time(&required(members, Claim::Iat)?, Claim::Iat)?,
            not_before: take(members, Claim::Nbf).map(|nbf| time(&nbf, Claim::Nbf)).transpose()?,
            subject: plain(required(members, Claim::Sub)?, MAX_SUBJECT).ok_or(Fault::Ill(Claim::Sub))?,
            roles: take(members, Claim::Roles).map(roles).transpose()?.unwrap_or_default(),
        })
    }
}

impl From<Wire> for Claims {
    fn from(wire: Wire) -> Self {
        Self { subject: wire.subject, roles: wire.roles, expires_at: wire.expires_at }
    }
}

fn take(members: &mut Map<String, Value>, claim: Claim) -> Option<Value> {
    members.remove(claim.name())
}

fn required(members: &mut Map<String, Value>, claim: Claim) -> Result<Value, Fault> {
    take(members, claim).ok_or(Fault::Missing(claim))
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Text that is there, not too long, and safe to log.
fn plain(value: Value, max: usize) -> Option<Box<str>> {
    let text = text(value)?;
    let legal = (1..=max).contains(&text.len()) && !text.contains(char::is_control);
    legal.then(|| text.into())
}

/// A whole number of seconds. RFC 7519 would let it have a fraction; no issuer writes one, and
/// libraries differ in what they make of it.
fn time(value: &Value, claim: Claim) -> Result<UnixTime, Fault> {
    value.as_u64().filter(|seconds| *seconds <= LAST).map(UnixTime).ok_or(Fault::Ill(claim))
}

fn audience(value: Value) -> Result<Vec<String>, Fault> {
    let ill = Fault::Ill(Claim::Aud);
    match value {
        Value::String(one) => Ok(vec![one]),
        Value::Array(list) if list.len() <= MAX_AUDIENCES => {
            list.into_iter().map(|one| text(one).ok_or(ill)).collect()
        }
        _ => Err(ill),
    }
}

fn roles(value: Value) -> Result<Box<[Box<str>]>, Fault> {
    let ill = Fault::Ill(Claim::Roles);
    match value {
        Value::Array(list) if list.len() <= MAX_ROLES => {
            list.into_iter().map(|role| plain(role, MAX_ROLE).ok_or(ill)).collect()
        }
        _ => Err(ill),
    }
}
