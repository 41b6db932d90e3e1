//! Proves which admin calls by a JWT of the operator's own issuer, in `Authorization: Bearer`.
//!
//! Writes the caller and that it is an admin. Keys come from `jwks_url` (https, fetched beforehand and
//! kept), from `jwks_file: admins.jwks`, or from `secret: { file: ... }` with `algorithms: [HS256]`; what
//! is no key for `algorithms` is passed over. A caller needs one of `roles` here and one of the route's
//! `roles:`; a chain that names none here demands them of every route, and `any` stands for all admins.
//!
//! ```yaml
//! - verify_jwt:
//!     jwks_url: https://id.example.com/.well-known/jwks.json
//!     refresh: 5m            # how often keys are fetched
//!     cooldown: 10s          # how soon again, for a key that nobody knows yet or after a failure
//!     algorithms: [EdDSA, ES256, RS256]
//!     issuer: https://id.example.com
//!     audience: imgate-admin
//!     type: at+jwt           # the `typ`; without this line none, or JWT
//!     leeway: 10s
//!     max_age: 1h            # from `iat` to `exp`
//!     roles: [im-admin]
//! ```

mod bearer;
mod config;
mod keys;

use std::fmt::Write as _;

use async_trait::async_trait;
use imgate_identity::jwt::{Algorithm, Claims, Fault, Kind, Verifier};

pub use self::config::{BadJwt, Config};
pub use self::keys::{BadUrl, Feed, Jwks, JwksUrl, Source};
use self::keys::{Keys, NotFetched};
use crate::context::{Caller, Context, Fact, ProvenAdmin};
use crate::reject::{Cause, Hint, RETRY_AFTER, Reject};
use crate::rules::{Roles, Rule};
use crate::{Credentials, Filter, Flow, Request};

pub(crate) struct VerifyJwt {
    verifier: Verifier,
    algorithms: Box<[Algorithm]>,
    keys: Keys,
    roles: Option<Roles>,
}

#[async_trait]
impl Filter for VerifyJwt {
    fn writes(&self) -> &'static [Fact] {
        &[Fact::Caller, Fact::Admin]
    }

    fn credentials(&self) -> Credentials {
        Credentials::Reads
    }

    fn honours(&self) -> &'static [Rule] {
        &[Rule::Roles]
    }

    fn demands(&self) -> &'static [Rule] {
        if self.roles.is_some() { &[] } else { &[Rule::Roles] }
    }

    fn summary(&self) -> String {
        let policy = self.verifier.policy();
        let algorithms: Vec<&str> = self.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        let mut summary = format!(
            "verifies the JWT of an admin ({} by {}, issuer {}, audience {})",
            algorithms.join(" or "),
            self.keys.describe(),
            policy.issuer,
            policy.audience,
        );
        if let Some(roles) = &self.roles {
            // Writing to a string cannot fail.
            let _ = write!(summary, "; roles {roles}");
        }
        summary
    }

    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        let proven = bearer::token(request.head).and_then(|token| self.verify(token, cx));
        let claims = proven.map_err(silent)?;
        let admin = ProvenAdmin { subject: claims.subject, roles: claims.roles };
        for roles in [&self.roles, &cx.place.rules.roles].into_iter().flatten() {
            if !roles.admit(&admin.roles) {
                return Err(Reject::new(Cause::Forbidden, "role_missing"));
            }
        }
        cx.caller = Some(Caller::Admin(admin));
        Ok(Flow::Continue)
    }
}

impl VerifyJwt {
    fn verify(&self, token: &[u8], cx: &Context) -> Result<Claims, Reject> {
        let keys = self.keys.current().map_err(|NotFetched| {
            Reject::new(Cause::StoreUnavailable, "jwks_not_fetched").with(Hint::RetryAfter(RETRY_AFTER))
        })?;
        self.verifier.verify(token, &keys, cx.now).map_err(|fault| {
            if fault == Fault::UnknownKey {
                self.keys.miss();
            }
            refusal(fault, cx)
        })
    }
}

/// What is wrong with a token is told to no client: it would help to make a better one.
fn silent(reject: Reject) -> Reject {
    match reject.hint {
        Hint::None => reject.with(Hint::Bearer),
        _ => reject,
    }
}

/// An expired token is a signature that holds no longer: a corrected clock would not mend it, a new
/// token does. A token whose time has not come is mended by time, so there the client is told ours.
fn refusal(fault: Fault, cx: &Context) -> Reject {
    match fault.kind() {
        Kind::Malformed => Reject::new(Cause::CredentialMalformed, fault.as_str()),
        Kind::Refused => Reject::new(Cause::SignatureMismatch, fault.as_str()),
        Kind::Early => Reject::new(Cause::ClockSkew, fault.as_str()).with(Hint::ServerTime(cx.now)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
