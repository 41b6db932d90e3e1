//! Upstreams and the addresses of their servers.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use serde_saphyr::Spanned;

use super::{Faults, check_name};
use crate::config::meaning::Upstream;
use crate::config::named::Named;
use crate::config::problem::Problem;
use crate::config::public_url::is_host;
use crate::config::written;
use crate::upstream::Options;

/// All upstreams.
pub(super) fn resolve(
    faults: &mut Faults,
    written: &Spanned<Named<String, written::Upstream>>,
) -> Vec<Upstream> {
    if written.value.0.is_empty() {
        faults.add(written.referenced, "upstreams", Problem::Empty);
    }
    let mut upstreams = Vec::new();
    for (name, upstream) in &written.value.0 {
        check_name(faults, name, "upstreams");
        upstreams.push(Upstream {
            name: name.value.as_str().into(),
            servers: servers(faults, &format!("upstreams.{}.servers", name.value), &upstream.servers),
            options: options(upstream),
            mark: faults.mark(name.referenced),
        });
    }
    upstreams
}

fn options(written: &written::Upstream) -> Options {
    let seconds = Duration::from_secs;
    Options {
        // A lost SYN is sent again after 1 s (RFC 6298 section 2.1); that one should still count.
        connect_timeout: written.connect_timeout.map_or(Duration::from_millis(1500), |timeout| timeout.0),
        read_timeout: written.read_timeout.map_or(seconds(8), |timeout| timeout.0),
        idle_timeout: written.idle_timeout.map_or(seconds(50), |timeout| timeout.0),
        keepalive: written.keepalive.unwrap_or(256),
    }
}

fn servers(faults: &mut Faults, place: &str, written: &Spanned<Vec<Spanned<String>>>) -> Vec<SocketAddr> {
    if written.value.is_empty() {
        faults.add(written.referenced, place, Problem::Empty);
    }
    let mut servers = Vec::new();
    for (i, server) in written.value.iter().enumerate() {
        let found = addresses(&server.value);
        for address in faults.keep(server.referenced, format!("{place}[{i}]"), found).unwrap_or_default() {
            if !servers.contains(&address) {
                servers.push(address);
            }
        }
    }
    servers
}

/// The addresses behind `host:port`. IPv4 wins where there is both: the same server would count twice.
fn addresses(text: &str) -> Result<Vec<SocketAddr>, Problem> {
    let bad = || Problem::BadServer(text.into());
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    // A sign would get past `parse`.
    let port = Some(port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let port: u16 = port.and_then(|port| port.parse().ok()).ok_or_else(bad)?;
    if port == 0 || !is_host(host) {
        return Err(bad());
    }
    let unresolved = |error| Problem::Unresolved(text.into(), error);
    let all: Vec<SocketAddr> = text.to_socket_addrs().map_err(unresolved)?.collect();
    let v4: Vec<SocketAddr> = all.iter().copied().filter(SocketAddr::is_ipv4).collect();
    Ok(if v4.is_empty() { all } else { v4 })
}
