//! From header bytes to a [`Signature`], and the verdict on it.
//!
//! The grammar admits one spelling of each signature, so whatever parses equals its own strict
//! serialisation: no optional spaces, no escapes, no leading zeros, no second member.

use std::fmt;

use hmac::Mac as _;

use super::body::{self, BodyCheck, BodyFault, Digest};
use super::key::HttpKey;
use super::malformed::Malformed;
use super::nonce::is_nonce;
use super::target::{Mismatch, Target};
use super::{ALGORITHM, MAX_INPUT, TAG, base};
use crate::session::SessionId;
use crate::time::UnixTime;

/// The header values of one request. Whoever fills it has seen to it that none is there twice.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// The value of `Signature-Input`.
    pub signature_input: &'a [u8],
    /// The value of `Signature`.
    pub signature: &'a [u8],
    /// The value of `Content-Digest`, if the request has one.
    pub content_digest: Option<&'a [u8]>,
}

/// A signature in our profile, not verified yet.
#[derive(Clone, Copy)]
pub struct Signature<'a> {
    /// When the client says it signed.
    pub created: UnixTime,
    /// What makes this signature different from all others of its session.
    pub nonce: &'a str,
    /// The session whose key is to be used.
    pub key_id: SessionId,
    /// The value of `"@signature-params"`, in the client's order.
    params: &'a str,
    content_digest: Option<(&'a str, Digest)>,
    mac: [u8; 32],
}

impl<'a> Signature<'a> {
    /// Reads the headers of one request.
    ///
    /// # Errors
    /// The headers are not exactly one signature in our profile.
    pub fn parse(presented: Presented<'a>) -> Result<Self, Malformed> {
        let input = printable(presented.signature_input)?;
        let (label, params) = label(input)?;
        let mut rest = Cursor(params);
        let covers_digest = rest.components()?;
        let parameters = Parameters::read(rest)?;
        let mac = signature(presented.signature, label)?;
        let content_digest = content_digest(presented.content_digest, covers_digest)?;
        Ok(Self {
            created: parameters.created,
            nonce: parameters.nonce,
            key_id: parameters.key_id,
            params,
            content_digest,
            mac,
        })
    }

    /// Decides whether `key` signed `target`, in time that does not depend on where they differ.
    ///
    /// # Errors
    /// The signature was made by another key or for another request, or `target` has bytes that a
    /// signature base cannot spell without doubt.
    pub fn verify(&self, key: &HttpKey, target: &Target<'_>) -> Result<(), Mismatch> {
        if !target.is_unambiguous() {
            return Err(Mismatch);
        }
        let mut mac = key.mac();
        self.feed(target, |piece| mac.update(piece));
        if key.accepts(mac, &self.mac) { Ok(()) } else { Err(Mismatch) }
    }

    /// The text that the client should have signed, to be shown to someone who looks for the difference.
    pub fn base(&self, target: &Target<'_>) -> String {
        let mut base = String::new();
        self.feed(target, |piece| base.push_str(&String::from_utf8_lossy(piece)));
        base
    }

    /// Whether the body's digest is covered, so that there may be a body.
    pub fn covers_body(&self) -> bool {
        self.content_digest.is_some()
    }

    /// Begins the check of a body that arrives in pieces.
    pub fn body_check(&self) -> BodyCheck {
        BodyCheck::new(self.content_digest.map(|(_, digest)| digest))
    }

    /// Checks a body that is there as a whole.
    ///
    /// # Errors
    /// The body is not the one that was signed.
    pub fn check_digest(&self, body: &[u8]) -> Result<(), BodyFault> {
        let mut check = self.body_check();
        check.update(body)?;
        check.finish()
    }

    fn feed(&self, target: &Target<'_>, sink: impl FnMut(&[u8])) {
        base::feed(target.lines(self.content_digest.map(|(value, _)| value)), self.params, sink);
    }
}

impl fmt::Debug for Signature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { created, nonce, key_id, .. } = self;
        write!(f, "Signature {{ created: {created}, nonce: {nonce}, key_id: {key_id}, mac: *** }}")
    }
}

fn printable(value: &[u8]) -> Result<&str, Malformed> {
    if value.len() > MAX_INPUT {
        return Err(Malformed::InputTooLong);
    }
    let legal = |b: &u8| b.is_ascii_graphic() || *b == b' ';
    let text = std::str::from_utf8(value).map_err(|_| Malformed::Encoding)?;
    if value.iter().all(legal) { Ok(text) } else { Err(Malformed::Encoding) }
}

/// Splits `label=` from the rest.
fn label(input: &str) -> Result<(&str, &str), Malformed> {
    let mut rest = Cursor(input);
    let label = rest.key();
    let starts = label.starts_with(|c: char| c.is_ascii_lowercase() || c == '*');
    if !starts || !rest.eat("=") {
        return Err(Malformed::Label);
    }
    Ok((label, rest.0))
}

/// Reads `label=:base64:`.
fn signature(value: &[u8], label: &str) -> Result<[u8; 32], Malformed> {
    let value = std::str::from_utf8(value).map_err(|_| Malformed::SignatureValue)?;
    let mut rest = Cursor(value);
    let found = rest.key();
    if !rest.eat("=") {
        return Err(Malformed::SignatureValue);
    }
    if found != label {
        return Err(Malformed::LabelMismatch);
    }
    // No comma belongs to base64, so it can only begin another member.
    if rest.0.contains(',') {
        return Err(Malformed::Multiple);
    }
    let encoded = rest.0.strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    encoded.and_then(body::decode32).ok_or(Malformed::SignatureValue)
}

fn content_digest(value: Option<&[u8]>, covered: bool) -> Result<Option<(&str, Digest)>, Malformed> {
    match (value, covered) {
        (None, false) => Ok(None),
        (None, true) => Err(Malformed::DigestAbsent),
        (Some(_), false) => Err(Malformed::DigestUncovered),
        (Some(value), true) => {
            let value = std::str::from_utf8(value).map_err(|_| Malformed::DigestValue)?;
            Ok(Some((value, body::parse(value)?)))
        }
    }
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn eat(&mut self, token: &str) -> bool {
        let rest = self.0.strip_prefix(token);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn take_until(&mut self, stop: impl Fn(u8) -> bool) -> &'a str {
        // A boundary: what is passed over is ASCII, or what is stopped at is.
        let end = self.0.bytes().position(stop).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    /// The characters of a key, which the caller still has to find well begun.
    ///
    /// Source: RFC 8941 section 3.1.2.
    fn key(&mut self) -> &'a str {
        let legal =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.' | b'*');
        self.take_until(|b| !legal(b))
    }

    /// Reads the covered components; says whether `content-digest` is among them.
    fn components(&mut self) -> Result<bool, Malformed> {
        if !self.eat(r#"("@method" "@authority" "@path" "@query""#) {
            return Err(Malformed::Components);
        }
        let covers_digest = self.eat(r#" "content-digest""#);
        if self.eat(")") { Ok(covers_digest) } else { Err(Malformed::Components) }
    }
}

struct Parameters<'a> {
    created: UnixTime,
    nonce: &'a str,
    key_id: SessionId,
}

impl<'a> Parameters<'a> {
    fn read(mut rest: Cursor<'a>) -> Result<Self, Malformed> {
        let (mut created, mut nonce, mut key_id, mut algorithm, mut tag) = (None, None, None, None, None);
        while !rest.0.is_empty() {
            let (name, value) = parameter(&mut rest)?;
            match name {
                "created" => set(&mut created, value.and_then(UnixTime::parse).ok_or(Malformed::Created)?)?,
                "nonce" => set(&mut nonce, quoted(value).filter(|v| is_nonce(v)).ok_or(Malformed::Nonce)?)?,
                "keyid" => set(&mut key_id, session_id(value).ok_or(Malformed::KeyId)?)?,
                "alg" => set(
                    &mut algorithm,
                    quoted(value).filter(|v| *v == ALGORITHM).ok_or(Malformed::Algorithm)?,
                )?,
                "tag" => set(&mut tag, quoted(value).filter(|v| *v == TAG).ok_or(Malformed::Tag)?)?,
                _ => return Err(Malformed::UnknownParameter),
            }
        }
        match (created, nonce, key_id, algorithm, tag) {
            (Some(created), Some(nonce), Some(key_id), Some(_), Some(_)) => {
                Ok(Self { created, nonce, key_id })
            }
            _ => Err(Malformed::MissingParameter),
        }
    }
}

/// Reads `;name=value`; the value is `None` where there is no `=`.
fn parameter<'a>(rest: &mut Cursor<'a>) -> Result<(&'a str, Option<&'a str>), Malformed> {
    if rest.0.starts_with(',') {
        return Err(Malformed::Multiple);
    }
    if !rest.eat(";") {
        return Err(Malformed::Syntax);
    }
    let name = rest.key();
    if name.is_empty() {
        return Err(Malformed::Syntax);
    }
    // No value of the profile holds a `;` or a `,`, so the next one ends this value.
    let value = rest.take_until(|b| b == b';' || b == b',');
    Ok((name, value.strip_prefix('=')))
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::DuplicateParameter),
    }
}

fn quoted(value: Option<&str>) -> Option<&str> {
    value?.strip_prefix('"')?.strip_suffix('"')
}

fn session_id(value: Option<&str>) -> Option<SessionId> {
    SessionId::parse(quoted(value)?).ok()
}
