//! A connection that speaks HTTP/1: heads read and judged here, requests served by Pingora's session.
//!
//! Between two requests a connection holds no buffer and no session. A head has one deadline from its first
//! byte to its last. What is refused before anybody has parsed it is answered by the [`Desk`], and a
//! connection that ends while its client may still be sending is closed so that the answer arrives.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::BytesMut;
use http::StatusCode;
use imgate_filters::{Cause, Reject};
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::io::AsyncWriteExt as _;

use super::desk::{Bounds, Refusal, Refused};
use super::frame::Frame;
use super::guard::{Scan, judge};
use super::socket::Socket;
use super::{Peer, Terms, linger};

/// What came of waiting for a request.
enum Next {
    /// A head, with what of its request was read, and what was read beyond.
    Request { prefix: BytesMut, frame: Frame, ahead: BytesMut },
    /// Nobody asks any more.
    Gone,
    /// Something that is not let in.
    Refused { reject: Reject, raw: BytesMut, began: (SystemTime, Instant) },
}

/// Serves the requests of a connection, one after the other.
pub(super) async fn serve<A>(
    socket: Socket,
    peer: Peer,
    app: &Arc<A>,
    terms: &Terms,
    mut stopping: ShutdownWatch,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let home = socket.home();
    let mut socket = Box::new(socket);
    let mut served = 0;
    loop {
        let bounds = terms.desk.bounds();
        let (prefix, frame, ahead) = match next(&mut socket, &bounds, &mut stopping).await {
            Next::Request { prefix, frame, ahead } => (prefix, frame, ahead),
            Next::Gone => return,
            Next::Refused { reject, raw, began } => {
                let refused = Refused { reject: &reject, head: &raw, peer, at: began.0, began: began.1 };
                say(&mut socket, &written(&terms.desk.refuse(&refused))).await;
                drop(socket);
                break;
            }
        };
        served += 1;
        socket.begin(frame, ahead);
        let mut session = ServerSession::new_http1(socket);
        session.set_pipelined_prefix(prefix);
        if served >= bounds.requests {
            session.set_keepalive_reuses_remaining(Some(0));
        }
        let Some(reused) = app.process_new_http(session, &stopping).await else { break };
        match reused.consume().0.into_any().downcast() {
            Ok(same) => socket = same,
            Err(_) => return,
        }
    }
    // A tunnel has taken the connection if it is not at home.
    let left = home.lock().take();
    if let Some(left) = left {
        linger::close(left).await;
    }
}

/// Waits for the next request.
async fn next(socket: &mut Socket, bounds: &Bounds, stopping: &mut ShutdownWatch) -> Next {
    let mut buf = socket.take_ahead();
    if buf.is_empty() && !first_bytes(socket, &mut buf, bounds, stopping).await {
        return Next::Gone;
    }
    let began = (SystemTime::now(), Instant::now());
    match pingora_timeout::timeout(bounds.head_timeout, head(socket, &mut buf, bounds)).await {
        Ok(Ok(Some((prefix, frame)))) => Next::Request { prefix, frame, ahead: buf },
        Ok(Ok(None)) => Next::Gone,
        Ok(Err(reject)) => Next::Refused { reject, raw: buf, began },
        Err(_) => {
            let slow = Reject::new(Cause::BadRequest, "head_too_slow");
            Next::Refused { reject: slow.with_status(StatusCode::REQUEST_TIMEOUT), raw: buf, began }
        }
    }
}

/// Waits for the first bytes of a request; false if none come.
async fn first_bytes(
    socket: &mut Socket,
    buf: &mut BytesMut,
    bounds: &Bounds,
    stopping: &mut ShutdownWatch,
) -> bool {
    let wait = {
        let read = pingora_timeout::timeout(bounds.keepalive_timeout, socket.read_more(buf));
        tokio::select! {
            biased;
            read = read => return matches!(read, Ok(Ok(1..))),
            _ = stopping.wait_for(|stop| *stop) => bounds.last_chance.min(bounds.keepalive_timeout),
        }
    };
    matches!(pingora_timeout::timeout(wait, socket.read_more(buf)).await, Ok(Ok(1..)))
}

/// Reads a head to its end and judges it. What it returns is the head and what of its body was read; what is
/// left in `buf` lies beyond.
async fn head(
    socket: &mut Socket,
    buf: &mut BytesMut,
    bounds: &Bounds,
) -> Result<Option<(BytesMut, Frame)>, Reject> {
    let mut scan = Scan::default();
    let span = loop {
        if let Some(span) = scan.advance(buf, &bounds.head)? {
            break span;
        }
        match socket.read_more(buf).await {
            Ok(1..) => {}
            // Nobody is there to be told.
            Ok(0) | Err(_) => return Ok(None),
        }
    };
    let mut frame = judge(&buf[span.begin..span.end], &bounds.head)?;
    let body =
        frame.take(&buf[span.end..]).map_err(|malformed| Reject::new(Cause::BadRequest, malformed.0))?;
    let mut prefix = buf.split_to(span.end + body);
    let _ = prefix.split_to(span.begin);
    Ok(Some((prefix, frame)))
}

/// An answer after which the connection ends, as it goes over it.
fn written(refusal: &Refusal) -> Vec<u8> {
    let status = refusal.head.status;
    let mut out = Vec::with_capacity(512 + refusal.body.len());
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &refusal.head.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"connection: close\r\n\r\n");
    out.extend_from_slice(&refusal.body);
    out
}

/// Writes an answer of ours. A client that does not take it is no news.
async fn say(socket: &mut Socket, answer: &[u8]) {
    if socket.write_all(answer).await.is_ok() {
        let _ = socket.shutdown().await;
    }
}
