//! One server: what is in flight to it, its idle connections, and whether it is asked at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tracing::{info, warn};

use super::breaker::Admission;
use super::group::{Group, count};
use super::pool::Pool;
use super::window::{Befell, Window};
use super::{Asker, ConnectError};
use crate::wire::Wire;

/// How long a server had the request before its silence counts when we stop waiting.
const PATIENCE: Duration = Duration::from_millis(500);

/// The parts of a server's share by which it returns.
pub(super) const PARTS: u64 = 1024;

/// One server of an upstream.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its host as it was written: a name, or the address itself.
    pub host: Arc<str>,
    /// Its place among the others for consistent hashing; the same in every gateway.
    pub(super) hash: u64,
    pub(super) pool: Pool,
    pub(super) group: Arc<Group>,
    in_flight: AtomicU32,
    /// How many requests went well.
    good: AtomicU64,
    window: Window,
    /// Whether it fails its health checks.
    down: AtomicBool,
    /// Until when it is left out, in milliseconds of its group; 0 if it has its full share.
    out_until: AtomicU64,
}

/// How far a server is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has its full share.
    Up,
    /// It fails its health checks.
    Down,
    /// Its requests failed, so it is left out for a while.
    LeftOut,
    /// It was down or left out, and gets its share step by step.
    Returning,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Up, Self::Down, Self::LeftOut, Self::Returning];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::LeftOut => "left_out",
            Self::Returning => "returning",
        }
    }
}

impl Server {
    pub(super) fn new(address: SocketAddr, host: &Arc<str>, group: &Arc<Group>) -> Arc<Self> {
        let options = &group.options;
        Arc::new(Self {
            address,
            host: Arc::clone(host),
            hash: Asker::hash(address.to_string().as_bytes()),
            pool: Pool::new(options.keepalive, options.idle_timeout),
            group: Arc::clone(group),
            in_flight: AtomicU32::new(0),
            good: AtomicU64::new(0),
            window: Window::default(),
            down: AtomicBool::new(false),
            out_until: AtomicU64::new(0),
        })
    }

    /// Host and port as they were written, as a client's `Host` header says them.
    pub(super) fn authority(&self) -> String {
        let (host, port) = (&self.host, self.address.port());
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// How many requests and tunnels are under way to it.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How far it is in use.
    pub fn state(&self) -> State {
        if self.is_down() {
            return State::Down;
        }
        match self.part() {
            PARTS => State::Up,
            0 => State::LeftOut,
            _ => State::Returning,
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Whether a request may go here. While it returns, only those may whose `draw` below [`PARTS`] is
    /// within its part.
    pub(super) fn is_in_use(&self, draw: impl FnOnce() -> u64) -> bool {
        if self.is_down() {
            return false;
        }
        if self.out_until.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let part = self.part();
        part == PARTS || draw() < part
    }

    /// How much of its share it has now.
    fn part(&self) -> u64 {
        let until = self.out_until.load(Ordering::Relaxed);
        if until == 0 {
            return PARTS;
        }
        let Some(since) = self.group.millis(self.group.now()).checked_sub(until) else { return 0 };
        let whole = u64::try_from(self.group.options.slow_return.as_millis()).unwrap_or(u64::MAX);
        if since < whole {
            // At least one part, so that being back shows.
            return (since.saturating_mul(PARTS) / whole).max(1);
        }
        // It may have been left out again meanwhile.
        let _ = self.out_until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed);
        PARTS
    }

    /// Opens a connection, handshake included.
    pub(super) async fn open(&self) -> Result<Wire, ConnectError> {
        let patience = self.group.options.connect_timeout;
        tokio::time::timeout(patience, self.dial()).await.map_err(|_| ConnectError::Timeout)?
    }

    async fn dial(&self) -> Result<Wire, ConnectError> {
        let stream = TcpStream::connect(self.address).await.map_err(ConnectError::of)?;
        stream.set_nodelay(true).map_err(ConnectError::of)?;
        match &self.group.options.tls {
            None => Ok(stream.into()),
            Some(tls) => tls.connect(&self.host, stream.into()).await.map_err(ConnectError::Tls),
        }
    }

    fn failed(&self, befell: Befell) {
        let Some(ejector) = &self.group.ejector else { return };
        let (now, good) = (self.group.now(), self.good.load(Ordering::Relaxed));
        if !self.window.failed(now, befell, good, &ejector.options.threshold) {
            return;
        }
        let (size, down) = (self.group.size.load(Ordering::Relaxed), self.group.down.load(Ordering::Relaxed));
        let Some(until) = ejector.eject(now, self.address, size, down) else { return };
        self.out_until.store(self.group.millis(until), Ordering::Relaxed);
        count(&self.group.counts.ejections);
        let pause = humantime::format_duration(Duration::from_secs((until - now).as_secs()));
        let (upstream, server) = (&*self.group.name, self.address);
        warn!(upstream, %server, %pause, "requests of several callers failed: the server is left out");
    }

    /// Takes over what its health checks say, once they say it often enough.
    pub(super) fn set_down(&self, down: bool, why: Option<&str>) {
        let (upstream, server) = (&*self.group.name, self.address);
        if down {
            warn!(upstream, %server, why, "the server fails its health checks");
        } else {
            info!(upstream, %server, "the server passes its health checks again");
            self.out_until.fetch_max(self.group.millis(self.group.now()), Ordering::Relaxed);
        }
        self.down.store(down, Ordering::Relaxed);
    }
}

/// A server while one request or tunnel is under way to it, and what is to be told of it.
#[derive(Debug)]
pub struct Lease {
    server: Arc<Server>,
    caller: u64,
    admission: Admission,
    waits_since: Option<Instant>,
    is_told: bool,
}

impl Lease {
    pub(super) fn new(server: &Arc<Server>, caller: u64, admission: Admission) -> Self {
        server.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { server: Arc::clone(server), caller, admission, waits_since: None, is_told: false }
    }

    /// A lease for a look at the server, which tells nothing.
    pub(super) fn look(server: &Arc<Server>) -> Self {
        let mut look = Self::new(server, 0, Admission::Free);
        look.is_told = true;
        look
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The answer is being waited for. A lease that is given up from now on, unless at once, was kept
    /// waiting by the server.
    pub fn waits(&mut self) {
        self.waits_since = Some(self.server.group.now());
    }

    /// The server answered, with no fault of its own.
    pub fn good(&mut self) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        self.server.good.fetch_add(1, Ordering::Relaxed);
        self.server.group.good(self.admission);
    }

    /// The server did not answer, or with a fault of its own.
    pub fn bad(&mut self) {
        self.tell_bad(Befell::Caller(self.caller));
    }

    fn tell_bad(&mut self, befell: Befell) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        self.server.failed(befell);
        self.server.group.bad(self.admission, befell);
    }

    /// Nothing can be said: the connection had been closed before.
    pub fn stale(&mut self) {
        if !std::mem::replace(&mut self.is_told, true) {
            self.server.group.undecided(self.admission);
        }
    }

    /// No connection could be opened, and no other server is tried.
    pub fn unreachable(&mut self, error: &ConnectError) {
        if error.is_ours() { self.stale() } else { self.tell_bad(Befell::Nobody) }
    }

    /// No connection could be opened, and another server is tried on behalf of this admission.
    pub(super) fn give_up(mut self, error: &ConnectError) -> Admission {
        if !error.is_ours() {
            self.server.failed(Befell::Nobody);
        }
        self.is_told = true;
        self.admission
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_told {
            return;
        }
        // A deadline of the request's own passed.
        if self.waits_since.is_some_and(|since| self.server.group.now() >= since + PATIENCE) {
            self.bad();
        } else {
            self.stale();
        }
    }
}
