//! One question to a server, and what it said.

use std::time::SystemTime;

use http::Method;
use http::header::DATE;
use imgate_identity::secret::Secret;
use serde_json::Value;

use crate::exchange::{Answer, Body, ExchangeError, Repeat, Request, exchange};
use crate::operation::fresh_operation_id;
use crate::upstream::{Asker, ConnectError, Upstream};

/// The most of an answer that is read.
const HOLD: usize = 64 * 1024;

/// How far a clock may be from ours before it is worth a word, in seconds. OpenIM's `Date` has whole ones.
const SKEW_WARN: i64 = 3;

/// OpenIM's path to look at a token. It needs none itself, and changes nothing.
const PARSE_TOKEN: &str = "/auth/parse_token";

/// What a server said.
pub(super) struct Said {
    /// The HTTP status.
    pub(super) status: u16,
    /// OpenIM's `errCode`, if it is an envelope.
    pub(super) code: Option<i64>,
    /// OpenIM's `errDlt`. It may hold a token.
    pub(super) detail: Secret<String>,
    /// OpenIM's `data`.
    pub(super) data: Value,
    /// The server's clock, in seconds since the Unix epoch.
    pub(super) date: Option<u64>,
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Self {
        let date = answer.head.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok()).and_then(seconds);
        let envelope: Value = match &answer.body {
            Body::Whole(body) => serde_json::from_slice(body).unwrap_or_default(),
            Body::Flowing { .. } => Value::Null,
        };
        Self {
            status: answer.head.status.as_u16(),
            code: envelope["errCode"].as_i64(),
            detail: Secret::new(envelope["errDlt"].as_str().unwrap_or_default().to_owned()),
            data: envelope["data"].clone(),
            date,
        }
    }
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// Asks OpenIM's API.
pub(super) async fn post(
    upstream: &Upstream,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> Result<Said, ExchangeError> {
    let (body, token) =
        (body.to_string(), token.map_or(String::new(), |token| format!("token: {token}\r\n")));
    let wire = Secret::new(format!(
        "POST {path} HTTP/1.1\r\nhost: openim\r\noperationid: {}\r\n{token}content-type: application/json\r\n\
         accept-encoding: identity\r\ncontent-length: {}\r\n\r\n{body}",
        fresh_operation_id().as_str(),
        body.len()
    ));
    ask(upstream, wire.expose().as_bytes(), &Method::POST).await
}

/// Asks OpenIM what a token is worth.
pub(super) async fn parse_token(upstream: &Upstream, token: &str) -> Result<Said, ExchangeError> {
    post(upstream, PARSE_TOKEN, None, &serde_json::json!({ "token": token })).await
}

/// Asks any HTTP server for anything.
pub(super) async fn get(upstream: &Upstream) -> Result<Said, ExchangeError> {
    let wire = b"GET / HTTP/1.1\r\nhost: imgate-doctor\r\naccept-encoding: identity\r\n\r\n";
    ask(upstream, wire, &Method::GET).await
}

async fn ask(upstream: &Upstream, wire: &[u8], method: &Method) -> Result<Said, ExchangeError> {
    let request = Request { wire, method, repeat: Repeat::Refuse, hold: HOLD, asker: Asker::default() };
    Ok(exchange(upstream, request).await?.into())
}

/// What to do about a server that does not answer.
pub(super) fn remedy(error: &ExchangeError) -> &'static str {
    match error {
        ExchangeError::Connect(ConnectError::Refused(_) | ConnectError::NoServer) => {
            "nothing listens there: start it, or correct `servers` of this upstream"
        }
        ExchangeError::Connect(ConnectError::Tls(_)) => {
            "it speaks no TLS, or its certificate is not for this host or of an authority we trust: see `tls` of \
             this upstream"
        }
        ExchangeError::Connect(ConnectError::Timeout) => {
            "its machine is away, or a firewall drops what is sent there"
        }
        ExchangeError::Connect(ConnectError::BreakerOpen | ConnectError::Exhausted(_)) => {
            "this machine has no socket left: see how many descriptors and ports it may use"
        }
        ExchangeError::Timeout | ExchangeError::Stalled => {
            "it accepts connections and does not answer: it hangs, or waits for something else"
        }
        ExchangeError::Closed | ExchangeError::Garbled(_) | ExchangeError::Io(_) => {
            "something listens there that does not speak HTTP as it should: correct `servers` of this upstream"
        }
    }
}

/// Compares a clock with ours: how it differs in words, if it does so by more than is harmless.
pub(super) fn skew(theirs: u64, ours: u64) -> Option<String> {
    let ahead = theirs.cast_signed().saturating_sub(ours.cast_signed());
    (ahead.abs() >= SKEW_WARN)
        .then(|| format!("{} s {} ours", ahead.abs(), if ahead > 0 { "ahead of" } else { "behind" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_may_differ_a_little() {
        assert_eq!(skew(1002, 1000), None);
        assert_eq!(skew(1000, 1002), None);
        assert_eq!(skew(1060, 1000).unwrap(), "60 s ahead of ours");
        assert_eq!(skew(0, 1000).unwrap(), "1000 s behind ours");
    }
}
