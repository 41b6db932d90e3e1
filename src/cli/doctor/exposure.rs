//! Whether what the gateway guards can be reached beside it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use imgate_identity::store::Address;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::report::Finding;
use crate::config::Config;

const PORTS: &str = "open ports";

/// How long a connection to this machine itself may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The ports OpenIM's parts are published on.
/// Source: openim-docker `docker-compose.yaml` and `.env`.
const OPENIM: [(u16, &str); 7] = [
    (10001, "OpenIM's message gateway"),
    (10002, "OpenIM's API"),
    (10005, "OpenIM's object storage"),
    (10008, "OpenIM's chat API"),
    (10009, "OpenIM's admin API"),
    (11001, "OpenIM's web page"),
    (11002, "OpenIM's admin page"),
];

/// Tries what others could try: to reach upstreams and Redis by this machine's other addresses.
pub(super) async fn examine(config: &Config, redis: &[Address], outside: &[IpAddr]) -> Vec<Finding> {
    let outside = if outside.is_empty() { interfaces() } else { outside.iter().copied().collect() };
    if outside.is_empty() {
        return vec![Finding::skip(PORTS, "this machine has no address that others could reach")];
    }
    let ours: BTreeSet<u16> =
        config.listeners.iter().filter_map(|listener| Some(listener.address.ip()?.port())).collect();
    let mut tries = JoinSet::new();
    for (port, what) in ports(config, redis).into_iter().filter(|(port, _)| !ours.contains(port)) {
        for ip in &outside {
            let (address, what) = (SocketAddr::new(*ip, port), what.clone());
            tries.spawn(async move { is_open(address, &what).await.then_some((address, what)) });
        }
    }
    let mut found: Vec<(SocketAddr, String)> = tries.join_all().await.into_iter().flatten().collect();
    found.sort();
    if found.is_empty() {
        let list: Vec<String> = outside.iter().map(IpAddr::to_string).collect();
        return vec![Finding::ok(
            PORTS,
            format!("nothing behind the gateway answers at {}", list.join(", ")),
        )];
    }
    found.into_iter().map(|(address, what)| beside(address, &what)).collect()
}

fn beside(address: SocketAddr, what: &str) -> Finding {
    Finding::warn(
        PORTS,
        format!("{what} can be reached at {address}, beside the gateway"),
        "whoever goes there passes no check of the gateway: bind it to loopback or a private network, or close \
         the port",
    )
}

const REDIS: &str = "Redis, without a password,";

/// The ports to try, and what is behind them.
fn ports(config: &Config, redis: &[Address]) -> Vec<(u16, String)> {
    let upstreams = config.upstreams.iter().flat_map(|upstream| {
        let local =
            upstream.servers.iter().flat_map(|origin| &origin.found).filter(|server| is_here(server.ip()));
        local.map(move |server| (server.port(), format!("upstream {}", upstream.name)))
    });
    let mut ports: Vec<(u16, String)> = upstreams.collect();
    for (port, what) in OPENIM {
        if ports.iter().all(|(known, _)| *known != port) {
            ports.push((port, what.to_owned()));
        }
    }
    let local = redis.iter().filter(|server| is_loopback(server.host()));
    ports.extend(local.map(|server| (server.port(), REDIS.to_owned())));
    ports
}

/// Whether the address is this machine's; a server elsewhere is not beside the gateway.
fn is_here(ip: IpAddr) -> bool {
    ip.is_loopback() || interfaces().contains(&ip)
}

/// Whether the host is loopback: a Redis elsewhere is looked at where it is.
fn is_loopback(host: &str) -> bool {
    host.parse::<IpAddr>().map_or(host == "localhost", |ip| ip.is_loopback())
}

/// The addresses of this machine that are not loopback's.
fn interfaces() -> BTreeSet<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return BTreeSet::new() };
    let addresses = interfaces.filter_map(|interface| ip(&interface.address?));
    addresses.filter(|ip| !ip.is_loopback() && !is_link_local(*ip)).collect()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// An address that only neighbours on one wire reach, and only by naming the wire.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

async fn is_open(address: SocketAddr, what: &str) -> bool {
    if what == REDIS {
        return answers_strangers(address).await;
    }
    matches!(timeout(PATIENCE, TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// Whether the Redis at this address answers somebody who gave no password.
pub(super) async fn answers_strangers(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(b"PING\r\n").await.ok()?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer == *b"+PONG")
    };
    timeout(PATIENCE, ask).await.ok().flatten().unwrap_or(false)
}
