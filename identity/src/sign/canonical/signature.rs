//! From header bytes to a [`Signature`], and the verdict on it.

use std::fmt;
use std::hint::black_box;

use hmac::Mac as _;
use sha2::{Digest as _, Sha256};

use super::MAX_HEADER;
use super::field::Field;
use super::scheme::Scheme;
use super::values::{Sent, Values};
use crate::session::{SessionId, SessionSecret};
use crate::sign::body::{BodyCheck, BodyFault};
use crate::sign::key::HttpKey;
use crate::sign::target::{Mismatch, Target};
use crate::time::UnixTime;

/// Why headers are no signature of a scheme, before any key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// One of the headers is not there.
    #[error("one of the headers is not there")]
    HeaderAbsent,
    /// A header has more than [`MAX_HEADER`] bytes.
    #[error("a header is longer than 512 bytes")]
    HeaderTooLong,
    /// A header has a byte that is neither visible ASCII nor a space.
    #[error("a header has a byte outside printable ASCII")]
    Encoding,
    /// A header has another form than the scheme says.
    #[error("a header has another form than the scheme says")]
    Form,
    /// The session id is none.
    #[error("the session is not a session id")]
    Session,
    /// The time is not in its one spelling.
    #[error("the timestamp is not in the form that the scheme says")]
    Timestamp,
    /// The nonce is too short or too long.
    #[error("the nonce is not 8 to 64 characters")]
    Nonce,
    /// The digest is not 32 bytes in their one spelling.
    #[error("the digest is not 32 bytes in the form that the scheme says")]
    Digest,
    /// The signature is not 32 bytes in their one spelling.
    #[error("the signature is not 32 bytes in the form that the scheme says")]
    Signature,
}

impl Malformed {
    /// Names the cause for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HeaderAbsent => "header_absent",
            Self::HeaderTooLong => "header_too_long",
            Self::Encoding => "encoding",
            Self::Form => "form",
            Self::Session => "session",
            Self::Timestamp => "timestamp",
            Self::Nonce => "nonce",
            Self::Digest => "digest_value",
            Self::Signature => "signature_value",
        }
    }
}

/// A signature in the form of a scheme, not verified yet.
#[derive(Clone)]
pub struct Signature<'a> {
    /// When the client says it signed.
    pub created: UnixTime,
    /// The session whose key is to be used.
    pub session: SessionId,
    scheme: &'a Scheme,
    sent: Sent<'a>,
    digest: Option<[u8; 32]>,
    mac: [u8; 32],
    headers: Vec<&'a str>,
}

impl Scheme {
    /// Reads the headers of one request, whose values `header` knows by their names in lower case.
    /// Whoever provides it has seen to it that none of them is there twice.
    ///
    /// # Errors
    /// The headers are not all there in the form that this scheme says.
    pub fn parse<'a>(
        &'a self,
        header: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Signature<'a>, Malformed> {
        let value = |name: &str| printable(header(name).ok_or(Malformed::HeaderAbsent)?);
        let mut sent = Sent::default();
        for (name, form) in &self.headers {
            form.read(value(name)?, &self.forms, |field, text| sent.set(field, text))
                .ok_or(Malformed::Form)?;
        }
        if self.has.nonce && !(8..=64).contains(&sent.nonce.len()) {
            return Err(Malformed::Nonce);
        }
        let digest = match self.has.digest {
            true => Some(self.forms.digest.decode(sent.digest).ok_or(Malformed::Digest)?),
            false => None,
        };
        Ok(Signature {
            session: SessionId::parse(sent.session).map_err(|_| Malformed::Session)?,
            created: self.forms.timestamp.parse(sent.timestamp).ok_or(Malformed::Timestamp)?,
            scheme: self,
            digest,
            mac: self.forms.signature.decode(sent.signature).ok_or(Malformed::Signature)?,
            headers: self.signed_headers().map(value).collect::<Result<_, _>>()?,
            sent,
        })
    }
}

impl<'a> Signature<'a> {
    /// What no second request of this session may have: the nonce, or the MAC where there is none.
    pub fn replay_key(&self) -> &'a str {
        if self.scheme.has.nonce { self.sent.nonce } else { self.sent.signature }
    }

    /// Decides whether `secret` signed `target`, in time that does not depend on where they differ.
    /// `body` is needed if [`Scheme::needs_body`] says so, and has no bearing otherwise.
    ///
    /// # Errors
    /// The signature was made by another key or for another request, or `target` has bytes that the
    /// scheme cannot spell without doubt.
    pub fn verify(&self, secret: &SessionSecret, target: &Target<'_>, body: &[u8]) -> Result<(), Mismatch> {
        self.check(&HttpKey::canonical(self.scheme.key, secret), target, body)
    }

    /// Does as much work as [`Signature::verify`], and finds nothing. What a request of an unknown
    /// session costs must not tell its sender that there is no such session.
    pub fn spend_time(&self, target: &Target<'_>, body: &[u8]) {
        let secret = SessionSecret::new([0; 32]);
        let _ = black_box(self.verify(&secret, target, body));
    }

    /// The text that the client should have signed, to be shown to someone who looks for the difference.
    pub fn base(&self, target: &Target<'_>, body: &[u8]) -> String {
        let mut base = String::new();
        self.feed(target, body, |piece| base.push_str(&String::from_utf8_lossy(piece)));
        base
    }

    /// Whether the client sent a digest, so that the body is to be checked against it.
    pub fn sends_digest(&self) -> bool {
        self.digest.is_some()
    }

    /// Checks the body against the digest that the client sent, if it did.
    ///
    /// # Errors
    /// The body is another.
    pub fn check_digest(&self, body: &[u8]) -> Result<(), BodyFault> {
        let Some(digest) = self.digest else { return Ok(()) };
        let mut check = BodyCheck::new(Some(digest));
        check.update(body)?;
        check.finish()
    }

    fn check(&self, key: &HttpKey, target: &Target<'_>, body: &[u8]) -> Result<(), Mismatch> {
        if !self.can_spell(target) {
            return Err(Mismatch);
        }
        let mut mac = key.mac();
        self.feed(target, body, |piece| mac.update(piece));
        if key.accepts(mac, &self.mac) { Ok(()) } else { Err(Mismatch) }
    }

    /// Whether the text spells this target and no other: no value has a byte that its field cannot.
    fn can_spell(&self, target: &Target<'_>) -> bool {
        let forms = &self.scheme.forms;
        let query = target.query.is_none_or(|query| {
            self.scheme.allows_query() && !query.is_empty() && forms.admit(Field::Query, query)
        });
        query
            && forms.admit(Field::Method, target.method)
            && forms.admit(Field::Authority, target.authority)
            && forms.admit(Field::Path, target.path)
    }

    fn feed(&self, target: &Target<'_>, body: &[u8], sink: impl FnMut(&[u8])) {
        let computed = self.scheme.needs_body().then(|| {
            let digest: [u8; 32] = Sha256::digest(body).into();
            self.scheme.forms.digest.encode(&digest)
        });
        let digest = computed.as_ref().map_or(self.sent.digest, |text| text.as_str());
        let sent = Sent { digest, ..self.sent };
        let values = Values { target: *target, sent, headers: &self.headers };
        self.scheme.text.write(&values, sink);
    }
}

impl fmt::Debug for Signature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { created, session, .. } = self;
        write!(f, "Signature {{ created: {created}, session: {session}, mac: *** }}")
    }
}

fn printable(value: &[u8]) -> Result<&str, Malformed> {
    if value.len() > MAX_HEADER {
        return Err(Malformed::HeaderTooLong);
    }
    let legal = |b: &u8| b.is_ascii_graphic() || *b == b' ';
    let text = std::str::from_utf8(value).map_err(|_| Malformed::Encoding)?;
    if value.iter().all(legal) { Ok(text) } else { Err(Malformed::Encoding) }
}
