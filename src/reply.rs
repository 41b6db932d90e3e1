//! The only writer of an answer we make ourselves, always in OpenIM's envelope.
//!
//! SDKs read `errCode` and ignore the status; browsers need CORS headers to read anything; operators
//! need the operation id. Every refusal carries all three, is at most 1 KiB and not compressed.

use std::time::Duration;

use http::HeaderValue;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use imgate_filters::reject::{Answer, Answers, Hint, Reject};
use imgate_filters::{Fixed, cors, operation_id};
use pingora_http::ResponseHeader;

use crate::envelope;

/// The header that tells a client our clock, in seconds since the Unix epoch.
pub const X_SERVER_TIME: &str = "x-server-time";

/// What an answer needs to know of its request.
#[derive(Clone, Copy)]
pub struct To<'a> {
    /// The table of answers.
    pub answers: &'a Answers,
    /// The cross-origin policy.
    pub cors: &'a cors::Policy,
    /// The page that asks, if a browser says so.
    pub origin: Option<&'a HeaderValue>,
    /// The name of the operation.
    pub operation_id: &'a HeaderValue,
}

/// A written answer.
pub struct Reply {
    /// Status and headers.
    pub head: ResponseHeader,
    /// The envelope.
    pub body: Vec<u8>,
    /// The `errCode` in it.
    pub err_code: u32,
}

/// Turns a refusal into an answer.
pub fn refuse(reject: &Reject, to: To<'_>) -> Reply {
    let answer = to.answers.to(reject);
    let body = envelope::write(answer.err_code, answer.err_msg, &detail(reject, answer));
    let mut head = json_head(answer.status, body.len(), to);
    if answer.status == http::StatusCode::UNAUTHORIZED {
        let bearer = reject.hint == Hint::Bearer;
        let wanted = if bearer { "Bearer realm=\"imgate\"" } else { "Signature realm=\"imgate\"" };
        insert(&mut head, WWW_AUTHENTICATE, HeaderValue::from_static(wanted));
    }
    match &reject.hint {
        Hint::None | Hint::Bearer => {}
        Hint::RetryAfter(wait) => insert(&mut head, RETRY_AFTER, whole_secs(*wait)),
        Hint::ServerTime(now) => {
            let _ = head.insert_header(X_SERVER_TIME, HeaderValue::from(now.0));
        }
        Hint::Allow(methods) => {
            if let Ok(value) = HeaderValue::from_str(methods) {
                insert(&mut head, ALLOW, value);
            }
        }
    }
    Reply { head, body, err_code: answer.err_code }
}

/// Writes an answer that stands in the configuration.
pub fn fixed(fixed: &Fixed, to: To<'_>) -> Reply {
    let body = envelope::write(fixed.err_code, &fixed.err_msg, &fixed.err_dlt);
    let mut head = json_head(fixed.status, body.len(), to);
    if let Some(wait) = fixed.retry_after {
        insert(&mut head, RETRY_AFTER, whole_secs(wait));
    }
    Reply { head, body, err_code: fixed.err_code }
}

/// Relays one of OpenIM's own refusals with nothing of its internal text in it.
pub fn relay_verdict(err_code: u32, err_msg: &str, to: To<'_>) -> Reply {
    let body = envelope::write(err_code, err_msg, "");
    let head = json_head(http::StatusCode::OK, body.len(), to);
    Reply { head, body, err_code }
}

fn json_head(status: http::StatusCode, length: usize, to: To<'_>) -> ResponseHeader {
    let mut head = ResponseHeader::build_no_case(status, Some(12)).expect("the status is one already");
    insert(&mut head, CONTENT_TYPE, HeaderValue::from_static("application/json"));
    insert(&mut head, CONTENT_LENGTH, HeaderValue::from(length));
    insert(&mut head, CACHE_CONTROL, HeaderValue::from_static("no-store"));
    insert(&mut head, operation_id::HEADER, to.operation_id.clone());
    to.cors.apply(&mut head, to.origin);
    head
}

/// At least a second, and rounded up, so that a client that obeys is not refused again.
fn whole_secs(wait: Duration) -> HeaderValue {
    let begun = u64::from(wait.subsec_nanos() > 0);
    HeaderValue::from(wait.as_secs().saturating_add(begun).max(1))
}

/// What the client may read: our own words on its own mistake, nothing on ours.
fn detail(reject: &Reject, answer: Answer) -> String {
    match &reject.hint {
        Hint::ServerTime(now) => format!("server_time={now}"),
        Hint::Bearer => String::new(),
        _ if answer.status.is_server_error() => String::new(),
        _ => reject.reason.to_owned(),
    }
}

fn insert(head: &mut ResponseHeader, name: http::HeaderName, value: HeaderValue) {
    // Name and value are valid already, which is all that could fail.
    let _ = head.insert_header(name, value);
}

#[cfg(test)]
mod tests {
    use imgate_filters::Cause;
    use imgate_identity::time::UnixTime;

    use super::*;

    fn reply(reject: &Reject) -> (ResponseHeader, String) {
        let cors = cors::Config::default().policy().unwrap();
        let to = To {
            answers: &Answers::default(),
            cors: &cors,
            origin: None,
            operation_id: &HeaderValue::from_static("op-1"),
        };
        let Reply { head, body, .. } = refuse(reject, to);
        (head, String::from_utf8(body).unwrap())
    }

    fn value(head: &ResponseHeader, name: &str) -> Option<String> {
        head.headers.get(name).map(|v| v.to_str().unwrap().to_owned())
    }

    #[test]
    fn every_refusal_can_be_read_by_sdk_browser_and_operator() {
        for cause in Cause::ALL {
            let (head, body) = reply(&Reject::new(cause, "why"));
            assert!(body.len() <= 1024);
            let code = u64::from(Answers::default().of(cause).err_code);
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(json["errCode"].as_u64(), Some(code));
            assert_eq!(value(&head, "content-type").as_deref(), Some("application/json"));
            assert_eq!(value(&head, "access-control-allow-origin").as_deref(), Some("*"));
            assert_eq!(value(&head, "operationid").as_deref(), Some("op-1"));
            assert_eq!(value(&head, "www-authenticate").is_some(), head.status == 401, "{cause}");
        }
    }

    #[test]
    fn a_skewed_clock_is_told_ours() {
        let (head, body) = reply(
            &Reject::new(Cause::ClockSkew, "clock_skew").with(Hint::ServerTime(UnixTime(1_800_000_000))),
        );
        assert_eq!(value(&head, X_SERVER_TIME).as_deref(), Some("1800000000"));
        assert!(body.contains("\"errDlt\":\"server_time=1800000000\""), "{body}");
    }

    #[test]
    fn who_comes_back_as_told_is_not_too_early() {
        for (wait, secs) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (59_999, "60"), (60_000, "60")] {
            let hint = Hint::RetryAfter(Duration::from_millis(wait));
            let (head, _) = reply(&Reject::new(Cause::RateLimited, "rate_limited").with(hint));
            assert_eq!(value(&head, "retry-after").as_deref(), Some(secs), "{wait} ms");
        }
    }

    #[test]
    fn our_own_faults_are_not_explained_to_clients() {
        let (head, body) = reply(&Reject::from(imgate_identity::store::Unavailable::Unmarked));
        assert_eq!(body, r#"{"errCode":20401,"errMsg":"StoreUnavailableError","errDlt":""}"#);
        assert_eq!(value(&head, "retry-after").as_deref(), Some("1"));
    }
}
