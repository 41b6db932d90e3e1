//! Whether OpenIM's API, and whatever else stands behind the gateway, is there and is what it should be.

use imgate_identity::time::UnixTime;

use super::probe::{Said, get, parse_token, remedy, skew};
use super::report::Finding;
use super::targets::{Target, Targets};

const API: &str = "openim api";

const CLOCK: &str = "clock";

const OTHER: &str = "upstream";

/// What is shown to OpenIM as a token; any OpenIM says that it is none.
pub(super) const NO_TOKEN: &str = "imgate-doctor";

/// OpenIM's code for a text that is no token.
/// Source: open-im-server `pkg/common/servererrs/code.go`, `TokenMalformedError`.
pub(super) const MALFORMED: i64 = 1503;

/// The codes of a message gateway that refuses a handshake for its form.
/// Source: open-im-server `pkg/common/servererrs/code.go`, `ConnArgsErr`.
const BAD_HANDSHAKE: i64 = 1602;

/// Asks every server of OpenIM's API what it makes of a text that is no token.
pub(super) async fn examine(targets: &Targets<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for target in targets.api() {
        match parse_token(&target.upstream, NO_TOKEN).await {
            Ok(said) => findings.extend(judge(&target, &said)),
            Err(error) => findings.push(unreachable(API, &target, &error)),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::skip(API, "no route sends a token to OpenIM's API"));
    }
    findings
}

pub(super) fn unreachable(
    check: &'static str,
    target: &Target,
    error: &crate::exchange::ExchangeError,
) -> Finding {
    Finding::fail(check, format!("{}: {error}", target.name), remedy(error))
}

fn judge(target: &Target, said: &Said) -> Vec<Finding> {
    let name = &target.name;
    let mut findings = vec![match said.code {
        Some(MALFORMED) => Finding::ok(API, format!("{name} answers as OpenIM does, {}", line(said))),
        Some(BAD_HANDSHAKE) => Finding::fail(
            API,
            format!("{name} is OpenIM's message gateway, not its API"),
            "the ports are swapped: the API listens on 10002, the message gateway on 10001",
        ),
        Some(code) => Finding::fail(
            API,
            format!("{name} answers with errCode {code} where OpenIM says {MALFORMED}"),
            "OpenIM's API is up, but what it asks is not: look at its auth service, Redis and etcd",
        ),
        None => Finding::fail(
            API,
            format!("{name} is not OpenIM's API: HTTP {} without OpenIM's envelope", said.status),
            "another server listens there: correct `servers` of this upstream",
        ),
    }];
    if said.code == Some(MALFORMED) {
        findings.extend(clock(name, said));
    }
    findings
}

/// The release line, as far as it shows: the released one repeats the token that it was shown.
fn line(said: &Said) -> &'static str {
    if said.detail.expose().contains(NO_TOKEN) {
        "released line (v3.8.3-patch)"
    } else {
        "development line, or newer than v3.8.3-patch"
    }
}

/// Compares the server's clock with ours.
fn clock(name: &str, said: &Said) -> Option<Finding> {
    let differs = skew(said.date?, UnixTime::now().0);
    Some(match differs {
        None => Finding::ok(CLOCK, format!("{name} and this machine agree on the time")),
        Some(differs) => Finding::warn(
            CLOCK,
            format!("the clock of {name} is {differs}"),
            "signatures and tokens are judged by the clock: keep all machines in time by NTP",
        ),
    })
}

/// Asks every other server anything at all.
pub(super) async fn examine_others(targets: &Targets<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for target in targets.others() {
        findings.push(match get(&target.upstream).await {
            Ok(said) => Finding::ok(OTHER, format!("{} answers (HTTP {})", target.name, said.status)),
            Err(error) => unreachable(OTHER, &target, &error),
        });
    }
    findings
}
