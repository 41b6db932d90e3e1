//! Upstreams and the addresses of their servers.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use http::HeaderName;
use imgate_filters::folder::Folder;

use super::{Faults, check_name};
use crate::config::meaning::Upstream;
use crate::config::named::Named;
use crate::config::period::Timeout;
use crate::config::problem::Problem;
use crate::config::public_url::is_host;
use crate::config::spanned::Spanned;
use crate::config::written;
use crate::upstream::{Balance, Key, Options, Origin, breaker, budget, eject, names, probe, tls, window};

/// All upstreams.
pub(super) fn resolve(
    faults: &mut Faults,
    written: &Spanned<Named<String, written::Upstream>>,
    base: &Folder,
) -> Vec<Upstream> {
    if written.value.0.is_empty() {
        faults.add(written.referenced, "upstreams", Problem::Empty);
    }
    let mut upstreams = Vec::new();
    for (name, upstream) in &written.value.0 {
        check_name(faults, name, "upstreams");
        let place = format!("upstreams.{}", name.value);
        let options = options(faults, &place, upstream, base);
        let servers = servers(faults, &format!("{place}.servers"), &upstream.servers, &options);
        upstreams.push(Upstream {
            name: name.value.as_str().into(),
            servers,
            options,
            mark: faults.mark(name.referenced),
        });
    }
    upstreams
}

/// Looking names up more often than this is no use to anybody.
const SOONEST_LOOKUP: Duration = Duration::from_secs(1);

/// What does not stand there has its default; what makes no sense is a fault.
fn options(faults: &mut Faults, place: &str, written: &written::Upstream, base: &Folder) -> Options {
    let usual = Options::default();
    let first_byte = written.first_byte_timeout.or(written.read_timeout);
    let idle_timeout = written.idle_timeout.map_or(usual.idle_timeout, |timeout| timeout.0);
    let idle_timeout_unsafe =
        written.idle_timeout_unsafe.map_or(usual.idle_timeout_unsafe, |period| period.0);
    Options {
        tls: written.tls.as_ref().and_then(|tls| tls_options(faults, place, tls, base)),
        connect_timeout: written.connect_timeout.map_or(usual.connect_timeout, |timeout| timeout.0),
        first_byte_timeout: first_byte.map_or(usual.first_byte_timeout, |timeout| timeout.0),
        read_timeout: written.read_timeout.map_or(usual.read_timeout, |timeout| timeout.0),
        idle_timeout,
        idle_timeout_unsafe: idle_timeout_unsafe.min(idle_timeout),
        keepalive: written.keepalive.unwrap_or(usual.keepalive),
        balance: balance(faults, place, &written.balance),
        resolve: lookups(faults, place, &written.resolve),
        check: written.health_check.as_ref().and_then(|check| health_check(faults, place, check)),
        failure_codes: written.failure_codes.as_deref().map_or(usual.failure_codes, Into::into),
        eject: eject(faults, place, &written.eject),
        breaker: breaker(faults, place, &written.breaker),
        retries: retries(&written.retries),
        slow_return: written.slow_return.map_or(usual.slow_return, |period| period.0),
    }
}

fn tls_options(
    faults: &mut Faults,
    place: &str,
    written: &Spanned<written::UpstreamTls>,
    base: &Folder,
) -> Option<tls::Options> {
    let written::UpstreamTls { ca, server_name, certificate, key } = &written.value;
    let place = format!("{place}.tls");
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((certificate.as_path(), key.as_path()))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Problem::MissingKey("key")),
        (None, Some(_)) => Err(Problem::MissingKey("certificate")),
    };
    let identity = faults.keep(written.referenced, &*place, identity)?;
    let files = tls::Files { base, ca: ca.as_deref(), server_name: server_name.as_deref(), identity };
    faults.keep(written.referenced, place, tls::Options::read(&files).map_err(Problem::Tls))
}

fn balance(faults: &mut Faults, place: &str, written: &written::Balance) -> Balance {
    let key = match written {
        written::Balance::LeastLoaded => return Balance::LeastLoaded,
        written::Balance::Hash(written::HashKey::User) => Key::User,
        written::Balance::Hash(written::HashKey::Address) => Key::Address,
        written::Balance::Hash(written::HashKey::Header(name)) => {
            let header = HeaderName::try_from(&name.value);
            let header = header.map_err(|_| Problem::BadHeaderName(name.value.as_str().into()));
            match faults.keep(name.referenced, format!("{place}.balance.hash.header"), header) {
                Some(header) => Key::Header(header),
                None => return Balance::LeastLoaded,
            }
        }
    };
    Balance::Hash(key)
}

fn lookups(faults: &mut Faults, place: &str, written: &written::Resolve) -> names::Options {
    let usual = names::Options::default();
    if let Some(every) = written.every.as_ref().filter(|every| every.value.0 < SOONEST_LOOKUP) {
        faults.add(every.referenced, format!("{place}.resolve.every"), Problem::TooOften(SOONEST_LOOKUP));
    }
    names::Options {
        every: written.every.as_ref().map_or(usual.every, |every| every.value.0),
        timeout: written.timeout.map_or(usual.timeout, |timeout| timeout.0),
        strict: written.strict.unwrap_or(usual.strict),
    }
}

fn health_check(
    faults: &mut Faults,
    place: &str,
    written: &Spanned<written::HealthCheck>,
) -> Option<probe::Options> {
    let place = format!("{place}.health_check");
    let check = &written.value;
    let kind = match &check.ask {
        written::Ask::OpenimApi => probe::Kind::OpenimApi,
        written::Ask::OpenimSocket => probe::Kind::OpenimSocket,
        written::Ask::Tcp => probe::Kind::Tcp,
        written::Ask::Http(path) => {
            let is_path = path.value.starts_with('/') && path.value.bytes().all(|b| b.is_ascii_graphic());
            let path_ok = if is_path { Ok(()) } else { Err(Problem::BadTarget(path.value.as_str().into())) };
            faults.keep(path.referenced, format!("{place}.ask.http"), path_ok)?;
            probe::Kind::Http(path.value.as_str().into())
        }
    };
    let usual = probe::Options::new(kind);
    let interval = check.interval.as_ref().map_or(usual.interval, |interval| interval.value.0);
    let timeout = check.timeout.as_ref().map_or(usual.timeout.min(interval), |timeout| timeout.value.0);
    if timeout > interval {
        let at = check.timeout.as_ref().map_or(written.referenced, |timeout| timeout.referenced);
        faults.add(at, format!("{place}.timeout"), Problem::LongerThan("interval"));
    }
    Some(probe::Options {
        interval,
        timeout,
        unhealthy_after: above_zero(faults, &place, "unhealthy_after", check.unhealthy_after.as_ref())
            .unwrap_or(usual.unhealthy_after),
        healthy_after: above_zero(faults, &place, "healthy_after", check.healthy_after.as_ref())
            .unwrap_or(usual.healthy_after),
        ..usual
    })
}

fn eject(faults: &mut Faults, place: &str, written: &written::Eject) -> Option<eject::Options> {
    let (place, usual) = (format!("{place}.eject"), eject::Options::default());
    let written::Eject { enabled, failures, users, share, within, pause, longest_pause, at_most } = written;
    let threshold = window::Threshold {
        failures: above_zero(faults, &place, "failures", failures.as_ref())
            .unwrap_or(usual.threshold.failures),
        users: above_zero(faults, &place, "users", users.as_ref()).unwrap_or(usual.threshold.users),
        share: share.map_or(usual.threshold.share, |share| share.0),
        within: within.map_or(usual.threshold.within, |within| within.0),
    };
    let (pause, longest_pause) =
        pauses(faults, &place, pause.as_ref(), *longest_pause, (usual.pause, usual.longest_pause));
    let at_most = at_most.map_or(usual.at_most, |share| share.0);
    enabled.unwrap_or(true).then_some(eject::Options { threshold, pause, longest_pause, at_most })
}

fn breaker(faults: &mut Faults, place: &str, written: &written::Breaker) -> Option<breaker::Options> {
    let (place, usual) = (format!("{place}.breaker"), breaker::Options::default());
    let written::Breaker { enabled, failures, users, share, within, pause, longest_pause } = written;
    let threshold = window::Threshold {
        failures: above_zero(faults, &place, "failures", failures.as_ref())
            .unwrap_or(usual.threshold.failures),
        users: above_zero(faults, &place, "users", users.as_ref()).unwrap_or(usual.threshold.users),
        share: share.map_or(usual.threshold.share, |share| share.0),
        within: within.map_or(usual.threshold.within, |within| within.0),
    };
    let (pause, longest_pause) =
        pauses(faults, &place, pause.as_ref(), *longest_pause, (usual.pause, usual.longest_pause));
    enabled.unwrap_or(true).then_some(breaker::Options { threshold, pause, longest_pause })
}

/// A pause and the longest it grows to. The longest is no less than the first.
fn pauses(
    faults: &mut Faults,
    place: &str,
    pause: Option<&Spanned<Timeout>>,
    longest: Option<Timeout>,
    usual: (Duration, Duration),
) -> (Duration, Duration) {
    let first = pause.map_or(usual.0, |pause| pause.value.0);
    let Some(longest) = longest else { return (first, usual.1.max(first)) };
    if let Some(pause) = pause.filter(|pause| pause.value.0 > longest.0) {
        faults.add(pause.referenced, format!("{place}.pause"), Problem::LongerThan("longest_pause"));
    }
    (first.min(longest.0), longest.0)
}

fn retries(written: &written::Retries) -> budget::Options {
    let usual = budget::Options::default();
    budget::Options {
        share: written.share.map_or(usual.share, |share| share.0),
        per_second: written.per_second.unwrap_or(usual.per_second),
    }
}

fn above_zero<N: Copy + PartialEq + Default>(
    faults: &mut Faults,
    place: &str,
    key: &str,
    written: Option<&Spanned<N>>,
) -> Option<N> {
    let written = written?;
    let value = if written.value == N::default() { Err(Problem::Zero) } else { Ok(written.value) };
    faults.keep(written.referenced, format!("{place}.{key}"), value)
}

fn servers(
    faults: &mut Faults,
    place: &str,
    written: &Spanned<Vec<Spanned<String>>>,
    options: &Options,
) -> Vec<Origin> {
    if written.value.is_empty() {
        faults.add(written.referenced, place, Problem::Empty);
    }
    let mut servers: Vec<Origin> = Vec::new();
    for (i, server) in written.value.iter().enumerate() {
        let origin = origin(&server.value, options);
        let origin = faults.keep(server.referenced, format!("{place}[{i}]"), origin);
        servers.extend(origin.filter(|origin| !servers.contains(origin)));
    }
    servers
}

/// The server at `host:port`, with the addresses behind it.
fn origin(text: &str, options: &Options) -> Result<Origin, Problem> {
    let bad = || Problem::BadServer(text.into());
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    // A sign would get past `parse`.
    let port = Some(port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let port: u16 = port.and_then(|port| port.parse().ok()).ok_or_else(bad)?;
    if port == 0 || !is_host(host) {
        return Err(bad());
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if options.tls.as_ref().is_some_and(|tls| tls.check_name(host).is_err()) {
        return Err(bad());
    }
    let found: Vec<SocketAddr> = match text.to_socket_addrs() {
        Ok(found) => names::preferred(&found.collect::<Vec<_>>()),
        Err(error) if options.resolve.strict => return Err(Problem::Unresolved(text.into(), error)),
        Err(_) => Vec::new(),
    };
    Ok(Origin { host: host.into(), port, found })
}
