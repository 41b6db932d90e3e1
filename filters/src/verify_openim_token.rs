//! Proves who calls by the OpenIM token itself, for clients that hold the one their login gave them.
//!
//! Writes the caller, without a session. The token's claims only say where to look: what counts is that
//! the store holds the very same token for that user and kind of device. Whoever deletes or replaces it
//! there has locked the old one out. Verdicts are those OpenIM would give; before one is given for a
//! token that is not the stored one, the store is read anew, since a login may just have replaced it.
//! So each forged token costs a read: put a `rate_limit` by address above.
//!
//! ```yaml
//! - verify_openim_token: {}
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use imgate_identity::store::{Store, User};
use imgate_identity::token::OpenimToken;
use imgate_identity::user::UserId;
use schemars::JsonSchema;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use crate::context::{Caller, Context, Fact, ProvenUser};
use crate::reject::{Cause, Reject};
use crate::{BodyUse, BuildError, Credentials, Deps, Filter, Flow, Request, Rule, proof};

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

impl Config {
    pub(crate) fn build(&self, deps: &Deps) -> Result<VerifyOpenimToken, BuildError> {
        Ok(VerifyOpenimToken { store: Arc::clone(&deps.store), admin_users: Arc::clone(&deps.admin_users) })
    }
}

pub(crate) struct VerifyOpenimToken {
    store: Arc<Store>,
    admin_users: Arc<HashSet<UserId>>,
}

#[async_trait]
impl Filter for VerifyOpenimToken {
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
        "verifies that the token header holds the caller's stored OpenIM token".to_owned()
    }

    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        let token = proof::bearer(request.head)?;
        let mut user = self.verify(token.as_bytes(), cx).await?;
        if proof::await_body(request, cx).await? {
            user = self.verify(token.as_bytes(), cx).await?;
        }
        cx.caller = Some(Caller::User(user));
        Ok(Flow::Continue)
    }
}

impl VerifyOpenimToken {
    /// Decides whose token it is, wherever it was found.
    ///
    /// # Errors
    /// The token is no good, the user may not call here, or the store is away.
    pub(crate) async fn verify(&self, raw: &[u8], cx: &Context) -> Result<ProvenUser, Reject> {
        let shown = OpenimToken::parse(raw)
            .map_err(|_| Reject::new(Cause::TokenInvalid, "openim_token_malformed"))?;
        if shown.expired(cx.now) {
            return Err(Reject::new(Cause::SessionUnknown, "openim_token_expired"));
        }
        proof::no_admin(&shown.user, shown.platform, &self.admin_users)?;
        let record = self.find(&shown).await?;
        let (id, platform) = (shown.user, shown.platform);
        proof::admit(ProvenUser { id, platform, session: None, record }, cx)
    }

    /// Finds the record that holds the token, if need be past the cache.
    async fn find(&self, shown: &OpenimToken) -> Result<Arc<User>, Reject> {
        let cached = self.store.user(&shown.user).await?;
        if holds(&cached, shown) {
            return Ok(cached);
        }
        let fresh = self.store.refresh_user(&shown.user).await?;
        if holds(&fresh, shown) {
            return Ok(fresh);
        }
        Err(match fresh.token(shown.platform) {
            Some(_) => Reject::new(Cause::TokenInvalid, "openim_token_not_the_stored_one"),
            None => Reject::new(Cause::TokenMissing, "token_missing"),
        })
    }
}

/// Whether this is the stored token, in time that does not depend on where they differ.
fn holds(record: &User, shown: &OpenimToken) -> bool {
    let stored = record.token(shown.platform);
    stored.is_some_and(|stored| stored.expose().as_bytes().ct_eq(shown.expose().as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use crate::testing::{
        NOW, Refused, Sample, USER_TOKEN, get, let_time_pass, openim_token, post, run, session_token,
    };

    const CHAIN: &str = "- verify_openim_token: {}";

    fn refused(status: u16, err_code: u32, reason: &'static str) -> Option<Refused> {
        Some(Refused { status, err_code, reason })
    }

    fn with(token: &str) -> Sample {
        post("/x", "{}").header("token", token)
    }

    /// A token as OpenIM could have made it; whether it is the stored one hangs on every byte.
    fn of(user: &str, platform: u8, exp: u64) -> Sample {
        with(&openim_token(user, platform, exp))
    }

    #[tokio::test]
    async fn the_stored_token_tells_its_caller() {
        let out = run(CHAIN, with(&USER_TOKEN)).await;
        assert_eq!(out.refused(), None);
        let user = out.cx.user().unwrap();
        assert_eq!((user.id.as_str(), user.platform.number()), ("u1", 2));
        assert!(user.session.is_none());

        let chain =
            "- verify_openim_token: {}\n- resolve_token: {}\n- strip_credentials: {}\n- inject_token: {}";
        assert_eq!(run(chain, with(&USER_TOKEN)).await.sent("token"), [USER_TOKEN.as_str()]);
    }

    #[tokio::test]
    async fn each_token_is_good_on_its_own_kind_of_device() {
        for platform in [1, 5] {
            let out = run(CHAIN, of("many", platform, NOW.0 + 1000)).await;
            assert_eq!(out.refused(), None);
            assert_eq!(out.cx.user().unwrap().platform.number(), platform);
        }
        let none = run(CHAIN, of("many", 2, NOW.0 + 1000)).await;
        assert_eq!(none.refused(), refused(401, 1507, "token_missing"));
    }

    #[tokio::test]
    async fn any_other_token_gets_openims_verdict() {
        let forged = format!("{}A", USER_TOKEN.as_str());
        let cases = [
            (with(""), refused(401, 1505, "openim_token_malformed")),
            (with("a.b.c"), refused(401, 1505, "openim_token_malformed")),
            (with(&forged), refused(401, 1505, "openim_token_malformed")),
            (of("u1", 2, NOW.0 + 999), refused(401, 1505, "openim_token_not_the_stored_one")),
            (of("u1", 5, NOW.0 + 1000), refused(401, 1505, "openim_token_not_the_stored_one")),
            (of("no-token", 2, NOW.0 + 1000), refused(401, 1507, "token_missing")),
            (of("nobody", 2, NOW.0 + 1000), refused(401, 1507, "token_missing")),
            (of("old-token", 2, NOW.0 - 1), refused(401, 1501, "openim_token_expired")),
            (of("banned", 2, NOW.0 + 1000), refused(401, 1506, "user_banned")),
            (of("banned", 2, NOW.0 + 999), refused(401, 1505, "openim_token_not_the_stored_one")),
            (of("imAdmin", 2, NOW.0 + 1000), refused(403, 1002, "admin_on_user_surface")),
            (of("imAdmin", 10, NOW.0 + 1000), refused(403, 1002, "admin_on_user_surface")),
            (of("u1", 10, NOW.0 + 1000), refused(403, 1002, "admin_on_user_surface")),
            (get("/x"), refused(401, 20101, "token_header_missing")),
            (with("a").header("token", "b"), refused(401, 20102, "credential_duplicated")),
        ];
        for (sample, expected) in cases {
            assert_eq!(run(CHAIN, sample).await.refused(), expected);
        }
        let ours = session_token("u1", "u1", NOW.plus(std::time::Duration::from_secs(60)), 2);
        assert_eq!(run(CHAIN, with(&ours)).await.refused(), refused(401, 1505, "openim_token_malformed"));
    }

    #[tokio::test]
    async fn a_route_takes_the_devices_it_names() {
        let out = run(CHAIN, with(&USER_TOKEN).ruled(None, None, Some("[Web]"))).await;
        assert_eq!(out.refused(), refused(403, 1002, "platform_not_admitted"));
        let out = run(CHAIN, with(&USER_TOKEN).ruled(None, None, Some("[Android]"))).await;
        assert_eq!(out.refused(), None);
    }

    #[tokio::test]
    async fn a_body_that_outlives_the_token_is_refused() {
        let_time_pass(1001);
        let out = run(CHAIN, with(&USER_TOKEN)).await;
        assert_eq!(out.refused(), refused(401, 1501, "openim_token_expired"));
    }
}
