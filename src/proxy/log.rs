//! The access line of a request, and the one a socket writes when it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{HOST, USER_AGENT};
use imgate_filters::Context;
use imgate_filters::context::{OperationId, Shadowed};
use imgate_identity::user::UserId;
use pingora_error::{Error, ErrorSource};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::{Gateway, Notes};
use crate::access_log::{AccessLog, Line, Phases};
use crate::gateway::Route;
use crate::tunnel::{Ended, Traffic};

impl Gateway {
    pub(super) fn log_request(&self, session: &Session, error: Option<&Error>, notes: &Notes) {
        let Some(cx) = &notes.cx else { return };
        let head = notes.head.as_ref().unwrap_or_else(|| session.req_header());
        let outcome = &notes.outcome;
        let took = notes.started.elapsed();
        let bytes_out = outcome.bytes_out.max(session.body_bytes_sent() as u64);
        // A stream that broke after its head keeps the status it began with; the reason tells the rest.
        let broken = error.map(|error| match error.esource() {
            ErrorSource::Downstream => ("client_gone", "client_gone"),
            _ => ("upstream_unreachable", "stream_broken"),
        });
        let refused = outcome.refused.map(|(cause, reason)| (cause.as_str(), reason)).or(broken);
        if let Some(route) = &notes.route {
            route.metrics.finished(outcome.status, took);
        }
        self.log.write(&Line {
            time: notes.at,
            operation_id: cx.operation_id.as_str(),
            client: cx.client,
            method: head.method.as_str(),
            host: text(head, &HOST).unwrap_or(""),
            path: path(head),
            route: notes.route.as_ref().map(|route| &*route.place.route),
            user: cx.user().map(|user| user.id.as_str()),
            admin: cx.admin().map(|admin| &*admin.subject),
            acting_as: cx.acting_as.as_ref().map(UserId::as_str),
            claimed_user: cx.claimed_user.as_ref().map(UserId::as_str),
            platform: cx.user().map(|user| user.platform.name()),
            status: outcome.status,
            err_code: outcome.err_code,
            cause: refused.map(|(cause, _)| cause),
            reason: refused.map(|(_, reason)| reason),
            filter: cx.refused_by,
            shadowed: &cx.shadowed,
            healed: outcome.healed,
            upstream: notes.route.as_ref().map(|route| &*route.upstream.name),
            bytes_in: outcome.bytes_in,
            bytes_out,
            ms: Phases { total: took, chain: outcome.chain, upstream: outcome.upstream },
            user_agent: text(head, &USER_AGENT),
        });
    }
}

fn text<'a>(head: &'a RequestHeader, name: &http::HeaderName) -> Option<&'a str> {
    head.headers.get(name).and_then(|value| value.to_str().ok())
}

/// The path without its query, which may hold a token.
fn path(head: &RequestHeader) -> &str {
    let raw = std::str::from_utf8(head.raw_path()).unwrap_or("");
    raw.split_once('?').map_or(raw, |(path, _)| path)
}

/// What a socket's line will say, kept while the socket is open.
pub(super) struct SocketLine {
    at: SystemTime,
    opened: Instant,
    operation_id: OperationId,
    client: IpAddr,
    host: Box<str>,
    path: Box<str>,
    route: Arc<Route>,
    user: Option<UserId>,
    claimed_user: Option<UserId>,
    shadowed: Box<[Shadowed]>,
    user_agent: Option<Box<str>>,
    phases: Phases,
}

impl SocketLine {
    pub(super) fn new(notes: &Notes, head: &RequestHeader, cx: &Context, route: &Arc<Route>) -> Self {
        let outcome = &notes.outcome;
        let phases =
            Phases { total: notes.started.elapsed(), chain: outcome.chain, upstream: outcome.upstream };
        Self {
            at: notes.at,
            opened: notes.started,
            operation_id: cx.operation_id.clone(),
            client: cx.client,
            host: text(head, &HOST).unwrap_or("").into(),
            path: path(head).into(),
            route: Arc::clone(route),
            user: cx.user().map(|user| user.id.clone()),
            claimed_user: cx.claimed_user.clone(),
            shadowed: cx.shadowed.as_slice().into(),
            user_agent: text(head, &USER_AGENT).map(Into::into),
            phases,
        }
    }

    /// How long the handshake took.
    pub(super) fn handshake(&self) -> Duration {
        self.phases.total
    }

    pub(super) fn write(&self, log: &AccessLog, ended: Ended, traffic: Traffic) {
        log.write(&Line {
            time: self.at,
            operation_id: self.operation_id.as_str(),
            client: self.client,
            method: "GET",
            host: &self.host,
            path: &self.path,
            route: Some(&self.route.place.route),
            user: self.user.as_ref().map(UserId::as_str),
            admin: None,
            acting_as: None,
            claimed_user: self.claimed_user.as_ref().map(UserId::as_str),
            platform: None,
            status: 101,
            err_code: None,
            cause: None,
            reason: Some(ended.as_str()),
            filter: None,
            shadowed: &self.shadowed,
            healed: false,
            upstream: Some(&self.route.upstream.name),
            bytes_in: traffic.up,
            bytes_out: traffic.down,
            ms: Phases { total: self.opened.elapsed(), ..self.phases },
            user_agent: self.user_agent.as_deref(),
        });
    }
}
