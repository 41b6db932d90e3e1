//! A connection that speaks HTTP/2: Pingora's streams, accepted here, each a request of its own.
//!
//! The `h2` crate bounds what one connection may cost (streams, resets, header lists, empty frames); what it
//! does not know of is bounded here: how long a connection may be idle, and how many requests it may carry.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::Method;
use imgate_filters::{Cause, Reject};
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora_core::protocols::{Digest, GetSocketDigest as _};
use pingora_core::server::ShutdownWatch;
use tokio::sync::Notify;

use super::desk::{Desk, Refused};
use super::socket::Socket;
use super::{Peer, Terms, guard};

/// How many requests a client may have under way on one connection. Source: RFC 9113 section 6.5.2 advises
/// no less; Envoy's list for edge proxies says as many.
const STREAMS: u32 = 100;

/// How much of one request's body a client may send ahead of whoever reads it, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The same for all requests of a connection. Source: Envoy's list for edge proxies.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How much of an answer waits for a slow reader, per stream, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// How many malformed requests a connection may send before it is closed. Source: pingora-core,
/// `MAX_MALFORMED_STREAMS_PER_CONN`.
const MALFORMED: u32 = 32;

/// Serves the requests of a connection until its client goes, is idle for too long, or the gateway stops.
pub(super) async fn serve<A>(
    socket: Socket,
    peer: Peer,
    app: &Arc<A>,
    terms: &Terms,
    mut stopping: ShutdownWatch,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let bounds = terms.desk.bounds();
    let digest = Arc::new(Digest { socket_digest: socket.get_socket_digest(), ..Digest::default() });
    let shaken = tokio::time::timeout(bounds.head_timeout, handshake(Box::new(socket), Some(options(terms))));
    let Ok(Ok(mut connection)) = shaken.await else { return };
    let under_way = Arc::new(UnderWay::default());
    let (mut served, mut malformed, mut ending) = (0, 0, false);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop), if !ending => {
                connection.graceful_shutdown();
                ending = true;
                continue;
            }
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => accepted,
            // Accepting a request begins this anew.
            () = under_way.idle_for(if ending { bounds.last_chance } else { bounds.keepalive_timeout }) => return,
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                served += 1;
                start(session, peer, app, terms, stopping.clone(), UnderWay::begin(&under_way));
                if served >= bounds.requests && !ending {
                    connection.graceful_shutdown();
                    ending = true;
                }
            }
            Ok(Some(H2Accept::Rejected)) => {
                malformed += 1;
                note_malformed(peer, terms);
                if malformed > MALFORMED {
                    return;
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

fn options(terms: &Terms) -> H2Options {
    let mut options = default_h2_options();
    let head = terms.desk.bounds().head;
    options
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(head.size).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    options
}

fn start<A>(session: HttpSession, peer: Peer, app: &Arc<A>, terms: &Terms, stopping: ShutdownWatch, one: One)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    if session.req_header().method == Method::CONNECT {
        let desk = Arc::clone(&terms.desk);
        terms.connections.spawn(async move {
            refuse_connect(session, peer, &*desk).await;
            drop(one);
        });
        return;
    }
    let app = Arc::clone(app);
    terms.connections.spawn(async move {
        // A stream is never used again.
        let _ = app.process_new_http(ServerSession::new_http2(session), &stopping).await;
        drop(one);
    });
}

/// Pingora would answer it in a word of its own.
async fn refuse_connect(session: HttpSession, peer: Peer, desk: &dyn Desk) {
    let reject = guard::refuse_connect();
    let (at, began) = (SystemTime::now(), Instant::now());
    let refusal = desk.refuse(&Refused { reject: &reject, head: b"CONNECT", peer, at, began });
    let mut session = ServerSession::new_http2(session);
    session.set_write_timeout(Some(desk.bounds().head_timeout));
    // A client that does not take it is no news.
    if session.write_response_header(Box::new(refusal.head)).await.is_ok() {
        let _ = session.write_response_body(refusal.body.into(), true).await;
    }
}

/// Pingora has answered it with a bare 400, or reset it; what it was is not told.
fn note_malformed(peer: Peer, terms: &Terms) {
    let reject = Reject::new(Cause::BadRequest, "stream_malformed");
    let (at, began) = (SystemTime::now(), Instant::now());
    let _ = terms.desk.refuse(&Refused { reject: &reject, head: b"", peer, at, began });
}

/// The requests of a connection that are under way.
#[derive(Default)]
struct UnderWay {
    count: AtomicUsize,
    none: Notify,
}

impl UnderWay {
    fn begin(this: &Arc<Self>) -> One {
        this.count.fetch_add(1, Ordering::AcqRel);
        One(Arc::clone(this))
    }

    /// Ready once nothing was under way for so long.
    async fn idle_for(&self, long: Duration) {
        while self.count.load(Ordering::Acquire) > 0 {
            self.none.notified().await;
        }
        pingora_timeout::sleep(long).await;
    }
}

/// One request under way, as long as it lives; also when its task panics.
struct One(Arc<UnderWay>);

impl Drop for One {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_one();
        }
    }
}
