//! Named upstreams: their servers, the choice among them, and connections kept for reuse.
//!
//! Load is what is in flight, tunnels included, so a server that comes back fills up again. A server
//! whose requests fail is left out for a while ([`eject`]), one that fails its health checks until it
//! passes them ([`probe`]); when nearly everything fails, requests are refused at once ([`breaker`]). A
//! connection goes back to its pool only when the exchange on it ended exactly (see
//! [`Connection::keep`]).

pub mod balance;
pub mod breaker;
pub mod budget;
pub mod eject;
pub mod keeper;
pub mod names;
pub mod probe;
pub mod tls;
pub mod window;

mod group;
mod pool;
mod server;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::info;
use xxhash_rust::xxh3::xxh3_64;

pub use self::balance::{Balance, Key};
use self::breaker::Admission;
pub use self::group::Counts;
use self::group::{Group, count};
pub use self::names::Origin;
use self::names::{Resolve, System};
pub use self::pool::{Connection, is_failure};
pub use self::server::{Lease, Server, State};

/// How the servers of one upstream are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How servers are recognised, if TLS is spoken with them.
    pub tls: Option<tls::Options>,
    /// How long a connection may take to open, with TLS until hands are shaken.
    pub connect_timeout: Duration,
    /// How long the upstream may be silent before the first byte of its answer.
    pub first_byte_timeout: Duration,
    /// How long the upstream may be silent within its answer.
    pub read_timeout: Duration,
    /// How long a connection is kept without use. Below the upstream's own limit, so that it is we
    /// who close.
    pub idle_timeout: Duration,
    /// How long a connection may have been without use to carry a request that must not be sent twice:
    /// should the server close it at that moment, the request is lost.
    pub idle_timeout_unsafe: Duration,
    /// How many idle connections are kept per server.
    pub keepalive: usize,
    /// How a server is chosen.
    pub balance: Balance,
    /// How names of servers are looked up.
    pub resolve: names::Options,
    /// How servers are asked for their health, if they are.
    pub check: Option<probe::Options>,
    /// Which `errCode`s are the server's own fault.
    pub failure_codes: Box<[i64]>,
    /// When a server is left out because requests to it fail, if ever.
    pub eject: Option<eject::Options>,
    /// When requests are refused because nearly all fail, if ever.
    pub breaker: Option<breaker::Options>,
    /// How much may be sent again.
    pub retries: budget::Options,
    /// How long a server that comes back takes to get its full share.
    pub slow_return: Duration,
}

/// The `errCode`s with which OpenIM says that something behind its API is down.
/// Source: openimsdk/tools mw/rpc_client_interceptor.go (raw gRPC codes on the released line: deadline
/// exceeded, internal, unavailable), mw/grpc/client/error.go (500 at head).
pub const FAILURE_CODES: [i64; 4] = [4, 13, 14, 500];

impl Default for Options {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            tls: None,
            // A lost SYN is sent again after 1 s (RFC 6298 section 2.1); that one should still count.
            connect_timeout: Duration::from_millis(1500),
            first_byte_timeout: seconds(8),
            read_timeout: seconds(8),
            idle_timeout: seconds(50),
            // Below the 5 s after which the most impatient of common servers close.
            idle_timeout_unsafe: seconds(4),
            keepalive: 256,
            balance: Balance::LeastLoaded,
            resolve: names::Options::default(),
            check: None,
            failure_codes: FAILURE_CODES.into(),
            eject: Some(eject::Options::default()),
            breaker: Some(breaker::Options::default()),
            retries: budget::Options::default(),
            slow_return: seconds(10),
        }
    }
}

/// Whose request it is, as far as an upstream needs to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// Tells callers apart: failures of one alone prove nothing against a server.
    pub caller: u64,
    /// What consistent hashing goes by.
    pub key: u64,
}

impl Asker {
    /// The same number for the same bytes, in every gateway and at every time.
    pub fn hash(bytes: &[u8]) -> u64 {
        xxh3_64(bytes)
    }
}

/// A named group of servers that answer alike.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in YAML, logs and metrics.
    pub name: Arc<str>,
    /// How its servers are reached.
    pub options: Options,
    group: Arc<Group>,
    servers: ArcSwap<Vec<Arc<Server>>>,
    origins: Box<[Origin]>,
    /// The addresses behind each origin, as last found.
    found: Mutex<Vec<Vec<SocketAddr>>>,
    resolver: Arc<dyn Resolve>,
}

/// How many servers are tried before a request fails; nothing was sent to those that did not open.
const MAX_TRIES: usize = 3;

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server refused, or could not be reached.
    #[error("upstream refused the connection: {0}")]
    Refused(#[source] io::Error),
    /// It did not answer in time.
    #[error("upstream did not accept the connection in time")]
    Timeout,
    /// It could not prove who it is, or would not take us for who we are.
    #[error("TLS with the upstream failed: {0}")]
    Tls(#[source] io::Error),
    /// This process or machine has no more descriptors, ports or memory.
    #[error("no socket for a connection to the upstream: {0}")]
    Exhausted(#[source] io::Error),
    /// Nearly everything fails, so nothing was tried.
    #[error("upstream fails, and is not asked for a while")]
    BreakerOpen,
    /// No address of any of its servers is known.
    #[error("no server of the upstream is known")]
    NoServer,
}

impl ConnectError {
    fn of(error: io::Error) -> Self {
        if is_exhaustion(&error) { Self::Exhausted(error) } else { Self::Refused(error) }
    }

    /// Whether the fault is on our side.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Exhausted(_))
    }
}

/// Whether it is this machine that lacks what a connection needs.
pub fn is_exhaustion(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL, libc::EAGAIN];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

impl Upstream {
    /// Groups the servers at these addresses.
    pub fn new(name: &str, servers: &[SocketAddr], options: Options) -> Self {
        let origins: Vec<Origin> = servers.iter().copied().map(Origin::from).collect();
        Self::succeeding(None, name, &origins, options)
    }

    /// Groups servers that are written this way. What is known of those that `before` had, too, is kept,
    /// and their connections, if the options are the same.
    pub fn succeeding(before: Option<&Self>, name: &str, origins: &[Origin], options: Options) -> Self {
        Self::with_resolver(before, name, origins, options, Arc::new(System))
    }

    fn with_resolver(
        before: Option<&Self>,
        name: &str,
        origins: &[Origin],
        options: Options,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        let name: Arc<str> = name.into();
        let kept = before.filter(|before| before.options == options);
        let group = kept.map_or_else(
            || {
                let counts = before.map(|before| Arc::clone(&before.group.counts)).unwrap_or_default();
                Group::new(Arc::clone(&name), options.clone(), counts)
            },
            |kept| Arc::clone(&kept.group),
        );
        let upstream = Self {
            name,
            options,
            group,
            servers: ArcSwap::from(kept.map_or_else(Arc::default, |kept| kept.servers.load_full())),
            origins: origins.into(),
            found: Mutex::new(origins.iter().map(|origin| names::preferred(&origin.found)).collect()),
            resolver,
        };
        upstream.use_found(&upstream.found.lock());
        upstream
    }

    /// Whether a new one, made of these, would be the same.
    pub fn is_configured_as(&self, name: &str, origins: &[Origin], options: &Options) -> bool {
        *self.name == *name && *self.origins == *origins && self.options == *options
    }

    /// Puts the servers at these addresses in use; those that are known already are kept as they are.
    fn use_found(&self, found: &[Vec<SocketAddr>]) {
        let old = self.servers.load();
        let mut servers: Vec<Arc<Server>> = Vec::new();
        for (origin, addresses) in self.origins.iter().zip(found) {
            for address in addresses {
                let is_same = |server: &&Arc<Server>| server.address == *address;
                if servers.iter().any(|server| is_same(&server)) {
                    continue;
                }
                let kept = old.iter().find(is_same).filter(|server| server.host == origin.host).cloned();
                servers.push(kept.unwrap_or_else(|| Server::new(*address, &origin.host, &self.group)));
            }
        }
        self.group.size.store(servers.len(), Ordering::Relaxed);
        self.servers.store(Arc::new(servers));
        self.count_down();
    }

    /// Takes over what a lookup found behind one of the names, and says so if it is new.
    fn looked_up(&self, index: usize, addresses: Vec<SocketAddr>) {
        let mut found = self.found.lock();
        let Some(old) = found.get_mut(index).filter(|old| **old != addresses) else { return };
        let (upstream, name) = (&*self.name, self.origins[index].to_string());
        info!(upstream, name, from = listed(old), to = listed(&addresses), "a name has other addresses now");
        *old = addresses;
        count(&self.group.counts.changes);
        self.use_found(&found);
    }

    /// Notes how many servers fail their health checks.
    fn count_down(&self) {
        let down = self.servers.load().iter().filter(|server| server.is_down()).count();
        self.group.down.store(down, Ordering::Relaxed);
    }

    /// Lets a request in and chooses its server.
    ///
    /// # Errors
    /// The breaker is open, or no server is known.
    pub fn admit(&self, asker: Asker) -> Result<Lease, ConnectError> {
        let admission = self.group.admit();
        if admission == Admission::Refused {
            return Err(ConnectError::BreakerOpen);
        }
        self.pick(asker, admission, None).ok_or_else(|| {
            self.group.undecided(admission);
            ConnectError::NoServer
        })
    }

    fn pick(&self, asker: Asker, admission: Admission, avoid: Option<SocketAddr>) -> Option<Lease> {
        let servers = self.servers.load();
        let server = balance::choose(&servers, &self.options.balance, asker.key, avoid)?;
        Some(Lease::new(server, asker.caller, admission))
    }

    /// Gives a server up that could not be reached and chooses another, if there is one and a repeat can
    /// be paid for.
    ///
    /// # Errors
    /// No other server is to be tried; the error is the one that was given.
    pub fn elsewhere(
        &self,
        mut lease: Lease,
        asker: Asker,
        error: ConnectError,
        tries: usize,
    ) -> Result<Lease, ConnectError> {
        let is_last = error.is_ours() || tries >= MAX_TRIES.min(self.servers.load().len());
        if is_last || !self.group.may_repeat() {
            lease.unreachable(&error);
            return Err(error);
        }
        let avoid = lease.server().address;
        let admission = lease.give_up(&error);
        self.pick(asker, admission, Some(avoid)).ok_or(ConnectError::NoServer)
    }

    /// Whether a request may be sent once more; if so, that is paid for.
    pub fn may_repeat(&self) -> bool {
        self.group.may_repeat()
    }

    /// Takes a connection that was in use within `max_idle`, or opens one. A server that cannot be
    /// reached is passed over for another: nothing was sent to it.
    ///
    /// # Errors
    /// None of the servers tried accepted a connection, or none was tried.
    pub async fn connect(&self, asker: Asker, max_idle: Duration) -> Result<Connection, ConnectError> {
        let lease = self.admit(asker)?;
        match lease.server().pool.take(max_idle) {
            Some(stream) => Ok(Connection::reused(stream, lease)),
            None => self.open_from(lease, asker).await,
        }
    }

    /// Opens a connection even if an idle one is at hand.
    ///
    /// # Errors
    /// None of the servers tried accepted a connection, or none was tried.
    pub async fn connect_anew(&self, asker: Asker) -> Result<Connection, ConnectError> {
        self.open_from(self.admit(asker)?, asker).await
    }

    async fn open_from(&self, mut lease: Lease, asker: Asker) -> Result<Connection, ConnectError> {
        let mut tries = 1;
        loop {
            // Boxed: a handshake of TLS should not weigh on requests that find a kept connection.
            match Box::pin(lease.server().open()).await {
                Ok(stream) => return Ok(Connection::fresh(stream, lease)),
                Err(error) => lease = self.elsewhere(lease, asker, error, tries)?,
            }
            tries += 1;
        }
    }

    /// Closes idle connections that are too old or that the server closed.
    pub fn sweep(&self) {
        for server in self.servers.load().iter() {
            server.pool.sweep();
        }
    }

    /// The servers in use at present.
    pub fn servers(&self) -> Arc<Vec<Arc<Server>>> {
        self.servers.load_full()
    }

    /// What it has counted, over all reloads.
    pub fn counts(&self) -> &Counts {
        &self.group.counts
    }

    /// Whether its requests are refused because nearly all fail.
    pub fn has_open_breaker(&self) -> bool {
        self.group.has_open_breaker()
    }
}

fn listed(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
