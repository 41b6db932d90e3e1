//! Finds the OpenIM token to inject: the caller's own, or that of the OpenIM admin named by `of`.
//!
//! Reads the caller, writes the token. A live session whose user has no token is a verdict (1507); a
//! token that is expired or cannot be read is the store's fault (503), never the user's, and so is
//! everything that is wrong with an admin's. A user may act with an admin's token only behind
//! `bind_identity`, and only on routes that bind a field.
//!
//! ```yaml
//! - resolve_token: {}
//! - resolve_token: { of: imAdmin }
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use imgate_identity::store::Store;
use imgate_identity::token::OpenimToken;
use imgate_identity::user::UserId;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::{Context, Fact};
use crate::reject::{Cause, Hint, RETRY_AFTER, Reject};
use crate::{BuildError, Deps, Filter, Flow, Request};

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The OpenIM admin whose token it is; the caller's own if nobody is named.
    pub of: Option<UserId>,
}

impl Config {
    pub(crate) fn build(&self, deps: &Deps) -> Result<ResolveToken, BuildError> {
        Ok(ResolveToken { admin: self.of.as_ref().map(|id| AdminToken::of(id, deps)).transpose()? })
    }
}

pub(crate) struct ResolveToken {
    admin: Option<AdminToken>,
}

#[async_trait]
impl Filter for ResolveToken {
    fn reads(&self) -> &'static [Fact] {
        if self.admin.is_some() { &[Fact::Caller] } else { &[Fact::User] }
    }

    fn writes(&self) -> &'static [Fact] {
        if self.admin.is_some() { &[Fact::Token, Fact::AdminToken] } else { &[Fact::Token] }
    }

    fn summary(&self) -> String {
        match &self.admin {
            Some(admin) => format!("finds the token of the OpenIM admin {} in the store", admin.id),
            None => "finds the caller's OpenIM token in the store".to_owned(),
        }
    }

    async fn request(&self, _request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        match &self.admin {
            Some(admin) => admin.resolve(cx).await?,
            None => cx.token = Some(own(cx)?),
        }
        Ok(Flow::Continue)
    }
}

fn own(cx: &Context) -> Result<Arc<OpenimToken>, Reject> {
    let user = cx.require_user()?;
    let token = user.record.token(user.platform);
    let token = token.ok_or_else(|| Reject::new(Cause::TokenMissing, "token_missing"))?;
    if token.expired(cx.now) { Err(away("token_expired")) } else { Ok(Arc::clone(token)) }
}

/// The token of one OpenIM admin.
pub(crate) struct AdminToken {
    id: UserId,
    store: Arc<Store>,
}

impl AdminToken {
    /// # Errors
    /// Nobody of this name is configured as an OpenIM admin.
    pub(crate) fn of(id: &UserId, deps: &Deps) -> Result<Self, BuildError> {
        if !deps.admin_users.contains(id) {
            return Err(BuildError::NoAdmin(id.clone()));
        }
        Ok(Self { id: id.clone(), store: Arc::clone(&deps.store) })
    }

    pub(crate) fn id(&self) -> &UserId {
        &self.id
    }

    /// Makes it the token to inject.
    ///
    /// # Errors
    /// The store cannot be asked, or holds no token of this admin that works; all of that is ours to mend.
    pub(crate) async fn resolve(&self, cx: &mut Context) -> Result<(), Reject> {
        let token = self.store.admin_token(&self.id).await?.ok_or_else(|| away("admin_token_missing"))?;
        if token.expired(cx.now) {
            return Err(away("admin_token_expired"));
        }
        cx.token = Some(token);
        cx.acting_as = Some(self.id.clone());
        Ok(())
    }
}

fn away(reason: &'static str) -> Reject {
    Reject::new(Cause::StoreUnavailable, reason).with(Hint::RetryAfter(RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use imgate_identity::user::UserId;

    use crate::BuildError;
    use crate::testing::{self, Refused, build_error, get, run, signed_by, signed_post};

    const CHAIN: &str = "- verify_signature: {}\n- resolve_token: {}";

    #[tokio::test]
    async fn the_callers_token_is_found() {
        let out = run(CHAIN, signed_post("/x", "{}")).await;
        assert_eq!(out.refused(), None);
        assert_eq!(out.cx.token.unwrap().user.as_str(), testing::USER);
    }

    #[tokio::test]
    async fn a_live_session_without_a_token_is_a_verdict() {
        let out = run(CHAIN, signed_by("no-token", "/x", "{}")).await;
        assert_eq!(out.refused(), Some(Refused { status: 401, err_code: 1507, reason: "token_missing" }));
    }

    #[tokio::test]
    async fn what_is_wrong_with_an_admins_token_is_nobodys_verdict() {
        let chain = |admin: &str| format!("- prove_admin: {{}}\n- resolve_token: {{ of: {admin} }}");
        let found = run(&chain("imAdmin"), get("/x")).await;
        assert_eq!(found.refused(), None);
        assert_eq!(found.cx.token.unwrap().user.as_str(), "imAdmin");
        assert_eq!(found.cx.acting_as.unwrap().as_str(), "imAdmin");
        for (admin, reason) in [("oldAdmin", "admin_token_expired"), ("newAdmin", "admin_token_missing")] {
            let out = run(&chain(admin), get("/x")).await;
            assert_eq!(out.refused(), Some(Refused { status: 503, err_code: 20401, reason }));
        }
    }

    #[test]
    fn only_an_openim_admin_can_be_acted_as() {
        let error = build_error("- resolve_token: { of: u1 }");
        assert_eq!(error, BuildError::NoAdmin(UserId::parse("u1").unwrap()));
    }

    #[tokio::test]
    async fn an_expired_token_is_no_verdict() {
        let out = run(CHAIN, signed_by("old-token", "/x", "{}")).await;
        assert_eq!(out.refused(), Some(Refused { status: 503, err_code: 20401, reason: "token_expired" }));
    }
}
