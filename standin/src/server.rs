//! The accept loops. Each owns its connections: when the loop goes, so do they.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::http::Wire;
use crate::record::Server;
use crate::shared::Shared;
use crate::{gateway, rest};

/// How long to wait when the system has no file descriptor left.
const RETRY: Duration = Duration::from_millis(50);

/// How many connections may wait to be accepted; the kernel lowers it to `somaxconn`.
///
/// Source: Go `net` maxListenerBacklog, which is `somaxconn`.
const BACKLOG: u32 = 4096;

/// A bound and running server.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Running {
    /// Binds an address and serves it.
    pub(crate) async fn start(server: Server, address: SocketAddr, shared: Arc<Shared>) -> io::Result<Self> {
        let listener = listen(address)?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(server, listener, shared)) })
    }

    /// Ends the server and every connection, and waits until they are gone.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        // The only way this task ends is by the abort.
        let _aborted = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds as Go does: with the kernel's whole backlog, for clients that come by the hundred.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(server: Server, listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        // Go's server sets it too; without it small answers would wait for acknowledgements.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let (shared, connection) = (Arc::clone(&shared), shared.number_connection());
        connections.spawn(async move {
            let wire = Wire::new(stream);
            match server {
                Server::Api => rest::serve(&shared, wire, connection).await,
                Server::Ws => gateway::serve(&shared, wire, connection).await,
            }
        });
    }
}
