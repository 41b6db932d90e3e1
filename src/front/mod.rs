//! The front door: listeners bound before anything is said to be ready, and the loop that accepts.
//!
//! Pingora's own listeners bind late, retry a busy port for half a minute and hold 64 KiB per
//! connection, so the gateway accepts by itself and hands each connection to Pingora's HTTP server.

pub mod trusted;
pub mod tls;
pub mod proxy_protocol;
pub mod descriptors;
pub mod caps;
pub mod address;
mod desk;
pub mod frame;
pub mod guard;
mod http1;
mod http2;
mod linger;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::HttpServerApp;
use pingora_core::server::ShutdownWatch;
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub use self::desk::{Bounds, Desk, Peer, Refusal, Refused};
pub use self::socket::Socket;

/// How many connections may wait to be accepted; the kernel lowers it to `somaxconn`.
const BACKLOG: u32 = 65_535;

/// How long accepting rests after it failed for want of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// Opens a listening socket.
///
/// # Errors
/// The address is taken, not ours, or needs privileges.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted gateway takes its port back though old connections linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What the connections of a listener have in common.
#[derive(Clone)]
pub struct Terms {
    /// Each connection is a task of this.
    pub connections: TaskTracker,
    /// Counts those that live.
    pub open: IntGauge,
    /// How long a client may leave an answer unread.
    pub patience: Duration,
    /// Who is asked what a connection may do.
    pub desk: Arc<dyn Desk>,
}

/// Accepts until `stopping` turns true.
pub async fn serve<A>(listener: TcpListener, app: Arc<A>, mut stopping: ShutdownWatch, terms: Terms)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let (app, stopping, served) = (Arc::clone(&app), stopping.clone(), terms.clone());
                let counted = Counted::new(&terms.open);
                terms.connections.spawn(async move {
                    welcome(stream, Peer { address }, &app, &served, stopping).await;
                    drop(counted);
                });
            }
            Err(error) if is_about_one_connection(&error) => debug!(%error, "connection was not accepted"),
            Err(error) => {
                warn!(%error, "accepting rests: too few descriptors or too little memory");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Serves a connection to its end.
async fn welcome<A>(stream: TcpStream, peer: Peer, app: &Arc<A>, terms: &Terms, stopping: ShutdownWatch)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "connection was gone before it was served");
        return;
    }
    let socket = Socket::new(stream, peer.address, terms.patience);
    if socket.alpn() == Some(b"h2") {
        http2::serve(socket, peer, app, terms, stopping).await;
    } else {
        http1::serve(socket, peer, app, terms, stopping).await;
    }
}

/// One more, as long as it lives; also when its task panics.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whether accepting failed for this connection alone. Source: accept(2), "Error handling".
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_address_is_refused_at_once() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let second = bind(first.local_addr().unwrap());
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
