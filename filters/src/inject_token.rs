//! Sends the resolved token to OpenIM, and says that the body is JSON.
//!
//! Exactly one `token` header leaves: Go reads the first of several. `Content-Type` is not covered by
//! a signature and steers how OpenIM reads `/jssdk` bodies, so the gateway writes it itself.
//!
//! ```yaml
//! - inject_token: {}
//! ```

use async_trait::async_trait;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use imgate_identity::token::OpenimToken;
use pingora_http::RequestHeader;
use serde::Deserialize;

use crate::context::{Context, Fact};
use crate::reject::{Cause, Reject};
use crate::{Credentials, Filter, Flow, Request, set_header};

/// OpenIM's header for its token.
///
/// Source: openimsdk/protocol `constant.Token`.
pub const HEADER: HeaderName = HeaderName::from_static("token");

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

impl Config {
    pub(crate) fn build(&self) -> InjectToken {
        InjectToken
    }
}

pub(crate) struct InjectToken;

#[async_trait]
impl Filter for InjectToken {
    fn reads(&self) -> &'static [Fact] {
        &[Fact::Token]
    }

    fn writes(&self) -> &'static [Fact] {
        &[Fact::Injected]
    }

    fn credentials(&self) -> Credentials {
        Credentials::Injects
    }

    fn summary(&self) -> String {
        "sets token (the caller's OpenIM token) and content-type: application/json".to_owned()
    }

    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
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
