//! What clients see: the public URL, hosts, cross-origin policy; and bounds, trust and the log.

use std::time::Duration;

use imgate_filters::cors::{Config, Policy};
use imgate_filters::folder::Folder;
use imgate_filters::networks::WrittenNetworks;
use imgate_filters::size::Size;

use super::Faults;
use crate::access_log;
use crate::admission::{Pace, ShedTerms};
use crate::config::meaning::Limits;
use crate::config::problem::{HostForm, Problem};
use crate::config::public_url::{PublicUrl, parse_authority};
use crate::config::spanned::Spanned;
use crate::config::written;
use crate::front::guard::HeadLimits;
use crate::front::trusted::TrustedProxies;

/// The largest body that any route may take whole, in bytes.
///
/// Source: OpenIM's own limit, `rpcMaxBodySize` in its `config/share.yml`.
pub(super) const MAX_BODY: u64 = 8 * 1024 * 1024;

/// The front of an answer that must be at hand, in bytes: OpenIM's `errCode` stands in it.
const MIN_HOLD: u64 = 512;

/// The most of an answer that may be held in memory, in bytes.
const MAX_HOLD: u64 = 64 * 1024 * 1024;

/// The least that a bound on a request's head may be, in bytes: a signed request must fit.
const MIN_HEAD: u64 = 1024;

/// The most that a bound on a request's head may be, in bytes.
const MAX_HEAD: u64 = 256 * 1024;

/// The most headers that a request may have. Source: pingora-core `MAX_HEADERS`.
const MAX_HEADERS: usize = 256;

/// When OpenIM's clients give up. Source: openim-sdk-core `pkg/network/http_client.go`.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// The public URL.
pub(super) fn public_url(faults: &mut Faults, written: &Spanned<String>) -> Option<PublicUrl> {
    let parsed = PublicUrl::parse(&written.value).map_err(Problem::Url);
    faults.keep(written.referenced, "public_url", parsed)
}

/// The hosts clients may sign for: those listed, or the one of the public URL.
pub(super) fn hosts(
    faults: &mut Faults,
    written: Option<&Spanned<Vec<Spanned<String>>>>,
    url: Option<&PublicUrl>,
) -> Vec<Box<str>> {
    let Some(url) = url else { return Vec::new() };
    let Some(written) = written else { return vec![url.authority().into()] };
    if written.value.is_empty() {
        faults.add(written.referenced, "hosts", Problem::Empty);
    }
    let mut hosts = Vec::new();
    for (i, host) in written.value.iter().enumerate() {
        let parsed = parse_authority(&host.value, url.scheme())
            .ok_or_else(|| Problem::BadHost(host.value.as_str().into(), HostForm::WithPort));
        hosts.extend(faults.keep(host.referenced, format!("hosts[{i}]"), parsed));
    }
    hosts
}

/// How many threads serve: as many as there are cores, if nothing else is said.
pub(super) fn threads(faults: &mut Faults, written: Option<&Spanned<usize>>) -> usize {
    let Some(threads) = written else {
        return std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    };
    if threads.value == 0 {
        faults.add(threads.referenced, "threads", Problem::Zero);
    }
    if threads.value > 1024 {
        faults.add(threads.referenced, "threads", Problem::AboveMax(1024));
    }
    threads.value
}

/// Bounds that hold for every route.
pub(super) fn limits(faults: &mut Faults, written: &written::Limits) -> Limits {
    let seconds = Duration::from_secs;
    if let Some(timeout) =
        written.request_timeout.as_ref().filter(|timeout| timeout.value.0 >= CLIENT_PATIENCE)
    {
        faults.warn(timeout.referenced, "limits.request_timeout", Problem::LateTimeout);
    }
    Limits {
        request_timeout: written.request_timeout.as_ref().map_or(seconds(9), |timeout| timeout.value.0),
        client_timeout: written.client_timeout.map_or(seconds(30), |timeout| timeout.0),
        head: head(faults, &written.head),
        head_timeout: written.head.timeout.map_or(seconds(5), |timeout| timeout.0),
        keepalive_timeout: written.keepalive_timeout.map_or(seconds(60), |timeout| timeout.0),
        requests_per_connection: requests(faults, written.requests_per_connection.as_ref()),
        drain_timeout: written.drain_timeout.map_or(seconds(20), |timeout| timeout.0),
        upgrade_timeout: written.upgrade_timeout.map_or(seconds(30), |timeout| timeout.0),
        body: bounded(faults, written.body.as_ref(), "limits.body", MAX_BODY).unwrap_or(64 * 1024),
        hold: hold(faults, written.hold.as_ref()),
        connections: above_zero(faults, written.connections.as_ref(), "limits.connections"),
        connections_per_address: above_zero(
            faults,
            written.connections_per_address.as_ref(),
            "limits.connections_per_address",
        ),
        shed: shed(faults, &written.shed),
        handshakes: written.handshakes.as_ref().map(|handshakes| pace(faults, handshakes)),
    }
}

fn head(faults: &mut Faults, written: &written::Head) -> HeadLimits {
    let defaults = HeadLimits::default();
    let mut size = |written: Option<&Spanned<Size>>, key: &str, default| {
        let place = format!("limits.head.{key}");
        if let Some(size) = written.filter(|size| size.value.0 < MIN_HEAD) {
            faults.add(size.referenced, place.as_str(), Problem::BelowMinSize(MIN_HEAD));
        }
        bounded(faults, written, &place, MAX_HEAD).unwrap_or(default)
    };
    let limits = HeadLimits {
        size: size(written.size.as_ref(), "size", defaults.size),
        line: size(written.line.as_ref(), "line", defaults.line),
        target: size(written.target.as_ref(), "target", defaults.target),
        headers: written.headers.as_ref().map_or(defaults.headers, |headers| headers.value),
    };
    if let Some(headers) = written.headers.as_ref() {
        let checked = match headers.value {
            0 => Err(Problem::Zero),
            1..=MAX_HEADERS => Ok(()),
            _ => Err(Problem::AboveMax(MAX_HEADERS)),
        };
        faults.keep(headers.referenced, "limits.head.headers", checked);
    }
    limits
}

fn requests(faults: &mut Faults, written: Option<&Spanned<u32>>) -> u32 {
    if let Some(zero) = written.filter(|requests| requests.value == 0) {
        faults.add(zero.referenced, "limits.requests_per_connection", Problem::Zero);
    }
    written.map_or(10_000, |requests| requests.value)
}

/// A number that has no default and makes no sense as 0.
fn above_zero(faults: &mut Faults, written: Option<&Spanned<usize>>, place: &str) -> Option<usize> {
    let number = written?;
    if number.value == 0 {
        faults.add(number.referenced, place, Problem::Zero);
    }
    Some(number.value)
}

/// Whose `X-Forwarded-For` is believed.
pub(super) fn trusted_proxies(
    faults: &mut Faults,
    written: Option<&Spanned<WrittenNetworks>>,
    base: &Folder,
) -> TrustedProxies {
    let Some(written) = written else { return TrustedProxies::default() };
    let read = written.value.read(base).map_err(Problem::Networks);
    faults.keep(written.referenced, "trusted_proxies", read).map(TrustedProxies::new).unwrap_or_default()
}

/// How many TLS handshakes may begin. A client that waits for longer than a few seconds has gone away.
fn pace(faults: &mut Faults, written: &written::Handshakes) -> Pace {
    if written.burst.value == 0 {
        faults.add(written.burst.referenced, "limits.handshakes.burst", Problem::Zero);
    }
    if let Some(wait) = written.wait.as_ref().filter(|wait| wait.value.0 > CLIENT_PATIENCE) {
        faults.add(wait.referenced, "limits.handshakes.wait", Problem::NoSuchTime("0s", "10s"));
    }
    Pace {
        interval: Duration::from_nanos(written.rate.interval()),
        burst: written.burst.value,
        patience: written.wait.as_ref().map_or(Duration::from_secs(2), |wait| wait.value.0),
    }
}

/// When requests are refused because tasks wait for too long. A target of 0 is to refuse none.
fn shed(faults: &mut Faults, written: &written::Shed) -> Option<ShedTerms> {
    let millis = Duration::from_millis;
    if let Some(interval) = written
        .interval
        .as_ref()
        .filter(|interval| !(millis(20)..=millis(10_000)).contains(&interval.value.0))
    {
        faults.add(interval.referenced, "limits.shed.interval", Problem::NoSuchTime("20ms", "10s"));
    }
    let target = written.target.as_ref().map_or(millis(100), |target| target.value.0);
    if target.is_zero() {
        return None;
    }
    // Timers alone may be 2 ms late.
    if let Some(at) = written.target.as_ref().filter(|_| !(millis(5)..=millis(10_000)).contains(&target)) {
        let problem = Problem::NoSuchTime("5ms", "10s, or 0s for never");
        faults.add(at.referenced, "limits.shed.target", problem);
    }
    let interval = written.interval.as_ref().map_or(millis(100), |interval| interval.value.0);
    Some(ShedTerms { target, interval })
}

fn hold(faults: &mut Faults, written: Option<&Spanned<Size>>) -> usize {
    if let Some(size) = written.filter(|size| size.value.0 < MIN_HOLD) {
        faults.add(size.referenced, "limits.hold", Problem::BelowMinSize(MIN_HOLD));
    }
    bounded(faults, written, "limits.hold", MAX_HOLD).unwrap_or(1024 * 1024)
}

/// A size that has a bound of its own and fits into memory.
pub(super) fn bounded(
    faults: &mut Faults,
    written: Option<&Spanned<Size>>,
    place: &str,
    max: u64,
) -> Option<usize> {
    let size = written?;
    let fits = |bytes: u64| usize::try_from(bytes).ok().filter(|_| bytes <= max);
    let value = fits(size.value.0).ok_or(Problem::AboveMaxSize(max));
    faults.keep(size.referenced, place, value)
}

/// The cross-origin policy.
pub(super) fn cors(faults: &mut Faults, written: Option<&Spanned<Config>>) -> Option<Policy> {
    let Some(written) = written else { return Config::default().policy().ok() };
    faults.keep(written.referenced, "cors", written.value.policy().map_err(Problem::Cors))
}

/// Where the access log goes.
pub(super) fn access_log(written: written::AccessLog, base: &Folder) -> access_log::Output {
    match written.output {
        written::Output::Stdout => access_log::Output::Stdout,
        written::Output::Stderr => access_log::Output::Stderr,
        written::Output::Off => access_log::Output::Off,
        written::Output::File(path) => access_log::Output::File(base.path_of(&path).into()),
    }
}
