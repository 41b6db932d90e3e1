//! The ways requests may be signed. They differ in what is read and in the MAC; the checks around
//! them, and their order, are the same.

use http::{HeaderName, HeaderValue};
use imgate_identity::session::{Session, SessionId};
use imgate_identity::sign::canonical::{self, BadScheme};
use imgate_identity::sign::{BodyFault, HttpKey, Presented, Signature, Target};
use imgate_identity::time::UnixTime;
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{CONTENT_DIGEST, SIGNATURE, SIGNATURE_INPUT};
use crate::proof;
use crate::reject::{Cause, Reject};

/// The headers of an RFC 9421 signature.
static RFC9421: [HeaderName; 3] = [SIGNATURE, SIGNATURE_INPUT, CONTENT_DIGEST];

/// How requests are signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// HTTP Message Signatures in imgate's one profile.
    #[default]
    Rfc9421,
    /// As the app signs already.
    Canonical(Box<canonical::Config>),
}

/// A scheme, ready to read requests.
pub(super) enum Reader {
    Rfc9421,
    Canonical(Box<Canonical>),
}

/// A scheme from the configuration, with the names of its headers as requests have them.
pub(super) struct Canonical {
    scheme: canonical::Scheme,
    credentials: Box<[HeaderName]>,
    signed: Box<[HeaderName]>,
}

impl Reader {
    pub(super) fn new(scheme: &Scheme) -> Result<Self, BadScheme> {
        let Scheme::Canonical(config) = scheme else { return Ok(Self::Rfc9421) };
        let scheme = canonical::Scheme::new(config)?;
        let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).map_err(|_| BadScheme::HeaderName);
        let credentials = scheme.headers().map(name).collect::<Result<_, _>>()?;
        let signed = scheme.signed_headers().map(name).collect::<Result<_, _>>()?;
        Ok(Self::Canonical(Box::new(Canonical { scheme, credentials, signed })))
    }

    /// The headers that carry the credential.
    pub(super) fn headers(&self) -> &[HeaderName] {
        match self {
            Self::Rfc9421 => &RFC9421,
            Self::Canonical(canonical) => &canonical.credentials,
        }
    }

    /// Whether nothing can be decided before the body is there.
    pub(super) fn needs_body(&self) -> bool {
        matches!(self, Self::Canonical(canonical) if canonical.scheme.needs_body())
    }

    /// Whether a request may have a query.
    pub(super) fn allows_query(&self) -> bool {
        match self {
            Self::Rfc9421 => true,
            Self::Canonical(canonical) => canonical.scheme.allows_query(),
        }
    }

    /// A few words for `imgate explain`.
    pub(super) fn summary(&self) -> String {
        let Self::Canonical(canonical) = self else { return "the RFC 9421 signature".to_owned() };
        let names: Vec<&str> = canonical.scheme.headers().collect();
        let weak = if canonical.scheme.gaps().is_empty() { "" } else { "weak " };
        format!("the app's own {weak}signature in {}", names.join(", "))
    }

    /// Reads the credential of a request.
    pub(super) fn read<'a>(
        &'a self,
        head: &'a RequestHeader,
        has_body: bool,
    ) -> Result<Credential<'a>, Reject> {
        match self {
            Self::Rfc9421 => rfc9421(head, has_body),
            Self::Canonical(canonical) => canonical.read(head),
        }
    }
}

/// What a request says of its caller, not verified yet.
pub(super) struct Credential<'a> {
    /// When the client says it signed.
    pub(super) created: UnixTime,
    /// Whose key is to be used.
    pub(super) session: SessionId,
    /// What no second request of this session may have.
    pub(super) replay_key: &'a str,
    signature: Kind<'a>,
}

enum Kind<'a> {
    Rfc9421(Signature<'a>),
    Canonical(canonical::Signature<'a>),
}

impl Credential<'_> {
    /// Whether one of the session's keys signed this. `body` counts only where [`Reader::needs_body`].
    pub(super) fn is_by(&self, session: &Session, now: UnixTime, target: &Target<'_>, body: &[u8]) -> bool {
        match &self.signature {
            Kind::Rfc9421(signature) => session.keys(now).any(|key| signature.verify(key, target).is_ok()),
            Kind::Canonical(signature) => {
                session.secrets(now).any(|secret| signature.verify(secret, target, body).is_ok())
            }
        }
    }

    /// Works as hard as [`Credential::is_by`], so that time does not tell that there is no session.
    pub(super) fn spend_time(&self, target: &Target<'_>, body: &[u8]) {
        match &self.signature {
            Kind::Rfc9421(signature) => {
                let _ = signature.verify(HttpKey::decoy(), target);
            }
            Kind::Canonical(signature) => signature.spend_time(target, body),
        }
    }

    /// Whether a header has the body's digest, against which the body is to be checked.
    pub(super) fn sends_digest(&self) -> bool {
        match &self.signature {
            Kind::Rfc9421(signature) => signature.covers_body(),
            Kind::Canonical(signature) => signature.sends_digest(),
        }
    }

    pub(super) fn check_digest(&self, body: &[u8]) -> Result<(), BodyFault> {
        match &self.signature {
            Kind::Rfc9421(signature) => signature.check_digest(body),
            Kind::Canonical(signature) => signature.check_digest(body),
        }
    }
}

impl Canonical {
    fn read<'a>(&'a self, head: &'a RequestHeader) -> Result<Credential<'a>, Reject> {
        let mut found = 0;
        for name in &self.credentials {
            found += usize::from(only(head, name)?.is_some());
        }
        match found {
            0 => return Err(missing()),
            n if n < self.credentials.len() => return Err(incomplete()),
            _ => {}
        }
        for name in &self.signed {
            only(head, name)?;
        }
        let value = |name: &str| head.headers.get(name).map(HeaderValue::as_bytes);
        let signature = self.scheme.parse(value).map_err(|why| malformed(why.as_str()))?;
        Ok(Credential {
            created: signature.created,
            session: signature.session,
            replay_key: signature.replay_key(),
            signature: Kind::Canonical(signature),
        })
    }
}

fn rfc9421(head: &RequestHeader, has_body: bool) -> Result<Credential<'_>, Reject> {
    let signature = only(head, &SIGNATURE)?;
    let signature_input = only(head, &SIGNATURE_INPUT)?;
    let content_digest = only(head, &CONTENT_DIGEST)?;
    let presented = match (signature, signature_input) {
        (Some(signature), Some(signature_input)) => Presented { signature_input, signature, content_digest },
        (None, None) => return Err(missing()),
        _ => return Err(incomplete()),
    };
    let signature = Signature::parse(presented).map_err(|why| malformed(why.as_str()))?;
    match (has_body, signature.covers_body()) {
        (true, false) => return Err(malformed("body_not_covered")),
        (false, true) => return Err(malformed("digest_without_body")),
        _ => {}
    }
    Ok(Credential {
        created: signature.created,
        session: signature.key_id,
        replay_key: signature.nonce,
        signature: Kind::Rfc9421(signature),
    })
}

/// The value of a header that may be there once.
fn only<'a>(head: &'a RequestHeader, name: &HeaderName) -> Result<Option<&'a [u8]>, Reject> {
    Ok(proof::only(head, name)?.map(HeaderValue::as_bytes))
}

pub(super) fn malformed(reason: &'static str) -> Reject {
    Reject::new(Cause::CredentialMalformed, reason)
}

fn missing() -> Reject {
    Reject::new(Cause::CredentialMissing, "signature_missing")
}

fn incomplete() -> Reject {
    malformed("signature_incomplete")
}

#[cfg(test)]
mod tests;
