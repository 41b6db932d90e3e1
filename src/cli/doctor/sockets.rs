//! Whether message gateways are there and ask for a token.

use http::HeaderValue;
use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use pingora_http::RequestHeader;

use super::api::{NO_TOKEN, unreachable};
use super::probe::Said;
use super::report::Finding;
use super::targets::{Target, Targets};
use crate::exchange::{ExchangeError, Upgrade, upgrade};
use crate::operation::fresh_operation_id;
use crate::tunnel::write_handshake;
use crate::upstream::Asker;

const SOCKETS: &str = "message gateway";

/// The most of a refusal that is read.
const HOLD: usize = 16 * 1024;

/// The codes with which a message gateway refuses a token.
/// Source: open-im-server `pkg/common/servererrs/code.go`.
const TOKEN_CODES: std::ops::RangeInclusive<i64> = 1501..=1507;

/// The code of a message gateway that is full: `ConnOverMaxNumLimit`.
const FULL: i64 = 1601;

/// Tries to open a WebSocket with a text that is no token, and wants to be refused as OpenIM does.
pub(super) async fn examine(targets: &Targets<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (target, path) in targets.sockets() {
        findings.push(match handshake(&target, &path).await {
            Ok(Upgrade::Answered(answer)) => judge(&target, &answer.into()),
            Ok(Upgrade::Switched { .. }) => Finding::fail(
                SOCKETS,
                format!("{} opens a WebSocket for a token that is none", target.name),
                "this is not OpenIM's message gateway, or not one that asks who comes",
            ),
            Err(error) => unreachable(SOCKETS, &target, &error),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::skip(SOCKETS, "no route leads to one"));
    }
    findings
}

async fn handshake(target: &Target, path: &str) -> Result<Upgrade, ExchangeError> {
    let query = format!(
        "{path}?sendID={NO_TOKEN}&token={NO_TOKEN}&platformID=5&operationID={}&isBackground=false",
        fresh_operation_id().as_str()
    );
    let head = head(&query).ok_or(ExchangeError::Garbled("handshake_not_written"))?;
    let wire = write_handshake(&head, query.as_bytes(), target.address.ip());
    upgrade(&target.upstream, &wire, HOLD, Asker::default()).await
}

/// A handshake as a client writes it. Source: RFC 6455 section 1.3 for the key.
fn head(target: &str) -> Option<RequestHeader> {
    let mut head = RequestHeader::build("GET", target.as_bytes(), None).ok()?;
    let lines = [
        (HOST, "imgate-doctor"),
        (UPGRADE, "websocket"),
        (CONNECTION, "Upgrade"),
        (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        (SEC_WEBSOCKET_VERSION, "13"),
    ];
    for (name, value) in lines {
        head.insert_header(name, HeaderValue::from_static(value)).ok()?;
    }
    Some(head)
}

fn judge(target: &Target, said: &Said) -> Finding {
    let name = &target.name;
    match said.code {
        Some(code) if TOKEN_CODES.contains(&code) => {
            Finding::ok(SOCKETS, format!("{name} refuses what is no token, as OpenIM does ({code})"))
        }
        Some(FULL) => Finding::warn(
            SOCKETS,
            format!("{name} is full (errCode {FULL})"),
            "raise websocketMaxConnNum of OpenIM's message gateway, or add another",
        ),
        Some(code) => Finding::fail(
            SOCKETS,
            format!("{name} refuses a handshake with errCode {code}"),
            "if it is OpenIM's message gateway, what it asks is away: look at its auth service and at etcd",
        ),
        None => Finding::fail(
            SOCKETS,
            format!("{name} is not OpenIM's message gateway: HTTP {} without OpenIM's envelope", said.status),
            "another server listens there: the message gateway listens on 10001, the API on 10002",
        ),
    }
}
