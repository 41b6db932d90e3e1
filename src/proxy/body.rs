//! A request's body, read from Pingora's session when somebody asks for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, EXPECT};
use imgate_filters::{Body, Cause, Reject};
use pingora_core::protocols::http::ServerSession;
use pingora_error::ErrorType;
use pingora_http::RequestHeader;

/// Whether the client waits for a word before it sends its body. Source: RFC 9110 section 10.1.1.
pub(super) fn expects_continue(head: &RequestHeader) -> bool {
    head.headers.get(EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The length a body was announced with; `None` if it comes in chunks.
pub(super) fn length(head: &RequestHeader) -> Option<u64> {
    head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
}

/// The body of the request under way.
pub(super) struct SessionBody<'a> {
    downstream: &'a mut ServerSession,
    announced: bool,
    length: Option<u64>,
    limit: u64,
    /// How long the next piece may take. Pingora bounds that for HTTP/1 only.
    patience: Duration,
    expects_continue: bool,
    /// True while the client is waited for.
    reading: &'a AtomicBool,
    read: Option<Bytes>,
}

impl<'a> SessionBody<'a> {
    pub(super) fn new(
        downstream: &'a mut ServerSession,
        head: &RequestHeader,
        announced: bool,
        limit: u64,
        patience: Duration,
        expects_continue: bool,
        reading: &'a AtomicBool,
    ) -> Self {
        let length = length(head);
        Self { downstream, announced, length, limit, patience, expects_continue, reading, read: None }
    }

    /// The most bytes that are taken.
    pub(super) fn bound(&self) -> u64 {
        self.limit
    }

    /// Tells a client that waits for it to send its body.
    pub(super) async fn invite(&mut self) -> Result<(), Reject> {
        if !std::mem::take(&mut self.expects_continue) {
            return Ok(());
        }
        self.downstream.write_continue_response().await.map_err(|_| cut())
    }

    async fn read_whole(&mut self) -> Result<Bytes, Reject> {
        if !self.announced {
            return Ok(Bytes::new());
        }
        if self.length.is_some_and(|length| length > self.limit) {
            return Err(self.too_large());
        }
        self.invite().await?;
        let Some(first) = self.piece().await? else { return Ok(Bytes::new()) };
        if self.downstream.is_body_done() {
            return self.bounded(first);
        }
        let mut whole = BytesMut::from(first);
        while let Some(piece) = self.piece().await? {
            whole.extend_from_slice(&piece);
            if whole.len() as u64 > self.limit {
                return Err(self.too_large());
            }
        }
        self.bounded(whole.freeze())
    }

    fn bounded(&mut self, body: Bytes) -> Result<Bytes, Reject> {
        if body.len() as u64 > self.limit { Err(self.too_large()) } else { Ok(body) }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Reject> {
        let piece = pingora_timeout::timeout(self.patience, self.downstream.read_request_body()).await;
        let slow =
            || Reject::new(Cause::BadRequest, "body_too_slow").with_status(StatusCode::REQUEST_TIMEOUT);
        let reject = match piece {
            Ok(Ok(piece)) => return Ok(piece),
            Ok(Err(error)) if error.etype() == &ErrorType::ReadTimedout => slow(),
            Ok(Err(_)) => cut(),
            Err(_) => slow(),
        };
        // What follows on this connection cannot be told apart any more.
        self.downstream.set_keepalive(None);
        Err(reject)
    }

    fn too_large(&mut self) -> Reject {
        // The rest may be any length, so the connection ends with the answer.
        self.downstream.set_keepalive(None);
        Reject::new(Cause::BodyTooLarge, "body_too_large")
    }
}

fn cut() -> Reject {
    Reject::new(Cause::BadRequest, "body_cut")
}

#[async_trait]
impl Body for SessionBody<'_> {
    fn is_announced(&self) -> bool {
        self.announced
    }

    async fn read(&mut self) -> Result<Bytes, Reject> {
        if let Some(read) = &self.read {
            return Ok(read.clone());
        }
        self.reading.store(true, Ordering::Relaxed);
        let body = self.read_whole().await;
        self.reading.store(false, Ordering::Relaxed);
        let body = body?;
        self.read = Some(body.clone());
        Ok(body)
    }

    fn limit(&mut self, max: u64) -> Result<(), Reject> {
        self.limit = self.limit.min(max);
        // A body that comes in chunks is counted as it comes.
        if self.length.is_some_and(|length| length > self.limit) { Err(self.too_large()) } else { Ok(()) }
    }

    fn replace(&mut self, body: Bytes) {
        self.read = Some(body);
    }
}
