//! A streamed request on its way through Pingora's own proxy: its server, its failures, their names.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use imgate_filters::reject::{Hint, RETRY_AFTER};
use imgate_filters::{Cause, Reject};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::{Gateway, Notes, Result, asker};
use crate::upstream::{Asker, ConnectError, Server, Upstream, is_exhaustion, is_failure};

impl Gateway {
    /// The server to offer the request to, which the first time has to be let in. It may be silent for `wait`
    /// beyond its own bound.
    pub(super) fn choose_peer(
        &self,
        head: &RequestHeader,
        wait: Duration,
        notes: &mut Notes,
    ) -> Result<Box<HttpPeer>> {
        let route = notes.route.as_ref().ok_or_else(|| Error::new(ErrorType::InternalError))?;
        let upstream = Arc::clone(&route.upstream);
        // After a connection that did not open, the next server is chosen already.
        if notes.lease.is_none() {
            match upstream.admit(of(&upstream, head, notes)) {
                Ok(lease) => notes.lease = Some(lease),
                Err(error) => return Err(self.not_let_in(notes, error)),
            }
        }
        notes.tries += 1;
        let lease = notes.lease.as_ref().ok_or_else(|| Error::new(ErrorType::InternalError))?;
        Ok(Box::new(peer(&upstream, lease.server(), wait)))
    }

    fn not_let_in(&self, notes: &mut Notes, error: ConnectError) -> Box<Error> {
        let reject = Reject::from(error);
        notes.outcome.refused = Some((reject.cause, reject.reason));
        if let Some(route) = &notes.route {
            route.upstream_metrics.failed(reject.cause);
        }
        Error::explain(ErrorType::ConnectError, reject.reason)
    }

    /// Offers the request to another server: nothing was sent to the one that did not open.
    pub(super) fn peer_unreachable(
        &self,
        head: &RequestHeader,
        notes: &mut Notes,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let (Some(route), Some(lease)) = (notes.route.clone(), notes.lease.take()) else { return error };
        let why = match error.root_cause().downcast_ref::<io::Error>() {
            _ if error.etype() == &ErrorType::ConnectTimedout => ConnectError::Timeout,
            _ if is_of_tls(error.etype()) => ConnectError::Tls(io::ErrorKind::ConnectionAborted.into()),
            Some(cause) if is_exhaustion(cause) => ConnectError::Exhausted(cause.kind().into()),
            _ => ConnectError::Refused(io::ErrorKind::ConnectionRefused.into()),
        };
        let asker = of(&route.upstream, head, notes);
        match route.upstream.elsewhere(lease, asker, why, notes.tries) {
            Ok(next) => {
                notes.lease = Some(next);
                error.set_retry(true);
                error
            }
            Err(why) => {
                let _ = self.not_let_in(notes, why);
                error.set_retry(false);
                error
            }
        }
    }

    /// What a client is told of a stream that could not begin.
    pub(super) fn stream_failure(&self, error: &Error, notes: &mut Notes) -> Reject {
        if let Some((cause, reason)) = notes.outcome.refused {
            let reject = Reject::new(cause, reason);
            let is_ours = cause == Cause::BodyTooLarge;
            return if is_ours { reject } else { reject.with(Hint::RetryAfter(RETRY_AFTER)) };
        }
        let (cause, reason) = match error.etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => (Cause::UpstreamTimeout, "upstream_silent"),
            ErrorType::ConnectionClosed => (Cause::UpstreamUnreachable, "upstream_closed"),
            ErrorType::InvalidHTTPHeader => (Cause::UpstreamUnreachable, "answer_head_invalid"),
            _ => (Cause::UpstreamUnreachable, "upstream_broken"),
        };
        if let Some(lease) = &mut notes.lease {
            lease.bad();
        }
        if let Some(route) = &notes.route {
            route.upstream_metrics.failed(cause);
        }
        Reject::new(cause, reason).with(Hint::RetryAfter(RETRY_AFTER))
    }
}

fn is_of_tls(etype: &ErrorType) -> bool {
    use ErrorType::{InvalidCert, TLSHandshakeFailure, TLSHandshakeTimedout};
    matches!(etype, InvalidCert | TLSHandshakeFailure | TLSHandshakeTimedout)
}

fn of(upstream: &Upstream, head: &RequestHeader, notes: &Notes) -> Asker {
    notes.cx.as_ref().map_or_else(Asker::default, |cx| asker::of(upstream, cx, head))
}

fn peer(upstream: &Upstream, server: &Server, wait: Duration) -> HttpPeer {
    let options = &upstream.options;
    let mut peer = HttpPeer::new(server.address, options.tls.is_some(), String::new());
    if let Some(tls) = &options.tls {
        tls.apply(&mut peer, &server.host);
    }
    // Pingora has one bound for silence, before the answer and within it; the larger one cuts nobody off.
    let silence = options.first_byte_timeout.max(options.read_timeout);
    peer.options.connection_timeout = Some(options.connect_timeout);
    peer.options.total_connection_timeout = Some(options.connect_timeout);
    peer.options.read_timeout = Some(silence + wait);
    peer.options.write_timeout = Some(silence);
    peer.options.idle_timeout = Some(options.idle_timeout);
    peer
}

/// The head of an answer came.
pub(super) fn answered(status: StatusCode, notes: &mut Notes) {
    if let Some(lease) = &mut notes.lease {
        if is_failure(status) { lease.bad() } else { lease.good() }
    }
}

/// Decides whether a request whose connection broke is sent again: if it may be sent twice, all of its
/// body is still here, the connection had been kept, and it can be paid for.
pub(super) fn broke(
    session: &mut Session,
    notes: &mut Notes,
    mut error: Box<Error>,
    client_reused: bool,
) -> Box<Error> {
    let may = session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
    error.retry.decide_reuse(client_reused && may);
    if !may {
        error.set_retry(false);
    }
    if error.retry() {
        let can_pay = notes.route.as_ref().is_some_and(|route| route.upstream.may_repeat());
        error.set_retry(can_pay);
        // A kept connection that ended says nothing of its server.
        if let Some(mut lease) = notes.lease.take() {
            lease.stale();
        }
    } else if error.esource() == &ErrorSource::Upstream
        && let Some(lease) = &mut notes.lease
    {
        lease.bad();
    }
    error
}
