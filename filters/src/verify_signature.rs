//! Proves who calls by the signature over the request.
//!
//! `scheme: rfc9421` is one fixed profile of the standard. `scheme: { canonical: ... }` is for apps that
//! sign another way already: headers, text and spelling as given here.
//!
//! Writes the caller. Checks go from cheap to dear, and nothing is written down before the signature
//! is known to be good: structure, clock, session, MAC, ban, body digest, nonce. The route decides
//! what is required; nothing in the request chooses a weaker mode.
//!
//! ```yaml
//! - verify_signature: { scheme: rfc9421, clock_skew: 60s, replay: local, max_nonces: 4000000 }
//! ```
//!
//! ```yaml
//! - verify_signature:
//!     scheme:
//!       canonical:
//!         headers: # each has its exact form, and all must be there
//!           x-app-session: "{session}"
//!           x-app-time: "{timestamp}"
//!           x-app-nonce: "{nonce}"
//!           x-app-body: "sha256={digest}"
//!           x-app-signature: "{signature}"
//!         string_to_sign: |- # `|` instead of `|-` ends the text with a line feed
//!           {method}
//!           {authority}
//!           {path}
//!           {query}
//!           {timestamp} {nonce}
//!           {digest}
//!         encoding: hex # of the signature: hex, base64 or base64url
//!         digest: hex # of {digest}, likewise
//!         key: hkdf # the secret as raw bytes, as base64 or hex text, or through hkdf
//!         timestamp: ms # or s, http_date, iso8601
//! ```

mod replay;
mod scheme;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderName;
use http::header::HOST;
use imgate_identity::session::Session;
use imgate_identity::sign::Target;
use imgate_identity::sign::canonical;
use imgate_identity::store::{Claim, Store};
use imgate_identity::user::UserId;
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::replay::ReplayMemory;
use self::replay::Seen;
pub use self::scheme::Scheme;
use self::scheme::{Credential, Reader, malformed};
use crate::context::{Caller, Context, Fact, ProvenUser};
use crate::reject::{Cause, Hint, RETRY_AFTER, Reject};
use crate::{
    Authorities, BodyUse, BuildError, Credentials, Deps, Filter, Flow, Request, Rule, Warning, proof,
};

/// The signature itself. Source: RFC 9421 section 4.2.
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// What it covers. Source: RFC 9421 section 4.1.
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// The digest of the body. Source: RFC 9530 section 2.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// Where it is remembered that a nonce was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How requests are signed.
    pub scheme: Scheme,
    /// How far a client's clock may be from ours, either way; at most 5 minutes.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(schema_with = "crate::duration::schema")]
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
            scheme: Reader::new(&self.scheme)?,
        })
    }

    /// What is doubtful about it.
    pub(crate) fn warning(&self) -> Option<Warning> {
        let Scheme::Canonical(config) = &self.scheme else { return None };
        let scheme = canonical::Scheme::new(config).ok()?;
        let gaps: Vec<String> = scheme.gaps().iter().map(ToString::to_string).collect();
        (!gaps.is_empty()).then(|| Warning::WeakSignature(gaps.join(", ").into()))
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
    scheme: Reader,
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

    fn credential_headers(&self) -> &[HeaderName] {
        self.scheme.headers()
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
        let (scheme, skew) = (self.scheme.summary(), self.clock_skew.as_secs());
        format!("verifies {scheme} (clock within {skew} s, {replay})")
    }

    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        let user = self.verify(request, cx).await?;
        cx.caller = Some(Caller::User(user));
        Ok(Flow::Continue)
    }
}

impl VerifySignature {
    async fn verify(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<ProvenUser, Reject> {
        let head = &*request.head;
        let credential = self.scheme.read(head, request.body.is_announced())?;
        self.check_clock(&credential, cx)?;
        let signed_body = if self.scheme.needs_body() {
            // Read for anybody who has a likely credential: no header says what the body should be.
            let body = request.body.read().await?;
            cx.now = (cx.clock)();
            self.check_clock(&credential, cx)?;
            body
        } else {
            Bytes::new()
        };

        let session = self.store.session(&credential.session).await?;
        let target = self.target(head)?;
        let session = self.check_session(session, &credential, &target, &signed_body, cx)?;
        let mut user = self.check_user(session, cx).await?;

        if credential.sends_digest() {
            let body = request.body.read().await?;
            credential
                .check_digest(&body)
                .map_err(|why| Reject::new(Cause::SignatureMismatch, why.as_str()))?;
            let arrived = (cx.clock)();
            if arrived != cx.now {
                // The client chose how long this took. All that depends on time or may have been revoked
                // is asked again, above all before the nonce: its memory ends with the signature's life.
                cx.now = arrived;
                self.check_clock(&credential, cx)?;
                let session = self.store.session(&credential.session).await?;
                user = self.check_user(proof::live(session, cx.now)?, cx).await?;
            }
        }
        self.claim_nonce(&credential, cx).await?;
        Ok(user)
    }

    async fn check_user(&self, session: Arc<Session>, cx: &Context) -> Result<ProvenUser, Reject> {
        let record = self.store.user(&session.user).await?;
        let (id, platform) = (session.user.clone(), session.platform);
        proof::admit(ProvenUser { id, platform, session: Some(session), record }, cx)
    }

    fn check_clock(&self, credential: &Credential<'_>, cx: &Context) -> Result<(), Reject> {
        if cx.now.distance(credential.created) <= self.clock_skew {
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
        if query.is_some() && !self.scheme.allows_query() {
            return Err(malformed("query_not_covered"));
        }
        Ok(Target { method: head.method.as_str(), authority, path, query })
    }

    fn check_session(
        &self,
        session: Option<Arc<Session>>,
        credential: &Credential<'_>,
        target: &Target<'_>,
        body: &[u8],
        cx: &Context,
    ) -> Result<Arc<Session>, Reject> {
        let Some(session) = session else {
            // The same work as for a session that exists, so that time does not tell them apart.
            credential.spend_time(target, body);
            return proof::live(None, cx.now);
        };
        let session = proof::live(Some(session), cx.now)?;
        proof::no_admin(&session.user, session.platform, &self.admin_users)?;
        if !credential.is_by(&session, cx.now, target, body) {
            return Err(Reject::new(Cause::SignatureMismatch, "signature_mismatch"));
        }
        Ok(session)
    }

    async fn claim_nonce(&self, credential: &Credential<'_>, cx: &Context) -> Result<(), Reject> {
        let claim = match &self.nonces {
            Nonces::Forgotten => return Ok(()),
            Nonces::Local(memory) => match memory.claim(&credential.session, credential.replay_key, cx.now) {
                Seen::Never => Claim::Fresh,
                Seen::Before => Claim::Seen,
                Seen::Full => {
                    let reject = Reject::new(Cause::Overloaded, "nonces_full");
                    return Err(reject.with(Hint::RetryAfter(RETRY_AFTER)));
                }
            },
            Nonces::Shared => {
                let ttl = cx.now.until(credential.created.plus(self.clock_skew)) + NONCE_MARGIN;
                self.store.claim_nonce(&credential.session, credential.replay_key, ttl).await?
            }
        };
        match claim {
            Claim::Fresh => Ok(()),
            Claim::Seen => Err(Reject::new(Cause::Replayed, "nonce_seen")),
        }
    }
}

#[cfg(test)]
mod tests;
