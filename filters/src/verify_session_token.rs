//! Proves who calls by the session token a stock OpenIM SDK carries in its `token` header.
//!
//! Writes the caller. SDKs cannot sign, so the app derives an opaque string from the session's secret
//! (`identity`, `session_token`) and hands it to the SDK as its OpenIM token; the real one never leaves
//! the data centre. Whoever has the string is the user while it lives, hence `max_life`, at most a day.
//!
//! What is wrong with the string itself is 1501, 1505 or 1506: at any other code an SDK goes on for
//! ever. A missing or doubled header is no verdict on anybody and stays 201xx.
//!
//! ```yaml
//! - verify_session_token: { max_life: 24h }
//! ```

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use imgate_identity::session::Session;
use imgate_identity::session_token::{SessionToken, TokenKey};
use imgate_identity::store::Store;
use imgate_identity::time::UnixTime;
use imgate_identity::user::UserId;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::{Caller, Context, Fact, ProvenUser};
use crate::reject::{Cause, Reject};
use crate::{BodyUse, BuildError, Credentials, Deps, Filter, Flow, Request, Rule, proof};

/// The longest that a bearer's string may live.
const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The YAML of this filter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The longest a token may still have to live when it is shown; at most a day.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(schema_with = "crate::duration::schema")]
    pub max_life: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_life: MAX_LIFE }
    }
}

impl Config {
    pub(crate) fn build(&self, deps: &Deps) -> Result<VerifySessionToken, BuildError> {
        if self.max_life < Duration::from_secs(1) || self.max_life > MAX_LIFE {
            return Err(BuildError::TokenLife);
        }
        Ok(VerifySessionToken {
            store: Arc::clone(&deps.store),
            admin_users: Arc::clone(&deps.admin_users),
            max_life: self.max_life,
        })
    }
}

pub(crate) struct VerifySessionToken {
    store: Arc<Store>,
    admin_users: Arc<HashSet<UserId>>,
    max_life: Duration,
}

#[async_trait]
impl Filter for VerifySessionToken {
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
        let life = humantime::format_duration(self.max_life);
        format!("verifies the session token in the token header (good for at most {life})")
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

impl VerifySessionToken {
    /// Decides whose token it is, wherever it was found.
    ///
    /// # Errors
    /// The token is no good, its session is not, the user may not call here, or the store is away.
    pub(crate) async fn verify(&self, raw: &[u8], cx: &Context) -> Result<ProvenUser, Reject> {
        let token = SessionToken::parse(raw).map_err(|why| invalid(why.as_str()))?;
        self.check_life(&token, cx.now)?;
        let session = self.store.session(&token.session).await?;
        let session = self.check_session(session, &token, cx.now)?;
        let record = self.store.user(&session.user).await?;
        let (id, platform) = (session.user.clone(), session.platform);
        proof::admit(ProvenUser { id, platform, session: Some(session), record }, cx)
    }

    fn check_life(&self, token: &SessionToken<'_>, now: UnixTime) -> Result<(), Reject> {
        if token.expired(now) {
            return Err(Reject::new(Cause::SessionUnknown, "session_token_expired"));
        }
        if now.until(token.expires_at) > self.max_life {
            return Err(invalid("session_token_lives_too_long"));
        }
        Ok(())
    }

    fn check_session(
        &self,
        session: Option<Arc<Session>>,
        token: &SessionToken<'_>,
        now: UnixTime,
    ) -> Result<Arc<Session>, Reject> {
        if session.is_none() {
            // The same work as for a session that exists, so that time does not tell them apart.
            let _ = token.verify(TokenKey::decoy());
        }
        let session = proof::live(session, now)?;
        proof::no_admin(&session.user, session.platform, &self.admin_users)?;
        if !session.token_keys(now).any(|key| token.verify(key).is_ok()) {
            return Err(invalid("session_token_mismatch"));
        }
        if token.platform != session.platform {
            return Err(invalid("session_token_other_platform"));
        }
        Ok(session)
    }
}

fn invalid(reason: &'static str) -> Reject {
    Reject::new(Cause::TokenInvalid, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        NOW, Refused, Sample, build_error, get, let_time_pass, post, run, session_token, signed_post,
    };

    const CHAIN: &str = "- verify_session_token: {}";
    const HOUR: u64 = 3600;

    fn refused(status: u16, err_code: u32, reason: &'static str) -> Option<Refused> {
        Some(Refused { status, err_code, reason })
    }

    /// A POST with the token of `user`, made with the secret of `signer`.
    fn by(user: &str, signer: &str, expires_at: u64, platform: u8) -> Sample {
        post("/x", "{}").header("token", &session_token(user, signer, UnixTime(expires_at), platform))
    }

    fn of(user: &str) -> Sample {
        by(user, user, NOW.0 + HOUR, 2)
    }

    #[tokio::test]
    async fn a_session_token_tells_its_caller() {
        for sample in [of("u1"), by("u1", "u1", NOW.0 + 1, 2), by("u1", "u1", NOW.0 + 24 * HOUR, 2)] {
            let out = run(CHAIN, sample).await;
            assert_eq!(out.refused(), None);
            let user = out.cx.user().unwrap();
            assert_eq!((user.id.as_str(), user.platform.number()), ("u1", 2));
            assert!(user.session.is_some());
        }
    }

    #[tokio::test]
    async fn openims_token_takes_its_place() {
        let chain =
            "- verify_session_token: {}\n- resolve_token: {}\n- strip_credentials: {}\n- inject_token: {}";
        let out = run(chain, of("u1")).await;
        assert_eq!(out.sent("token"), [crate::testing::USER_TOKEN.as_str()]);
    }

    #[tokio::test]
    async fn a_token_that_is_no_good_ends_the_sdks_tries() {
        let good = session_token("u1", "u1", UnixTime(NOW.0 + HOUR), 2);
        let with = |token: &str| get("/x").header("token", token);
        let cases = [
            (with(""), refused(401, 1505, "session_token_form")),
            (with("x"), refused(401, 1505, "session_token_form")),
            (with(&format!("{good}=")), refused(401, 1505, "session_token_mac")),
            (with(&good.replace("ig1", "ig2")), refused(401, 1505, "session_token_form")),
            (with(&good.repeat(9)), refused(401, 1505, "session_token_too_long")),
            (with(&crate::testing::USER_TOKEN), refused(401, 1505, "session_token_too_long")),
            (by("u1", "revoked", NOW.0 + HOUR, 2), refused(401, 1505, "session_token_mismatch")),
            (by("u1", "u1", NOW.0 + HOUR, 5), refused(401, 1505, "session_token_other_platform")),
            (by("u1", "u1", NOW.0, 2), refused(401, 1501, "session_token_expired")),
            (by("u1", "u1", 0, 2), refused(401, 1501, "session_token_expired")),
            (by("u1", "u1", NOW.0 + 24 * HOUR + 1, 2), refused(401, 1505, "session_token_lives_too_long")),
        ];
        for (sample, expected) in cases {
            assert_eq!(run(CHAIN, sample).await.refused(), expected);
        }
    }

    #[tokio::test]
    async fn a_missing_or_doubled_token_is_no_verdict() {
        let twice = of("u1").header("Token", "x");
        assert_eq!(run(CHAIN, get("/x")).await.refused(), refused(401, 20101, "token_header_missing"));
        assert_eq!(run(CHAIN, twice).await.refused(), refused(401, 20102, "credential_duplicated"));
        let signed = run(CHAIN, signed_post("/x", "{}")).await;
        assert_eq!(signed.refused(), refused(401, 20101, "token_header_missing"));
    }

    #[tokio::test]
    async fn each_standing_has_its_answer() {
        let cases = [
            ("nobody", refused(401, 1501, "session_unknown")),
            ("expired", refused(401, 1501, "session_expired")),
            ("revoked", refused(401, 1506, "session_revoked")),
            ("banned", refused(401, 1506, "user_banned")),
            ("imAdmin", refused(403, 1002, "admin_on_user_surface")),
        ];
        for (user, expected) in cases {
            assert_eq!(run(CHAIN, of(user)).await.refused(), expected, "{user}");
        }
        let guessed = run(CHAIN, by("banned", "u1", NOW.0 + HOUR, 2)).await;
        assert_eq!(guessed.refused(), refused(401, 1505, "session_token_mismatch"));
    }

    #[tokio::test]
    async fn a_rotated_secret_is_honoured_in_its_grace() {
        assert_eq!(run(CHAIN, by("rotated", "before", NOW.0 + HOUR, 2)).await.refused(), None);
        let other = run(CHAIN, by("rotated", "u1", NOW.0 + HOUR, 2)).await;
        assert_eq!(other.refused(), refused(401, 1505, "session_token_mismatch"));
    }

    #[tokio::test]
    async fn a_route_takes_the_devices_it_names() {
        let ruled = |platforms| of("u1").ruled(None, None, Some(platforms));
        assert_eq!(run(CHAIN, ruled("[Android]")).await.refused(), None);
        let out = run(CHAIN, ruled("[IOS, Web]")).await;
        assert_eq!(out.refused(), refused(403, 1002, "platform_not_admitted"));
    }

    #[tokio::test]
    async fn a_body_that_outlives_its_token_or_session_is_refused() {
        let_time_pass(30);
        let out = run(CHAIN, by("u1", "u1", NOW.0 + 20, 2)).await;
        assert_eq!(out.refused(), refused(401, 1501, "session_token_expired"));
        let_time_pass(30);
        assert_eq!(run(CHAIN, of("ending")).await.refused(), refused(401, 1501, "session_expired"));
    }

    #[tokio::test]
    async fn a_shorter_life_may_be_asked_for() {
        let chain = "- verify_session_token: { max_life: 1h }";
        assert_eq!(run(chain, by("u1", "u1", NOW.0 + HOUR, 2)).await.refused(), None);
        let out = run(chain, by("u1", "u1", NOW.0 + HOUR + 1, 2)).await;
        assert_eq!(out.refused(), refused(401, 1505, "session_token_lives_too_long"));
    }

    #[test]
    fn senseless_lives_are_refused() {
        for life in ["0s", "25h", "999ms"] {
            let yaml = format!("- verify_session_token: {{ max_life: {life} }}");
            assert_eq!(build_error(&yaml), BuildError::TokenLife, "{life}");
        }
    }
}
