//! Holds the body to the caller: where OpenIM would act on whomever the body names, it names the caller.
//!
//! Which fields and how, the route says under `bind` (see [`crate::rules::Bind`]); `none` leaves the body unread. A body
//! that Go could read in another way than we do is refused, and so is any that is not plainly JSON. A forced field is
//! written by the gateway, whatever the client wrote. What the path or the query names is not looked at.
//!
//! ```yaml
//! - bind_identity: {}
//! ```

mod body;
mod json;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::body::{Bound, Fault, bind};
use crate::context::{Context, Fact};
use crate::reject::{Cause, Reject};
use crate::rules::Rule;
use crate::{BodyUse, BuildError, Deps, Filter, Flow, Request};

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

impl Config {
    pub(crate) fn build(&self, _deps: &Deps) -> Result<BindIdentity, BuildError> {
        Ok(BindIdentity)
    }
}

pub(crate) struct BindIdentity;

#[async_trait]
impl Filter for BindIdentity {
    fn reads(&self) -> &'static [Fact] {
        &[Fact::User]
    }

    fn writes(&self) -> &'static [Fact] {
        &[Fact::Bound]
    }

    fn body(&self) -> BodyUse {
        BodyUse::Reads
    }

    fn honours(&self) -> &'static [Rule] {
        &[Rule::Bind]
    }

    fn demands(&self) -> &'static [Rule] {
        &[Rule::Bind]
    }

    fn summary(&self) -> String {
        "lets the body name nobody but the caller, where the route's `bind` says; takes JSON only".to_owned()
    }

    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        let caller = &cx.require_user()?.id;
        let rules = cx.place.rules.bind.as_ref().ok_or(Reject::new(Cause::Forbidden, "route_unbound"))?;
        check_media(request.head)?;
        if rules.is_none() {
            return Ok(Flow::Continue);
        }
        let body = request.body.read().await?;
        if let Bound::Rewritten(text) = bind(&body, rules, caller.as_str())? {
            request.body.replace(Bytes::from(text));
        }
        Ok(Flow::Continue)
    }
}

impl From<Fault> for Reject {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unreadable => Self::new(Cause::BadRequest, "body_unreadable"),
            Fault::Ambiguous => Self::new(Cause::BadRequest, "identity_ambiguous"),
            Fault::Missing => Self::new(Cause::BadRequest, "identity_missing"),
            Fault::NotText => Self::new(Cause::BadRequest, "identity_not_text"),
            Fault::Mismatch => Self::new(Cause::Forbidden, "identity_mismatch"),
            Fault::Beyond => Self::new(Cause::Forbidden, "beyond_the_caller"),
        }
    }
}

/// Refuses what somebody further on could read as anything but the JSON that was checked.
fn check_media(head: &RequestHeader) -> Result<(), Reject> {
    // OpenIM inflates nothing, but something between us and it might.
    if head.headers.contains_key(CONTENT_ENCODING) {
        return Err(Reject::new(Cause::BadRequest, "content_encoding"));
    }
    let mut types = head.headers.get_all(CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (None, _) => Ok(()),
        (Some(kind), None) if is_json(kind) => Ok(()),
        _ => Err(Reject::new(Cause::BadRequest, "content_type")),
    }
}

/// Whether a content type is JSON in UTF-8.
fn is_json(kind: &HeaderValue) -> bool {
    let Ok(text) = kind.to_str() else { return false };
    let (media, parameter) = text.split_once(';').unwrap_or((text, "charset=utf-8"));
    let charset = parameter.trim().split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("charset"));
    let is_utf_8 = |value: &str| ["utf-8", "\"utf-8\""].iter().any(|utf_8| value.eq_ignore_ascii_case(utf_8));
    media.trim().eq_ignore_ascii_case("application/json") && charset.is_some_and(|(_, value)| is_utf_8(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::ChainError;
    use crate::testing::{Refused, Sample, chain, chain_error, run, signed_post};

    const CHAIN: &str = "- verify_signature: {}\n- bind_identity: {}";

    fn post(bind: &str, body: &str) -> Sample {
        signed_post("/x", body).ruled(Some(bind), None, None)
    }

    async fn refused(sample: Sample) -> Option<(u16, &'static str)> {
        run(CHAIN, sample).await.refused().map(|Refused { status, reason, .. }| (status, reason))
    }

    #[tokio::test]
    async fn the_caller_may_name_himself_and_nobody_else() {
        let rule = "{ check: [userInfo.userID] }";
        let own = run(CHAIN, post(rule, r#"{"userInfo":{"userID":"u1"}}"#)).await;
        assert_eq!(own.refused(), None);
        assert_eq!(own.body.unwrap(), r#"{"userInfo":{"userID":"u1"}}"#);
        let other = run(CHAIN, post(rule, r#"{"userInfo":{"userID":"u2"}}"#)).await;
        let expected = Refused { status: 403, err_code: 1002, reason: "identity_mismatch" };
        assert_eq!(other.refused(), Some(expected));
    }

    #[tokio::test]
    async fn what_cannot_be_told_is_a_bad_request() {
        let cases = [
            (r#"{"userID":"u1","USERID":"u1"}"#, "identity_ambiguous"),
            (r#"{"userID":null}"#, "identity_not_text"),
            ("{}", "identity_missing"),
            ("", "body_unreadable"),
            (r#"{"userID":"u1"}{}"#, "body_unreadable"),
        ];
        for (body, reason) in cases {
            assert_eq!(refused(post("userID", body)).await, Some((400, reason)), "{body}");
        }
    }

    #[tokio::test]
    async fn a_forced_field_is_what_goes_on() {
        let out = run(CHAIN, post("{ force: [account] }", r#"{"account":"u2"}"#)).await;
        assert_eq!(out.refused(), None);
        assert_eq!(out.body.unwrap(), r#"{"account":"u1"}"#);
    }

    #[tokio::test]
    async fn an_unbound_body_is_not_read() {
        assert_eq!(refused(post("none", "no JSON at all")).await, None);
    }

    #[tokio::test]
    async fn only_plain_json_is_taken_bound_or_not() {
        let taken = ["application/json", "Application/JSON", "application/json; charset=UTF-8"];
        let not_taken = [
            "",
            "text/plain",
            "application/x-protobuf",
            "application/json-patch+json",
            "application/json, text/plain",
            "application/json; charset=utf-7",
            "application/json; charset=utf-8; x=y",
            "application/json;",
            "multipart/form-data; boundary=x",
        ];
        for rule in ["none", "userID"] {
            let sample = || post(rule, r#"{"userID":"u1"}"#);
            for kind in taken {
                assert_eq!(refused(sample().header("content-type", kind)).await, None, "{kind}");
            }
            for kind in not_taken {
                let out = refused(sample().header("content-type", kind)).await;
                assert_eq!(out, Some((400, "content_type")), "{kind}");
            }
            let twice = sample()
                .header("content-type", "application/json")
                .header("Content-Type", "application/json");
            assert_eq!(refused(twice).await, Some((400, "content_type")));
            for coding in ["gzip", "identity", ""] {
                let out = refused(sample().header("content-encoding", coding)).await;
                assert_eq!(out, Some((400, "content_encoding")), "{coding}");
            }
        }
    }

    #[tokio::test]
    async fn a_route_that_says_nothing_is_closed() {
        let out = refused(signed_post("/x", r#"{"userID":"u1"}"#)).await;
        assert_eq!(out, Some((403, "route_unbound")));
    }

    #[test]
    fn it_stands_below_the_filter_that_proves_the_user() {
        let error = chain_error("- bind_identity: {}");
        assert_eq!(error, ChainError::Unwritten { index: 0, fact: Fact::User });
        let error = chain_error("- prove_admin: {}\n- bind_identity: {}");
        assert_eq!(error, ChainError::Unwritten { index: 1, fact: Fact::User });
    }

    #[test]
    fn its_routes_say_what_is_bound_and_are_read_whole() {
        let chain = chain(CHAIN);
        assert!(chain.honours(Rule::Bind).is_some() && chain.demands(Rule::Bind).is_some());
        assert!(chain.writes(Fact::Bound));
        assert_eq!(chain.body(), BodyUse::Reads);
    }
}
