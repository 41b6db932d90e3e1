//! The front door: listeners bound before anything is said to be ready, and the loop that accepts.
//!
//! Pingora's own listeners bind late, retry a busy port for half a minute and hold 64 KiB per
//! connection, so the gateway accepts by itself and hands each connection to Pingora's HTTP server.

pub mod address;
pub mod caps;
pub mod descriptors;
mod desk;
pub mod entrance;
pub mod frame;
pub mod guard;
mod http1;
mod http2;
mod linger;
pub mod proxy_protocol;
mod socket;
pub mod tls;
pub mod trusted;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora_core::apps::HttpServerApp;
use pingora_core::server::ShutdownWatch;
use prometheus::IntGauge;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use self::address::Listener;
pub use self::desk::{Bounds, Desk, Peer, Refusal, Refused};
use self::entrance::{Admitted, Entrance};
pub use self::socket::Socket;

/// How long accepting rests after it failed for want of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// How long nothing must have been short until that counts as over.
const CALM: Duration = Duration::from_secs(1);

/// What the connections of a listener have in common.
#[derive(Clone)]
pub struct Terms {
    /// Each connection is a task of this.
    pub connections: TaskTracker,
    /// Counts those that live.
    pub open: IntGauge,
    /// What each passes first.
    pub entrance: Arc<Entrance>,
    /// How long a client may leave an answer unread.
    pub patience: Duration,
    /// Who is asked what a connection may do.
    pub desk: Arc<dyn Desk>,
}

/// Accepts until `stopping` turns true.
pub async fn serve<A>(listener: Listener, app: Arc<A>, mut stopping: ShutdownWatch, terms: Terms)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut last_short: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok(accepted) => {
                if last_short.is_some_and(|last| last.elapsed() >= CALM) {
                    last_short = None;
                    info!("accepting goes on");
                }
                let Some(admitted) = terms.entrance.admit(accepted) else { continue };
                let (app, stopping, served) = (Arc::clone(&app), stopping.clone(), terms.clone());
                let counted = Counted::new(&terms.open);
                terms.connections.spawn(async move {
                    welcome(admitted, &app, &served, stopping).await;
                    drop(counted);
                });
            }
            Err(error) if is_about_one_connection(&error) => debug!(%error, "connection was not accepted"),
            Err(error) => {
                // Once, not at each try: as long as it is short, one connection that ends lets one in.
                if last_short.replace(Instant::now()).is_none() {
                    let limit = descriptors::limit();
                    warn!(%error, limit, "accepting rests: too few descriptors (RLIMIT_NOFILE) or too little memory");
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Serves a connection to its end.
async fn welcome<A>(admitted: Admitted, app: &Arc<A>, terms: &Terms, stopping: ShutdownWatch)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let Some((wire, address)) = terms.entrance.enter(admitted, terms.desk.handshakes()).await else { return };
    let (socket, peer) = (Socket::new(wire, address, terms.patience), Peer { address });
    if socket.alpn() == Some(tls::H2) {
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
