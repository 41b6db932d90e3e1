//! From an HTTP request to a tunnel: the handshake, and taking the connection over from Pingora.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use imgate_filters::{Cause, Context, Reject};
use pingora_core::protocols::http::ServerSession;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::log::SocketLine;
use super::{Gateway, Notes, Outgoing, asker};
use crate::exchange::{self, Upgrade};
use crate::front::Socket;
use crate::gateway::Route;
use crate::tunnel::{Ask, Relay, keep_forwarded, write_handshake};
use crate::upstream::Connection;
use crate::wire::Wire;

/// The most of a refused handshake's answer that is held; SDKs read 1 KiB of it.
const HOLD: usize = 64 * 1024;

/// The memory a session gets that no bytes will ever pass.
const DUMMY: usize = 64;

impl Gateway {
    #[allow(clippy::too_many_arguments, reason = "one handshake, seen from all sides")]
    pub(super) async fn open_socket(
        &self,
        session: &mut Session,
        route: &Arc<Route>,
        head: &RequestHeader,
        ask: Option<Ask>,
        idle_timeout: Duration,
        cx: &Context,
        notes: &mut Notes,
    ) -> Result<Outgoing, Reject> {
        let target = cx.forwarded(head);
        if ask == Some(Ask::Probe) {
            let snapshot = notes.snapshot.clone().ok_or_else(broken)?;
            let mut head = head.clone();
            keep_forwarded(&mut head);
            return self.ask_upstream(route, &head, None, cx, notes, &snapshot).await.map(Outgoing::Answer);
        }
        let wire = write_handshake(head, target, cx.client);
        let asker = asker::of(&route.upstream, cx, head);
        let began = Instant::now();
        let upgraded = exchange::upgrade(&route.upstream, &wire, HOLD, asker).await;
        notes.outcome.upstream = began.elapsed();
        match upgraded {
            Ok(Upgrade::Answered(answer)) => {
                // A client that asked to switch may already speak another protocol here.
                session.downstream_session.set_keepalive(None);
                Ok(Outgoing::Answer(answer))
            }
            Ok(Upgrade::Switched { connection, read }) => {
                let (client, early) = take_connection(session)?;
                let line = SocketLine::new(notes, head, cx, route);
                notes.outcome.status = 101;
                notes.outcome.logged_elsewhere = true;
                self.start_tunnel(route, client, early, connection, read, idle_timeout, line);
                Ok(Outgoing::Tunnel)
            }
            Err(error) => {
                let reject = Reject::from(error);
                route.upstream_metrics.failed(reject.cause);
                Err(reject)
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "both ends and what was read from them")]
    fn start_tunnel(
        &self,
        route: &Arc<Route>,
        client: Wire,
        early: BytesMut,
        connection: Connection,
        read: BytesMut,
        idle_timeout: Duration,
        line: SocketLine,
    ) {
        route.metrics.finished(101, line.handshake());
        let (metrics, log) = (Arc::clone(&self.metrics), Arc::clone(&self.log));
        let (upstream, lease) = connection.into_parts();
        let relay = Relay {
            client,
            upstream,
            early_up: early.into(),
            early_down: read.into(),
            idle_timeout,
            stop: self.stop.child_token(),
        };
        metrics.tunnels.inc();
        self.tunnels.spawn(async move {
            let (ended, traffic) = relay.run().await;
            drop(lease);
            metrics.tunnels.dec();
            metrics.tunnel_ended(ended);
            metrics.tunnel_bytes_up.inc_by(traffic.up);
            metrics.tunnel_bytes_down.inc_by(traffic.down);
            line.write(&log, ended, traffic);
        });
    }
}

/// Takes the client's connection, and what it sent early, out of Pingora's session. What is left in
/// its place is a session on a pipe to nowhere, which Pingora closes.
fn take_connection(session: &mut Session) -> Result<(Wire, BytesMut), Reject> {
    let nowhere = ServerSession::new_http1(Box::new(tokio::io::duplex(DUMMY).0));
    let taken = std::mem::replace(&mut *session.downstream_session, nowhere);
    let ServerSession::H1(taken) = taken else { return Err(broken()) };
    let socket = taken.into_inner().into_any().downcast::<Socket>().map_err(|_| broken())?;
    // A handshake has no body, so all that came behind it is still with the socket.
    socket.into_wire().map_err(|_| broken())
}

fn broken() -> Reject {
    Reject::new(Cause::Overloaded, "socket_not_taken")
}
