//! Tells a sidecar who calls, in a signed header the sidecar can check.
//!
//! Reads the caller, sets `X-Imgate-Assertion`: an EdDSA JWT that lives 30 seconds and names the
//! upstream as its audience. Whatever the client sent under `X-Imgate-*` is gone before any chain.
//!
//! ```yaml
//! - assert_identity: {}
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use imgate_identity::assertion::{self, AssertionKey, Caller, Claims};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::{self, Context, Fact, ProvenUser};
use crate::reject::{Cause, Reject};
use crate::{BuildError, Deps, Filter, Flow, Request, set_header};

/// The header a sidecar reads.
pub const HEADER: HeaderName = HeaderName::from_static(assertion::HEADER);

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

impl Config {
    pub(crate) fn build(&self, deps: &Deps) -> Result<AssertIdentity, BuildError> {
        let key = deps.assertion_key.clone().ok_or(BuildError::NoAssertionKey)?;
        Ok(AssertIdentity { key })
    }
}

pub(crate) struct AssertIdentity {
    key: Arc<AssertionKey>,
}

#[async_trait]
impl Filter for AssertIdentity {
    fn reads(&self) -> &'static [Fact] {
        &[Fact::Caller]
    }

    fn summary(&self) -> String {
        "sets x-imgate-assertion (who calls, signed, for 30 s)".to_owned()
    }

    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        let (who, roles) = match &cx.caller {
            Some(context::Caller::User(user)) => (told(user), Vec::new()),
            Some(context::Caller::Admin(admin)) => {
                (Caller::Admin { subject: admin.subject.clone() }, admin.roles.to_vec())
            }
            None => return Err(Reject::new(Cause::CredentialMissing, "caller_unknown")),
        };
        let claims = Claims::new(who, roles, &cx.place.upstream, cx.operation_id.as_str(), cx.now);
        let token = self.key.sign(&claims);
        let mut value = HeaderValue::from_str(&token)
            .map_err(|_| Reject::new(Cause::StoreUnavailable, "assertion_unprintable"))?;
        value.set_sensitive(true);
        set_header(request.head, HEADER, value);
        Ok(Flow::Continue)
    }
}

fn told(user: &ProvenUser) -> Caller {
    Caller::User {
        user: user.id.clone(),
        platform: user.platform,
        session: user.session.as_ref().map(|session| session.id),
        device: user.session.as_ref().map(|session| session.device.clone()),
    }
}

#[cfg(test)]
mod tests {
    use imgate_identity::assertion::{AssertionKey, AssertionVerifier, Caller};

    use crate::testing::{NOW, PUBLIC_PEM, run, signed_post};

    const CHAIN: &str = "- verify_signature: {}\n- assert_identity: {}";

    #[tokio::test]
    async fn the_sidecar_learns_who_calls_and_for_whom_it_is() {
        let out = run(CHAIN, signed_post("/x", "{}").header("X-Imgate-Assertion", "forged")).await;
        let [token] = out.sent("x-imgate-assertion")[..] else { panic!("one assertion") };
        let verifier = AssertionVerifier::from_pem(PUBLIC_PEM.as_bytes()).unwrap();
        let claims = verifier.verify(token, "openim_api", NOW).unwrap();
        let Caller::User { user, session, .. } = claims.caller else { panic!("a user") };
        assert_eq!((user.as_str(), session), ("u1", Some(crate::testing::session_of("u1"))));
        assert!(verifier.verify(token, "another", NOW).is_err());
    }

    #[test]
    fn a_key_is_no_secret_for_debug() {
        let key = AssertionKey::from_pem(crate::testing::PEM.as_bytes()).unwrap();
        assert!(!format!("{key:?}").contains("ZGVm"));
    }
}
