//! Named upstreams: their servers, the choice among them, and connections kept for reuse.
//!
//! The choice is the less loaded of two random servers; load is what is in flight, tunnels included,
//! so a server that comes back fills up again. A connection goes back to its pool only when the
//! exchange on it ended exactly (see [`Connection::keep`]).

mod pool;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

pub use self::pool::Connection;
use self::pool::Pool;
use crate::wire::Wire;

/// How the servers of one upstream are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long the upstream may be silent.
    pub read_timeout: Duration,
    /// How long a connection is kept without use. Below the upstream's own limit, so that it is we
    /// who close.
    pub idle_timeout: Duration,
    /// How many idle connections are kept per server.
    pub keepalive: usize,
}

/// One server of an upstream.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    in_flight: AtomicU32,
    pool: Pool,
}

/// A named group of servers that answer alike.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in YAML, logs and metrics.
    pub name: Arc<str>,
    /// How its servers are reached.
    pub options: Options,
    servers: Box<[Arc<Server>]>,
}

/// A server while one request or tunnel is under way to it.
#[derive(Debug)]
pub struct Lease(Arc<Server>);

impl Lease {
    fn new(server: &Arc<Server>) -> Self {
        server.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(server))
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
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
}

impl Upstream {
    /// Groups `servers`, of which there is at least one.
    pub fn new(name: &str, servers: &[SocketAddr], options: Options) -> Self {
        let server = |address: &SocketAddr| {
            let pool = Pool::new(options.keepalive, options.idle_timeout);
            Arc::new(Server { address: *address, in_flight: AtomicU32::new(0), pool })
        };
        Self { name: name.into(), servers: servers.iter().map(server).collect(), options }
    }

    /// Whether a new one, made of these, would be the same.
    pub fn is_configured_as(&self, name: &str, servers: &[SocketAddr], options: &Options) -> bool {
        let same_servers = self.servers.iter().map(|server| &server.address).eq(servers);
        *self.name == *name && same_servers && self.options == *options
    }

    /// Chooses the less loaded of two random servers, other than the one at `avoid` if there is
    /// another.
    pub fn pick(&self, avoid: Option<SocketAddr>) -> Lease {
        let n = self.servers.len();
        if n == 1 {
            return Lease::new(&self.servers[0]);
        }
        let first = random_below(n);
        // Any other: an offset of 1 to n - 1 from the first.
        let second = (first + 1 + random_below(n - 1)) % n;
        let (a, b) = (&self.servers[first], &self.servers[second]);
        let load =
            |server: &Server| (Some(server.address) == avoid, server.in_flight.load(Ordering::Relaxed));
        Lease::new(if load(b) < load(a) { b } else { a })
    }

    /// Takes an idle connection, or opens one. A server that cannot be reached is passed over for
    /// another: nothing was sent to it.
    ///
    /// # Errors
    /// None of the servers tried accepted a connection.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let lease = self.pick(None);
        match lease.server().pool.take() {
            Some(stream) => Ok(Connection::reused(stream, lease)),
            None => self.open_from(lease).await,
        }
    }

    /// Opens a connection even if an idle one is at hand.
    ///
    /// # Errors
    /// None of the servers tried accepted a connection.
    pub async fn connect_anew(&self) -> Result<Connection, ConnectError> {
        self.open_from(self.pick(None)).await
    }

    async fn open_from(&self, mut lease: Lease) -> Result<Connection, ConnectError> {
        let mut tries = 1;
        loop {
            match self.open(lease.server().address).await {
                Ok(stream) => return Ok(Connection::fresh(stream, lease)),
                Err(error) if tries >= MAX_TRIES.min(self.servers.len()) => return Err(error),
                Err(_) => {}
            }
            tries += 1;
            lease = self.pick(Some(lease.server().address));
        }
    }

    async fn open(&self, address: SocketAddr) -> Result<Wire, ConnectError> {
        let connect = TcpStream::connect(address);
        let stream = tokio::time::timeout(self.options.connect_timeout, connect)
            .await
            .map_err(|_| ConnectError::Timeout)?
            .map_err(ConnectError::Refused)?;
        stream.set_nodelay(true).map_err(ConnectError::Refused)?;
        Ok(stream.into())
    }

    /// Closes idle connections that are too old or that the server closed.
    pub fn sweep(&self) {
        for server in &self.servers {
            server.pool.sweep();
        }
    }

    /// The servers with what is in flight to each.
    pub fn load(&self) -> impl Iterator<Item = (SocketAddr, u32)> + '_ {
        self.servers.iter().map(|s| (s.address, s.in_flight.load(Ordering::Relaxed)))
    }
}

/// A number below `n`, good enough to spread load: a thread-local xorshift, seeded by the hasher.
fn random_below(n: usize) -> usize {
    use std::cell::Cell;
    use std::hash::{BuildHasher as _, RandomState};

    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    let x = STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    });
    // The upper half is the better one; the remainder's bias is nothing at these sizes.
    ((x >> 32) as usize) % n
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn options() -> Options {
        Options {
            connect_timeout: Duration::from_millis(500),
            read_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(50),
            keepalive: 8,
        }
    }

    fn upstream(servers: &[SocketAddr]) -> Upstream {
        Upstream::new("u", servers, options())
    }

    #[test]
    fn the_less_loaded_server_is_chosen() {
        let servers = ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
        let upstream = upstream(&servers);
        let leases: Vec<Lease> = (0..100).map(|_| upstream.pick(None)).collect();
        assert_eq!(upstream.load().map(|(_, n)| n).collect::<Vec<_>>(), [50, 50]);
        drop(leases);
        assert_eq!(upstream.load().map(|(_, n)| n).sum::<u32>(), 0);
    }

    #[tokio::test]
    async fn a_server_that_is_down_is_passed_over() {
        let up = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let down = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let servers = [down.local_addr().unwrap(), up.local_addr().unwrap()];
        drop(down);
        let upstream = upstream(&servers);
        for _ in 0..20 {
            let connection = upstream.connect().await.unwrap();
            assert_eq!(connection.server().address, servers[1]);
        }
    }

    #[tokio::test]
    async fn no_server_at_all_is_an_error() {
        let down = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = upstream(&[down.local_addr().unwrap()]);
        drop(down);
        assert!(matches!(upstream.connect().await, Err(ConnectError::Refused(_))));
    }

    #[tokio::test]
    async fn a_kept_connection_is_used_again_unless_bytes_or_an_end_wait_on_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = upstream(&[listener.local_addr().unwrap()]);
        let first = upstream.connect().await.unwrap();
        let (mut server_side, _) = listener.accept().await.unwrap();
        assert!(!first.is_reused());
        let port = first.local_port();
        first.keep();

        let second = upstream.connect().await.unwrap();
        assert!(second.is_reused());
        assert_eq!(second.local_port(), port);

        // Unsolicited bytes would be read as the next answer.
        tokio::io::AsyncWriteExt::write_all(&mut server_side, b"x").await.unwrap();
        second.keep();
        let third = upstream.connect().await.unwrap();
        assert_ne!(third.local_port(), port);
    }
}
