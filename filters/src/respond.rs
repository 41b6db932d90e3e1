//! Answers every request itself, always the same, in OpenIM's envelope: for maintenance, for what was
//! moved, and for what does not exist any more.
//!
//! What stands below it in a chain is not asked, so one line at the top closes all routes of a chain, and
//! taking it away opens them again. A WebSocket's handshake is answered with it, too. No answer of this
//! filter may log a user out: that is for verdicts on a credential alone.
//!
//! ```yaml
//! - respond: { status: 503, errCode: 20404, errMsg: Maintenance, errDlt: back at 03:00 UTC, retry_after: 60s }
//! - respond: { status: 200, errCode: 0 }
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::Context;
use crate::reject::{LOGOUT_CODES, Reject};
use crate::{BuildError, Deps, Filter, Fixed, Flow, Request, Shadow};

/// The longest envelope, in bytes.
const MAX_ENVELOPE: usize = 1024;

/// Statuses that come with something this filter does not send: another body than the envelope, none at
/// all, or a header of their own.
///
/// Source: RFC 9110 sections 15.3 and 15.5.
const INCOMPLETE: [u16; 8] = [204, 205, 206, 401, 405, 407, 416, 426];

/// The YAML of this filter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The HTTP status.
    pub status: u16,
    /// OpenIM's `errCode`.
    #[serde(rename = "errCode")]
    pub err_code: u32,
    /// OpenIM's `errMsg`.
    #[serde(rename = "errMsg", default)]
    pub err_msg: Box<str>,
    /// OpenIM's `errDlt`.
    #[serde(rename = "errDlt", default)]
    pub err_dlt: Box<str>,
    /// When the client may come back.
    #[serde(default, deserialize_with = "period")]
    #[schemars(schema_with = "crate::duration::schema")]
    pub retry_after: Option<Duration>,
}

/// Why nobody should get this answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// A status that means something else.
    #[error(
        "status {0} cannot come with an envelope alone\nhint: 200, or one that says what is wrong, as in 503"
    )]
    Status(u16),
    /// A code of [`LOGOUT_CODES`].
    #[error("errCode {0} logs users out in OpenIM's SDKs, and this is no verdict on anybody")]
    LogsOut(u32),
    /// Success that is none.
    #[error(
        "errCode 0 means success, and status {0} does not\nhint: 20404 says that the service is not available"
    )]
    Success(u16),
    /// Text with a control character.
    #[error("errMsg and errDlt have to be printable, on one line")]
    Unprintable,
    /// Too much text.
    #[error("the answer is {0} bytes\nhint: errMsg and errDlt have to fit into {max} bytes, envelope included", max = MAX_ENVELOPE)]
    TooLong(usize),
    /// A wait that the header cannot say.
    #[error("retry_after is counted in whole seconds, from 1s")]
    Fraction,
}

impl Config {
    pub(crate) fn build(&self, _: &Deps) -> Result<Respond, BuildError> {
        Ok(Respond(Arc::new(self.fixed()?)))
    }

    fn fixed(&self) -> Result<Fixed, BadReply> {
        let Self { status, err_code, ref err_msg, ref err_dlt, retry_after } = *self;
        let sensible = matches!(status, 200..=299 | 400..=599) && !INCOMPLETE.contains(&status);
        let sensible = StatusCode::from_u16(status).ok().filter(|_| sensible);
        let reply = Fixed {
            status: sensible.ok_or(BadReply::Status(status))?,
            err_code,
            err_msg: err_msg.clone(),
            err_dlt: err_dlt.clone(),
            retry_after,
        };
        check(&reply).map(|()| reply)
    }
}

fn check(reply: &Fixed) -> Result<(), BadReply> {
    if LOGOUT_CODES.contains(&reply.err_code) {
        return Err(BadReply::LogsOut(reply.err_code));
    }
    if reply.err_code == 0 && reply.status != StatusCode::OK {
        return Err(BadReply::Success(reply.status.as_u16()));
    }
    if reply.err_msg.chars().chain(reply.err_dlt.chars()).any(char::is_control) {
        return Err(BadReply::Unprintable);
    }
    if reply.retry_after.is_some_and(|wait| wait.is_zero() || wait.subsec_nanos() > 0) {
        return Err(BadReply::Fraction);
    }
    let length = length(reply);
    if length > MAX_ENVELOPE { Err(BadReply::TooLong(length)) } else { Ok(()) }
}

/// The length of the envelope, in bytes.
fn length(reply: &Fixed) -> usize {
    let Fixed { err_code, err_msg, err_dlt, .. } = reply;
    serde_json::json!({ "errCode": err_code, "errMsg": err_msg, "errDlt": err_dlt }).to_string().len()
}

fn period<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    crate::duration::deserialize(deserializer).map(Some)
}

pub(crate) struct Respond(Arc<Fixed>);

#[async_trait]
impl Filter for Respond {
    fn shadow(&self) -> Shadow {
        Shadow::Allowed
    }

    fn summary(&self) -> String {
        let Fixed { status, err_code, .. } = &*self.0;
        format!("answers everything with {}, errCode {err_code}", status.as_u16())
    }

    async fn request(&self, _request: &mut Request<'_>, _cx: &mut Context) -> Result<Flow, Reject> {
        Ok(Flow::Reply(Arc::clone(&self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{build_error, chain, get, run, signed_post};

    #[tokio::test]
    async fn what_stands_below_is_not_asked() {
        let yaml = "
- respond: { status: 503, errCode: 20404, errMsg: Maintenance, errDlt: back soon, retry_after: 60s }
- verify_signature: {}
- resolve_token: {}";
        for sample in [get("/x"), signed_post("/x", "{}")] {
            let out = run(yaml, sample).await;
            let Ok(Flow::Reply(reply)) = &out.result else { panic!("{:?}", out.result) };
            assert_eq!((reply.status.as_u16(), reply.err_code), (503, 20404));
            assert_eq!((&*reply.err_msg, &*reply.err_dlt), ("Maintenance", "back soon"));
            assert_eq!(reply.retry_after, Some(Duration::from_secs(60)));
            assert_eq!((out.cx.caller.is_none(), out.cx.refused_by), (true, Some("respond")));
        }
    }

    #[test]
    fn its_summary_is_its_answer() {
        let chain = chain("- respond: { status: 503, errCode: 20404 }");
        assert_eq!(chain.filters()[0].filter.summary(), "answers everything with 503, errCode 20404");
    }

    #[tokio::test]
    async fn in_shadow_it_answers_nobody() {
        let out = run("- respond: { status: 503, errCode: 20404 }\n  shadow: true", get("/x")).await;
        assert_eq!(out.result, Ok(Flow::Continue));
        let [noted] = out.cx.shadowed[..] else { panic!("one answer is noted") };
        assert_eq!((noted.filter, noted.cause, noted.reason), ("respond", None, "fixed_reply"));
    }

    #[test]
    fn an_answer_that_misleads_is_refused() {
        let long = format!("status: 503, errCode: 20404, errMsg: {}", "x".repeat(1024));
        let escaped = format!("status: 503, errCode: 20404, errDlt: '{}'", "\\".repeat(512));
        for (yaml, why) in [
            ("status: 503, errCode: 1501", BadReply::LogsOut(1501)),
            ("status: 200, errCode: 1507", BadReply::LogsOut(1507)),
            ("status: 503, errCode: 0", BadReply::Success(503)),
            ("status: 201, errCode: 0", BadReply::Success(201)),
            ("status: 199, errCode: 1", BadReply::Status(199)),
            ("status: 204, errCode: 1", BadReply::Status(204)),
            ("status: 302, errCode: 1", BadReply::Status(302)),
            ("status: 401, errCode: 1", BadReply::Status(401)),
            ("status: 600, errCode: 1", BadReply::Status(600)),
            ("status: 503, errCode: 1, errMsg: \"a\\nb\"", BadReply::Unprintable),
            ("status: 503, errCode: 1, errDlt: \"\\e[31m\"", BadReply::Unprintable),
            ("status: 503, errCode: 1, retry_after: 0s", BadReply::Fraction),
            ("status: 503, errCode: 1, retry_after: 1500ms", BadReply::Fraction),
            (&long, BadReply::TooLong(1065)),
            (&escaped, BadReply::TooLong(1065)),
        ] {
            assert_eq!(build_error(&format!("- respond: {{ {yaml} }}")), BuildError::Reply(why), "{yaml}");
        }
        for good in ["status: 200, errCode: 0", "status: 200, errCode: 20404", "status: 410, errCode: 1508"] {
            assert_eq!(chain(&format!("- respond: {{ {good} }}")).filters().len(), 1, "{good}");
        }
    }
}
