//! Checks the query of a WebSocket handshake before OpenIM authenticates it.
//!
//! Writes that the query was checked. In `passthrough` the client brings its OpenIM token and OpenIM
//! decides; the gateway refuses what could be read in two ways, and OpenIM's administrators. The query
//! itself is never rebuilt: SDKs do not encode values, and a changed byte may change a meaning.
//!
//! The frames that follow are not read: on its released line OpenIM does not compare the sender in a message
//! with the user of the socket, and this filter does not either.
//!
//! ```yaml
//! - verify_socket: { mode: passthrough }
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use imgate_identity::user::{Platform, UserId};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::{Context, Fact, OperationId};
use crate::reject::{Cause, Reject};
use crate::{BuildError, Deps, Filter, Flow, Request};

/// The names OpenIM reads in a handshake's query.
///
/// Source: open-im-server `internal/msggateway/constant.go` and `context.go`.
pub const RESERVED: [&str; 10] = [
    "sendID",
    "token",
    "platformID",
    "operationID",
    "isBackground",
    "compression",
    "sdkType",
    "isMsgResp",
    "sdkVersion",
    "v",
];

/// Who authenticates a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// OpenIM does, by the token the client brings.
    #[default]
    Passthrough,
}

/// The YAML of this filter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who authenticates a socket.
    #[serde(default)]
    pub mode: Mode,
}

impl Config {
    pub(crate) fn build(&self, deps: &Deps) -> Result<VerifySocket, BuildError> {
        Ok(VerifySocket { admin_users: Arc::clone(&deps.admin_users) })
    }
}

pub(crate) struct VerifySocket {
    admin_users: Arc<HashSet<UserId>>,
}

#[async_trait]
impl Filter for VerifySocket {
    fn writes(&self) -> &'static [Fact] {
        &[Fact::Socket]
    }

    fn summary(&self) -> String {
        "checks the handshake's query (OpenIM authenticates); refuses admins, `v`, and doubtful names"
            .to_owned()
    }

    async fn request(&self, request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        let raw = std::str::from_utf8(request.head.raw_path())
            .map_err(|_| Reject::new(Cause::BadRequest, "target_not_ascii"))?;
        let query = Query::parse(raw.split_once('?').map_or("", |(_, query)| query))?;
        // SDKs name the operation here and nowhere else; the log should call it as OpenIM does.
        let named = query.operation_id.map(decode).and_then(|name| HeaderValue::from_bytes(&name).ok());
        if let Some(named) = named.as_ref().and_then(OperationId::from_client) {
            cx.operation_id = named;
        }
        if let Some(user) = query.send_id {
            let user = decode(user);
            if self.admin_users.iter().any(|admin| admin.as_str().as_bytes() == user.as_slice()) {
                return Err(Reject::new(Cause::Forbidden, "admin_on_socket"));
            }
            cx.claimed_user = std::str::from_utf8(&user).ok().and_then(|id| UserId::parse(id).ok());
        }
        if query.platform_id.is_some_and(|text| platform(text) == Some(Platform::ADMIN)) {
            return Err(Reject::new(Cause::Forbidden, "admin_platform_on_socket"));
        }
        if query.platform_id.is_some_and(|text| platform(text).is_none()) {
            return Err(Reject::new(Cause::BadRequest, "platform_malformed"));
        }
        Ok(Flow::Continue)
    }
}

/// The values that are decided on, as they were sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query<'a> {
    send_id: Option<&'a str>,
    platform_id: Option<&'a str>,
    operation_id: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// Reads a raw query in which every reserved name is spelled in full and there at most once.
    fn parse(raw: &'a str) -> Result<Self, Reject> {
        let bad = |reason| Err(Reject::new(Cause::BadRequest, reason));
        let (mut query, mut seen) = (Self::default(), [false; RESERVED.len()]);
        // Go's parser drops a pair that holds a `;`, others split there.
        if raw.contains(';') {
            return bad("query_semicolon");
        }
        for pair in raw.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(name);
            let Some(index) = RESERVED.iter().position(|r| decoded.eq_ignore_ascii_case(r.as_bytes())) else {
                continue;
            };
            if name != RESERVED[index] {
                return bad("query_name_disguised");
            }
            if std::mem::replace(&mut seen[index], true) {
                return bad("query_name_twice");
            }
            match name {
                // `v` holds all of the others in one base64 value and overrides them.
                "v" => return bad("query_v"),
                "sendID" => query.send_id = Some(value),
                "platformID" => query.platform_id = Some(value),
                "operationID" => query.operation_id = Some(value),
                _ => {}
            }
        }
        Ok(query)
    }
}

/// Reads a platform number in its one plain spelling. Go would take `+10` and `010` for 10 too.
fn platform(text: &str) -> Option<Platform> {
    let number: u8 = text.parse().ok()?;
    if number.to_string() != text {
        return None;
    }
    Platform::try_from(number).ok()
}

/// Decodes as Go's `url.QueryUnescape` does; a broken escape stays as it is, Go then drops the pair.
fn decode(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(nibble(*high) << 4 | nibble(*low));
                rest = after;
            }
            (other, _) => out.push(*other),
        }
    }
    out
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Refused, get, run};

    const CHAIN: &str = "- verify_socket: { mode: passthrough }";

    fn refused(status: u16, err_code: u32, reason: &'static str) -> Option<Refused> {
        Some(Refused { status, err_code, reason })
    }

    #[tokio::test]
    async fn what_the_sdks_send_passes_untouched() {
        let target = "/ws?sendID=u1&token=a.b.c&platformID=5&operationID=op&isBackground=false&sdkVersion=&compression=gzip&isMsgResp=true";
        let out = run(CHAIN, get(target)).await;
        assert_eq!(out.refused(), None);
        assert_eq!(out.head.raw_path(), target.as_bytes());
        assert_eq!(out.cx.claimed_user.unwrap().as_str(), "u1");
        assert_eq!(out.cx.operation_id.as_str(), "op");
    }

    #[tokio::test]
    async fn what_could_be_read_in_two_ways_is_refused() {
        let cases = [
            ("v=eyJ0b2tlbiI6IngifQ", "query_v"),
            ("v=", "query_v"),
            ("token=a&token=b", "query_name_twice"),
            ("TOKEN=a", "query_name_disguised"),
            ("%74oken=a", "query_name_disguised"),
            ("sendId=a", "query_name_disguised"),
            ("token=a;sendID=b", "query_semicolon"),
            ("platformID=+10", "platform_malformed"),
            ("platformID=010", "platform_malformed"),
            ("platformID=%310", "platform_malformed"),
            ("platformID=12", "platform_malformed"),
        ];
        for (query, reason) in cases {
            let out = run(CHAIN, get(&format!("/ws?{query}"))).await;
            assert_eq!(out.refused(), refused(400, 20202, reason), "{query}");
        }
    }

    #[tokio::test]
    async fn administrators_have_no_sockets_here() {
        for (query, reason) in [
            ("sendID=imAdmin&platformID=5", "admin_on_socket"),
            ("sendID=%69mAdmin", "admin_on_socket"),
            ("sendID=u1&platformID=10", "admin_platform_on_socket"),
        ] {
            let out = run(CHAIN, get(&format!("/ws?{query}"))).await;
            assert_eq!(out.refused(), refused(403, 1002, reason), "{query}");
        }
    }
}
