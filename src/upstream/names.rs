//! Servers as they are written, and the addresses behind their names.
//!
//! Names are looked up again in the background, never while a request waits. What cannot be looked up
//! keeps the addresses it had.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long until they are looked up again.
    pub every: Duration,
    /// How long one lookup may take.
    pub timeout: Duration,
    /// Whether a name that has no address yet keeps the gateway from starting.
    pub strict: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { every: Duration::from_secs(30), timeout: Duration::from_secs(5), strict: true }
    }
}

/// A server as it is written: a host, which may have several addresses, and a port. Two are equal if
/// they are written alike, whatever was found behind them.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The host: a name, or an address without brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// The addresses that were found when it was read.
    pub found: Vec<SocketAddr>,
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl Eq for Origin {}

impl From<SocketAddr> for Origin {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string().into(), port: address.port(), found: vec![address] }
    }
}

impl Origin {
    /// Whether it is a name, which may have other addresses tomorrow.
    pub fn is_name(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse() {
            Ok(ip) => SocketAddr::new(ip, self.port).fmt(f),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Finds the addresses of names.
#[async_trait]
pub(super) trait Resolve: fmt::Debug + Send + Sync {
    /// The addresses of a host, at least one.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's own resolver.
#[derive(Debug)]
pub(super) struct System;

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// Looks a name up, in time.
pub(super) async fn look_up(
    resolver: &dyn Resolve,
    origin: &Origin,
    timeout: Duration,
) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::time::timeout(timeout, resolver.resolve(&origin.host, origin.port));
    let found = found.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let found = preferred(&found);
    if found.is_empty() { Err(io::Error::other("no address")) } else { Ok(found) }
}

/// The addresses to use of those that were found, in an order of their own: resolvers turn theirs round.
/// IPv4 wins where there is both: the same server would count twice.
pub fn preferred(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let has_v4 = found.iter().any(SocketAddr::is_ipv4);
    let mut used: Vec<SocketAddr> = found.iter().copied().filter(|a| a.is_ipv4() || !has_v4).collect();
    used.sort_unstable();
    used.dedup();
    used
}
