//! Proves who calls by the signature over the request (RFC 9421, one fixed profile).
//!
//! Writes the caller. Checks go from cheap to dear, and nothing is written down before the signature
//! is known to be good: structure, clock, session, MAC, ban, body digest, nonce. The route decides
//! what is required; nothing in the request chooses a weaker mode.
//!
//! ```yaml
//! - verify_signature: { scheme: rfc9421, clock_skew: 60s, replay: local, max_nonces: 4000000 }
//! ```

mod replay;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::HOST;
use http::{HeaderName, HeaderValue};
use imgate_identity::session::{Session, Standing};
use imgate_identity::sign::{HttpKey, Presented, Signature, Target};
use imgate_identity::store::{Claim, Store};
use imgate_identity::user::UserId;
use pingora_http::RequestHeader;
use serde::Deserialize;

pub use self::replay::ReplayMemory;
use self::replay::Seen;
use crate::context::{Caller, Context, Fact, ProvenUser};
use crate::reject::{Cause, Hint, RETRY_AFTER, Reject};
use crate::{Authorities, BodyUse, BuildError, Credentials, Deps, Filter, Flow, Request, Rule};

/// The signature itself. Source: RFC 9421 section 4.2.
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// What it covers. Source: RFC 9421 section 4.1.
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// The digest of the body. Source: RFC 9530 section 2.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// How requests are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// HTTP Message Signatures in imgate's one profile.
    #[default]
    Rfc9421,
}

/// Where it is remembered that a nonce was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// Nowhere: within the clock skew a captured request can be sent again.
    Off,
    /// In this process: a replay to another gateway, or after a restart, is not seen.
    #[default]
    Local,
    /// In Redis, for all gateways; one write per request, and 503 while Redis is away.
    Redis,
}

/// The widest clock skew that makes sense.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// How much longer than the signature is valid its nonce is kept in Redis.
const NONCE_MARGIN: Duration = Duration::from_secs(5);

/// The YAML of this filter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How requests are signed.
    pub scheme: Scheme,
    /// How far a client's clock may be from ours, either way; at most 5 minutes.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub clock_skew: Duration,
    /// Where used nonces are remembered.
    pub replay: Replay,
    /// How many nonces `replay: local` remembers at the most. When it is full, requests are refused
    /// (503) rather than nonces forgotten. About 40 bytes each.
    pub max_nonces: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheme: Scheme::default(),
            clock_skew: Duration::from_secs(60),
            replay: Replay::default(),
            max_nonces: 4_000_000,
        }
    }
}

impl Config {
    pub(crate) fn build(&self, deps: &Deps) -> Result<VerifySignature, BuildError> {
        if self.clock_skew > MAX_CLOCK_SKEW {
            return Err(BuildError::WideSkew);
        }
        if self.max_nonces == 0 {
            return Err(BuildError::NoNonces);
        }
        let nonces = match self.replay {
            Replay::Off => Nonces::Forgotten,
            Replay::Local => {
                deps.replays.allow_for(self.max_nonces, self.clock_skew);
                Nonces::Local(Arc::clone(&deps.replays))
            }
            Replay::Redis => Nonces::Shared,
        };
        Ok(VerifySignature {
            store: Arc::clone(&deps.store),
            authorities: Arc::clone(&deps.authorities),
            admin_users: Arc::clone(&deps.admin_users),
            clock_skew: self.clock_skew,
            nonces,
        })
    }
}

enum Nonces {
    Forgotten,
    Local(Arc<ReplayMemory>),
    Shared,
}

pub(crate) struct VerifySignature {
    store: Arc<Store>,
    authorities: Arc<Authorities>,
    admin_users: Arc<HashSet<UserId>>,
    clock_skew: Duration,
    nonces: Nonces,
}

#[async_trait]
impl Filter for VerifySignature {
    fn writes(&self) -> &'static [Fact] {
        &[Fact::Caller, Fact::User]
    }

    fn body(&self) -> BodyUse {
        BodyUse::Reads
    }

    fn credentials(&self) -> Credentials {
        Credentials::Reads
    }

    fn honours(&self) -> &'static [Rule] {
        &[Rule::Platforms]
    }

    fn summary(&self) -> String {
        let replay = match self.nonces {
            Nonces::Forgotten => "replays not checked",
            Nonces::Local(_) => "replays refused by this process",
            Nonces::Shared => "replays refused by Redis",
        };
        format!("verifies the RFC 9421 signature (clock within {} s, {replay})", self.clock_skew.as_secs())
    }

    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        let user = self.verify(request, cx).await?;
        cx.caller = Some(Caller::User(user));
        Ok(Flow::Continue)
    }
}

impl VerifySignature {
    async fn verify(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<ProvenUser, Reject> {
        // The three headers are shared, not copied: a `HeaderValue` is reference-counted bytes.
        let headers = Headers::of(request.head)?;
        let signature = headers.parse(request.body.is_announced())?;
        self.check_clock(&signature, cx)?;

        let session = self.store.session(&signature.key_id).await?;
        let target = self.target(request.head)?;
        let session = self.check_session(session, &signature, &target, cx)?;
        let mut user = self.check_user(session, cx).await?;

        if signature.covers_body() {
            let body = request.body.read().await?;
            signature
                .check_digest(&body)
                .map_err(|why| Reject::new(Cause::SignatureMismatch, why.as_str()))?;
            let arrived = (cx.clock)();
            if arrived != cx.now {
                // The client chose how long this took. All that depends on time or may have been revoked
                // is asked again, above all before the nonce: its memory ends with the signature's life.
                cx.now = arrived;
                self.check_clock(&signature, cx)?;
                let session = self.store.session(&signature.key_id).await?;
                user = self.check_user(check_standing(session, cx)?, cx).await?;
            }
        }
        self.claim_nonce(&signature, cx).await?;
        Ok(user)
    }

    async fn check_user(&self, session: Arc<Session>, cx: &Context) -> Result<ProvenUser, Reject> {
        let record = self.store.user(&session.user).await?;
        if record.ban.as_ref().is_some_and(|ban| ban.holds(cx.now)) {
            return Err(Reject::new(Cause::SessionRevoked, "user_banned"));
        }
        if !cx.place.rules.admit(session.platform) {
            return Err(Reject::new(Cause::Forbidden, "platform_not_admitted"));
        }
        Ok(ProvenUser {
            id: session.user.clone(),
            platform: session.platform,
            session: Some(session),
            record,
        })
    }

    fn check_clock(&self, signature: &Signature<'_>, cx: &Context) -> Result<(), Reject> {
        if cx.now.distance(signature.created) <= self.clock_skew {
            return Ok(());
        }
        Err(Reject::new(Cause::ClockSkew, "clock_skew").with(Hint::ServerTime(cx.now)))
    }

    /// Reads what the signature covers in the form it was signed in: the bytes as they were sent.
    fn target<'a>(&'a self, head: &'a RequestHeader) -> Result<Target<'a>, Reject> {
        let bad = |reason| Reject::new(Cause::BadRequest, reason);
        let raw = std::str::from_utf8(head.raw_path()).map_err(|_| bad("target_not_ascii"))?;
        let (path, query) = match raw.split_once('?') {
            // RFC 9421 section 2.2.7 cannot tell `/x?` from `/x`, so only one of them is taken.
            Some((_, "")) => return Err(bad("bare_question_mark")),
            Some((path, query)) => (path, Some(query)),
            None => (raw, None),
        };
        let host = head.headers.get(HOST).and_then(|h| h.to_str().ok()).ok_or_else(|| bad("host_missing"))?;
        let authority = self.authorities.find(host).ok_or_else(|| bad("unknown_authority"))?;
        Ok(Target { method: head.method.as_str(), authority, path, query })
    }

    fn check_session(
        &self,
        session: Option<Arc<Session>>,
        signature: &Signature<'_>,
        target: &Target<'_>,
        cx: &Context,
    ) -> Result<Arc<Session>, Reject> {
        let Some(session) = session else {
            // The same work as for a session that exists, so that time does not tell them apart.
            let _ = signature.verify(HttpKey::decoy(), target);
            return check_standing(None, cx);
        };
        let session = check_standing(Some(session), cx)?;
        if self.admin_users.contains(&session.user) {
            return Err(Reject::new(Cause::Forbidden, "admin_on_user_surface"));
        }
        if !session.keys(cx.now).any(|key| signature.verify(key, target).is_ok()) {
            return Err(Reject::new(Cause::SignatureMismatch, "signature_mismatch"));
        }
        Ok(session)
    }

    async fn claim_nonce(&self, signature: &Signature<'_>, cx: &Context) -> Result<(), Reject> {
        let claim = match &self.nonces {
            Nonces::Forgotten => return Ok(()),
            Nonces::Local(memory) => match memory.claim(&signature.key_id, signature.nonce, cx.now) {
                Seen::Never => Claim::Fresh,
                Seen::Before => Claim::Seen,
                Seen::Full => {
                    let reject = Reject::new(Cause::Overloaded, "nonces_full");
                    return Err(reject.with(Hint::RetryAfter(RETRY_AFTER)));
                }
            },
            Nonces::Shared => {
                let ttl = cx.now.until(signature.created.plus(self.clock_skew)) + NONCE_MARGIN;
                self.store.claim_nonce(&signature.key_id, signature.nonce, ttl).await?
            }
        };
        match claim {
            Claim::Fresh => Ok(()),
            Claim::Seen => Err(Reject::new(Cause::Replayed, "nonce_seen")),
        }
    }
}

fn check_standing(session: Option<Arc<Session>>, cx: &Context) -> Result<Arc<Session>, Reject> {
    let session = session.ok_or_else(|| Reject::new(Cause::SessionUnknown, "session_unknown"))?;
    match session.standing(cx.now) {
        Standing::Live => Ok(session),
        Standing::Expired => Err(Reject::new(Cause::SessionUnknown, "session_expired")),
        Standing::Revoked => Err(Reject::new(Cause::SessionRevoked, "session_revoked")),
    }
}

/// The credential headers of a request, each there at most once.
struct Headers {
    signature: HeaderValue,
    signature_input: HeaderValue,
    content_digest: Option<HeaderValue>,
}

impl Headers {
    fn of(head: &RequestHeader) -> Result<Self, Reject> {
        let signature = only(head, &SIGNATURE)?;
        let signature_input = only(head, &SIGNATURE_INPUT)?;
        let content_digest = only(head, &CONTENT_DIGEST)?;
        match (signature, signature_input) {
            (Some(signature), Some(signature_input)) => {
                Ok(Self { signature, signature_input, content_digest })
            }
            (None, None) => Err(Reject::new(Cause::CredentialMissing, "signature_missing")),
            _ => Err(Reject::new(Cause::CredentialMalformed, "signature_incomplete")),
        }
    }

    fn parse(&self, has_body: bool) -> Result<Signature<'_>, Reject> {
        let malformed = |reason| Reject::new(Cause::CredentialMalformed, reason);
        let signature = Signature::parse(Presented {
            signature_input: self.signature_input.as_bytes(),
            signature: self.signature.as_bytes(),
            content_digest: self.content_digest.as_ref().map(HeaderValue::as_bytes),
        })
        .map_err(|why| malformed(why.as_str()))?;
        match (has_body, signature.covers_body()) {
            (true, false) => Err(malformed("body_not_covered")),
            (false, true) => Err(malformed("digest_without_body")),
            _ => Ok(signature),
        }
    }
}

fn only(head: &RequestHeader, name: &HeaderName) -> Result<Option<HeaderValue>, Reject> {
    let mut values = head.headers.get_all(name).iter();
    let first = values.next().cloned();
    if values.next().is_some() {
        return Err(Reject::new(Cause::CredentialMalformed, "credential_duplicated"));
    }
    Ok(first)
}

#[cfg(test)]
mod tests;
