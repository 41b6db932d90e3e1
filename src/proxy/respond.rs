//! What the client gets: the upstream's answer, whole or flowing, or one of ours.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Version};
use imgate_filters::cors::Preflight;
use imgate_filters::{Reject, operation_id};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::{Gateway, Notes, Result, find};
use crate::answer;
use crate::exchange::{self, Answer, Body};
use crate::front::address::Address;
use crate::gateway::Snapshot;
use crate::operation::fresh_operation_id;
use crate::reply::{self, Reply};

/// How long a refused request's body is read on, so that its connection can carry another request.
const DRAIN: Duration = Duration::from_secs(1);

impl Gateway {
    /// Writes an upstream's answer to the client.
    pub(super) async fn respond(
        &self,
        session: &mut Session,
        notes: &mut Notes,
        request: &RequestHeader,
        Answer { mut head, body, .. }: Answer,
    ) -> Result<()> {
        self.finish_head(&mut head, notes);
        match body {
            Body::Whole(body) => {
                let body = answer::compress(&mut head, body, &request.headers);
                answer::set_length(&mut head, &request.method, &body);
                notes.outcome.bytes_out = body.len() as u64;
                self.write(&mut session.downstream_session, head, body).await
            }
            Body::Flowing { first, rest } => {
                self.flow(session, notes, request.version, head, first, *rest).await
            }
        }
    }

    /// Passes on an answer that is too large to be held, piece by piece.
    pub(super) async fn flow(
        &self,
        session: &mut Session,
        notes: &mut Notes,
        client_version: Version,
        mut head: ResponseHeader,
        first: Bytes,
        mut rest: exchange::Rest,
    ) -> Result<()> {
        let downstream = &mut *session.downstream_session;
        if !head.headers.contains_key(CONTENT_LENGTH) {
            if client_version == Version::HTTP_11 {
                let _ = head.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            } else {
                downstream.set_keepalive(None);
            }
        }
        downstream.write_response_header(Box::new(head)).await?;
        let mut piece = Some(first);
        while let Some(bytes) = piece {
            notes.outcome.bytes_out += bytes.len() as u64;
            downstream.write_response_body(bytes, false).await?;
            piece = match rest.next().await {
                Ok(piece) => piece,
                Err(error) => {
                    // The client must not take what it has for the whole: no end is written.
                    let reject = Reject::from(error);
                    notes.outcome.refused = Some((reject.cause, reject.reason));
                    downstream.set_keepalive(None);
                    return Err(Error::explain(ErrorType::ReadError, "upstream answer broke off"));
                }
            };
        }
        rest.finish();
        downstream.write_response_body(Bytes::new(), true).await
    }

    /// What every answer gets, whoever made it.
    pub(super) fn finish_head(&self, head: &mut ResponseHeader, notes: &mut Notes) {
        notes.outcome.status = head.status.as_u16();
        let (Some(snapshot), Some(cx)) = (&notes.snapshot, &notes.cx) else { return };
        let _ = head.insert_header(operation_id::HEADER, cx.operation_id.value().clone());
        if let Some(route) = &notes.route {
            route.chain.response(head, cx);
        }
        snapshot.policy(notes.route.as_deref()).apply(head, notes.origin.as_ref());
    }

    pub(super) async fn refuse(
        &self,
        session: &mut Session,
        notes: &mut Notes,
        reject: &Reject,
    ) -> Result<()> {
        notes.outcome.refused = Some((reject.cause, reject.reason));
        self.metrics.refused(reject.cause);
        let Some(snapshot) = notes.snapshot.clone() else {
            return Err(Error::new(ErrorType::InternalError));
        };
        let operation_id = notes.cx.as_ref().map_or_else(fresh_operation_id, |cx| cx.operation_id.clone());
        let route = notes.route.clone();
        let to = snapshot.to(route.as_deref(), notes.origin.as_ref(), operation_id.value());
        let reply = reply::refuse(reject, to);
        self.write_reply(session, notes, reply).await
    }

    pub(super) async fn write_reply(
        &self,
        session: &mut Session,
        notes: &mut Notes,
        reply: Reply,
    ) -> Result<()> {
        let downstream = &mut *session.downstream_session;
        if notes.small_body {
            downstream.set_close_on_response_before_downstream_finish(false);
            downstream.set_total_drain_timeout(Some(DRAIN));
        }
        notes.outcome.status = reply.head.status.as_u16();
        notes.outcome.err_code = Some(i64::from(reply.err_code));
        notes.outcome.bytes_out = reply.body.len() as u64;
        self.write(downstream, reply.head, reply.body.into()).await
    }

    pub(super) async fn write(
        &self,
        downstream: &mut ServerSession,
        head: ResponseHeader,
        body: Bytes,
    ) -> Result<()> {
        downstream.write_response_header(Box::new(head)).await?;
        downstream.write_response_body(body, true).await
    }
}

/// Answers a preflight by the policy of the route that it asks for, or the global one if there is none.
pub(super) fn preflight(
    snapshot: &Snapshot,
    listener: Option<&Address>,
    head: &RequestHeader,
    preflight: Preflight<'_>,
) -> ResponseHeader {
    let method = Method::from_bytes(preflight.method.as_bytes()).ok();
    let route = method.and_then(|method| find(snapshot, listener, head, &method).ok());
    snapshot.policy(route.map(|route| &**route)).answer(preflight)
}
