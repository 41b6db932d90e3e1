//! Sends the resolved token to OpenIM, and says that the body is JSON.
//!
//! With `as` it finds and sends the token of that OpenIM admin, for routes that OpenIM keeps for admins
//! although users need them: the body is bound to the caller first, so that the admin's power cannot be
//! turned on anybody else.
//!
//! Exactly one `token` header leaves: Go reads the first of several. `Content-Type` is not covered by
//! a signature and steers how OpenIM reads `/jssdk` bodies, so the gateway writes it itself.
//!
//! ```yaml
//! - inject_token: {}
//! - inject_token: { as: imAdmin }
//! ```

use async_trait::async_trait;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use imgate_identity::token::OpenimToken;
use imgate_identity::user::UserId;
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::{Context, Fact};
use crate::reject::{Cause, Reject};
use crate::resolve_token::AdminToken;
use crate::{BuildError, Credentials, Deps, Filter, Flow, Request, set_header};

/// OpenIM's header for its token.
///
/// Source: openimsdk/protocol `constant.Token`.
pub const HEADER: HeaderName = HeaderName::from_static("token");

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The OpenIM admin whose token is sent; the resolved one if nobody is named.
    #[serde(rename = "as")]
    pub acting_as: Option<UserId>,
}

impl Config {
    pub(crate) fn build(&self, deps: &Deps) -> Result<InjectToken, BuildError> {
        Ok(InjectToken { admin: self.acting_as.as_ref().map(|id| AdminToken::of(id, deps)).transpose()? })
    }
}

pub(crate) struct InjectToken {
    admin: Option<AdminToken>,
}

#[async_trait]
impl Filter for InjectToken {
    fn reads(&self) -> &'static [Fact] {
        if self.admin.is_some() { &[Fact::Caller] } else { &[Fact::Token] }
    }

    fn writes(&self) -> &'static [Fact] {
        if self.admin.is_some() {
            &[Fact::Token, Fact::AdminToken, Fact::Injected]
        } else {
            &[Fact::Injected]
        }
    }

    fn credentials(&self) -> Credentials {
        Credentials::Injects
    }

    fn summary(&self) -> String {
        let whose = self.admin.as_ref().map_or_else(
            || "the resolved OpenIM token".to_owned(),
            |admin| format!("the token of the OpenIM admin {}", admin.id()),
        );
        format!("sets token ({whose}) and content-type: application/json")
    }

    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        if let Some(admin) = &self.admin {
            admin.resolve(cx).await?;
        }
        let token =
            cx.token.as_deref().ok_or_else(|| Reject::new(Cause::StoreUnavailable, "token_unresolved"))?;
        put(request.head, token)?;
        if request.body.is_announced() {
            set_header(request.head, CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        cx.injected = true;
        Ok(Flow::Continue)
    }
}

/// Leaves exactly one `token` header, with this token.
///
/// # Errors
/// The token cannot stand in a header, which reading it from the store rules out.
pub fn put(head: &mut RequestHeader, token: &OpenimToken) -> Result<(), Reject> {
    let mut value = HeaderValue::from_str(token.expose())
        .map_err(|_| Reject::new(Cause::StoreUnavailable, "token_unprintable"))?;
    value.set_sensitive(true);
    set_header(head, HEADER, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{USER_TOKEN, run, signed_post};

    const CHAIN: &str =
        "- verify_signature: {}\n- resolve_token: {}\n- strip_credentials: {}\n- inject_token: {}";

    #[tokio::test]
    async fn the_callers_token_replaces_what_the_client_sent() {
        let request = signed_post("/x", "{}").header("Token", "mine").header("TOKEN", "also mine");
        let out = run(CHAIN, request).await;
        assert_eq!(out.sent("token"), [USER_TOKEN.as_str()]);
        assert!(out.cx.injected);
    }

    #[tokio::test]
    async fn the_body_is_declared_json_whatever_the_client_says() {
        let out = run(CHAIN, signed_post("/x", "{}").header("content-type", "application/protobuf")).await;
        assert_eq!(out.sent("content-type"), ["application/json"]);
    }
}
