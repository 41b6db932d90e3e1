//! Finds the caller's OpenIM token.
//!
//! Reads the caller, writes the token. A live session whose user has no token is a verdict (1507); a
//! token that is expired or cannot be read is the store's fault (503), never the user's.
//!
//! ```yaml
//! - resolve_token: {}
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use crate::context::{Context, Fact};
use crate::reject::{Cause, Hint, RETRY_AFTER, Reject};
use crate::{Filter, Flow, Request};

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

impl Config {
    pub(crate) fn build(&self) -> ResolveToken {
        ResolveToken
    }
}

pub(crate) struct ResolveToken;

#[async_trait]
impl Filter for ResolveToken {
    fn reads(&self) -> &'static [Fact] {
        &[Fact::Caller]
    }

    fn writes(&self) -> &'static [Fact] {
        &[Fact::Token]
    }

    fn summary(&self) -> String {
        "finds the caller's OpenIM token in the store".to_owned()
    }

    async fn request(&self, _request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        let caller =
            cx.caller.as_ref().ok_or_else(|| Reject::new(Cause::CredentialMissing, "caller_unknown"))?;
        let token = caller
            .user
            .token(caller.session.platform)
            .ok_or_else(|| Reject::new(Cause::TokenMissing, "token_missing"))?;
        if token.expired(cx.now) {
            let reject = Reject::new(Cause::StoreUnavailable, "token_expired");
            return Err(reject.with(Hint::RetryAfter(RETRY_AFTER)));
        }
        cx.token = Some(Arc::clone(token));
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{self, Refused, run, signed_by, signed_post};

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
    async fn an_expired_token_is_no_verdict() {
        let out = run(CHAIN, signed_by("old-token", "/x", "{}")).await;
        assert_eq!(out.refused(), Some(Refused { status: 503, err_code: 20401, reason: "token_expired" }));
    }
}
