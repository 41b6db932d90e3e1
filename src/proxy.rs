//! The gateway as Pingora's server calls it: few hooks, each a few lines.
//!
//! `request_filter` is the straight line: route, chain, then one of three ways to the upstream. An
//! exchange and a tunnel are finished there; only a stream goes on into Pingora's own proxy.

mod asker;
mod body;
mod desk;
mod heal;
mod log;
mod respond;
mod socket;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{HOST, ORIGIN};
use http::{HeaderValue, Method, StatusCode, Version};
use imgate_filters::context::Place;
use imgate_filters::cors::{self, Preflight};
use imgate_filters::reject::{Hint, RETRY_AFTER};
use imgate_filters::{Cause, Context, Flow, RateMemory, Reject, Request};
use imgate_identity::time::UnixTime;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::body::SessionBody;
use crate::access_log::AccessLog;
use crate::admission::{Class, Shed};
use crate::exchange::{self, Answer};
use crate::forward;
use crate::front::address::Address;
use crate::front::guard::adapt_http2;
use crate::gateway::{Mode, Route, Snapshot};
use crate::metrics::Metrics;
use crate::operation;
use crate::reply::{self, Reply};
use crate::route::Found;
use crate::tunnel;
use crate::upstream::Lease;

type Result<T, E = Box<Error>> = std::result::Result<T, E>;

/// The largest announced body for which that is worth it, in bytes.
const DRAIN_MAX: u64 = 64 * 1024;

/// The gateway: the configuration in force and what outlives it. Clones are the same gateway.
#[derive(Clone)]
pub struct Gateway {
    /// The configuration in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The access log.
    pub log: Arc<AccessLog>,
    /// What is left of everybody's allowances.
    pub rates: Arc<RateMemory>,
    /// What refuses requests when there are too many.
    pub shed: Arc<Shed>,
    /// The sockets under way.
    pub tunnels: TaskTracker,
    /// Ends the sockets.
    pub stop: CancellationToken,
    /// The address, as in the file, of the listener whose requests it is handed; none for whoever only
    /// looks on.
    pub listener: Option<Address>,
}

/// What is noted about a request while it is under way.
pub struct Notes {
    at: SystemTime,
    started: Instant,
    snapshot: Option<Arc<Snapshot>>,
    route: Option<Arc<Route>>,
    cx: Option<Context>,
    head: Option<RequestHeader>,
    origin: Option<HeaderValue>,
    /// Since when the upstream is being asked, while it is.
    asked_upstream: Option<Instant>,
    /// The place a streamed request takes in its server's load.
    lease: Option<Lease>,
    /// How many servers a streamed request was offered to.
    tries: usize,
    /// Whether a body that nobody read may be read and dropped, so that the connection lives on.
    small_body: bool,
    outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Default)]
struct Outcome {
    status: u16,
    err_code: Option<i64>,
    refused: Option<(Cause, &'static str)>,
    healed: bool,
    bytes_in: u64,
    bytes_out: u64,
    chain: Duration,
    upstream: Duration,
    /// The most that a streamed body may have, in bytes.
    body_bound: u64,
    /// Somebody else writes the line: a tunnel, when it ends.
    logged_elsewhere: bool,
}

/// What became of a request in `request_filter`.
enum Handled {
    /// It was answered.
    Done,
    /// Pingora's own proxy takes it from here.
    Stream,
}

/// An answer on its way to the client.
enum Outgoing {
    /// The upstream's.
    Answer(Answer),
    /// One of ours that is no refusal.
    Reply(Reply),
    /// None: the connection became a tunnel.
    Tunnel,
    /// None yet: the request is streamed.
    Stream,
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Notes;

    fn new_ctx(&self) -> Notes {
        Notes {
            at: SystemTime::now(),
            started: Instant::now(),
            snapshot: None,
            route: None,
            cx: None,
            head: None,
            origin: None,
            asked_upstream: None,
            lease: None,
            tries: 0,
            small_body: false,
            outcome: Outcome::default(),
        }
    }

    /// Installs no module: compression is done where the whole answer is known.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, notes: &mut Notes) -> Result<bool> {
        let snapshot = self.snapshot.load_full();
        notes.snapshot = Some(Arc::clone(&snapshot));
        let downstream = &mut *session.downstream_session;
        downstream.set_read_timeout(Some(snapshot.client_timeout));
        downstream.set_write_timeout(Some(snapshot.client_timeout));
        match self.handle(session, notes, &snapshot).await? {
            Handled::Done => Ok(true),
            Handled::Stream => Ok(false),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, notes: &mut Notes) -> Result<Box<HttpPeer>> {
        // While a body is on its way, a server is silent because it waits for the client.
        let uploading = notes.snapshot.as_ref().filter(|_| !session.is_body_empty());
        let wait = uploading.map_or(Duration::ZERO, |snapshot| snapshot.client_timeout);
        self.choose_peer(session.req_header(), wait, notes)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        notes: &mut Notes,
        error: Box<Error>,
    ) -> Box<Error> {
        self.peer_unreachable(session.req_header(), notes, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        notes: &mut Notes,
        client_reused: bool,
    ) -> Box<Error> {
        stream::broke(session, notes, error, client_reused)
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        head: &mut RequestHeader,
        notes: &mut Notes,
    ) -> Result<()> {
        let (Some(snapshot), Some(cx)) = (&notes.snapshot, &notes.cx) else {
            return Err(Error::new(ErrorType::InternalError));
        };
        let target = cx.forwarded(head);
        if target != head.raw_path() {
            let target = target.to_vec();
            head.set_raw_path(&target)?;
        }
        snapshot.ours.insert(head, cx.client);
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        notes: &mut Notes,
    ) -> Result<()> {
        notes.outcome.bytes_in += body.as_ref().map_or(0, |b| b.len() as u64);
        if notes.outcome.bytes_in > notes.outcome.body_bound {
            notes.outcome.refused = Some((Cause::BodyTooLarge, "body_too_large"));
            return Err(Error::explain(ErrorType::HTTPStatus(413), "body too large"));
        }
        // An empty last piece makes Pingora 0.9.1 end a chunked body twice (its issue 935).
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        head: &mut ResponseHeader,
        notes: &mut Notes,
    ) -> Result<()> {
        // A stream never asks for another protocol, and Pingora looks only whether both sides agree.
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "nobody asked to switch").into_up());
        }
        let dropped: Vec<_> =
            head.headers.keys().filter(|name| cors::is_cors_header(name)).cloned().collect();
        for name in &dropped {
            head.remove_header(name);
        }
        stream::answered(head.status, notes);
        self.finish_head(head, notes);
        Ok(())
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, notes: &mut Notes) -> FailToProxy {
        if session.response_written().is_none() && error.esource() != &ErrorSource::Downstream {
            let reject = self.stream_failure(error, notes);
            // The connection may be gone; then there is nobody to tell.
            let _ = self.refuse(session, notes, &reject).await;
        }
        FailToProxy { error_code: notes.outcome.status, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _session: &Session, _notes: &Notes, _error: &Error) -> bool {
        // The access line tells it.
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, notes: &mut Notes) {
        if !notes.outcome.logged_elsewhere {
            self.log_request(session, error, notes);
        }
    }
}

impl Gateway {
    /// The same gateway behind the listener of this address.
    #[must_use]
    pub fn behind(&self, listener: Address) -> Self {
        Self { listener: Some(listener), ..self.clone() }
    }

    async fn handle(
        &self,
        session: &mut Session,
        notes: &mut Notes,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Handled> {
        let downstream = &mut *session.downstream_session;
        // This also fixes how the body is framed, so that the head can be taken out.
        let has_body = !downstream.is_body_empty();
        let mut head = take_head(downstream)?;
        notes.small_body = has_body && body::length(&head).is_some_and(|length| length <= DRAIN_MAX);
        let adapted = match head.version {
            Version::HTTP_2 => adapt_http2(&mut head, &snapshot.bounds.head),
            // Judged before Pingora read it.
            _ => Ok(()),
        };
        notes.origin = head.headers.get(ORIGIN).cloned();
        let client = operation::client(downstream, &head, &snapshot.trusted_proxies);
        let mut cx = Context::new(UnixTime::now, client, operation::of(&head), Place::unknown());

        if adapted.is_ok()
            && let Some(preflight) = Preflight::of(&head)
        {
            let answer = respond::preflight(snapshot, self.listener.as_ref(), &head, preflight);
            notes.cx = Some(cx);
            notes.head = Some(head);
            notes.outcome.status = answer.status.as_u16();
            self.write(downstream, answer, Bytes::new()).await?;
            return Ok(Handled::Done);
        }

        let outgoing = match adapted {
            Ok(()) => self.decide(session, &mut head, has_body, &mut cx, notes, snapshot).await,
            Err(reject) => Err(reject),
        };
        cx.shadowed.iter().for_each(|shadowed| self.metrics.shadowed(shadowed));
        notes.cx = Some(cx);
        let answered = match outgoing {
            Ok(Outgoing::Stream) => {
                *session.downstream_session.req_header_mut() = head;
                return Ok(Handled::Stream);
            }
            Ok(Outgoing::Tunnel) => {
                notes.head = Some(head);
                return Ok(Handled::Done);
            }
            Ok(Outgoing::Answer(answer)) => self.respond(session, notes, &head, answer).await,
            Ok(Outgoing::Reply(reply)) => self.write_reply(session, notes, reply).await,
            Err(reject) => self.refuse(session, notes, &reject).await,
        };
        notes.head = Some(head);
        answered.map(|()| Handled::Done)
    }

    /// Finds the route, runs its chain and asks its upstream.
    async fn decide(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        has_body: bool,
        cx: &mut Context,
        notes: &mut Notes,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Outgoing, Reject> {
        let route = Arc::clone(find(snapshot, self.listener.as_ref(), head, &head.method)?);
        notes.route = Some(Arc::clone(&route));
        cx.place = Arc::clone(&route.place);
        self.shed.admit(class(&route))?;
        let ask = match route.mode {
            Mode::Tunnel { .. } => Some(tunnel::ask(head, has_body)?),
            Mode::Exchange { .. } | Mode::Stream { .. } => None,
        };
        let expects_continue = body::expects_continue(head);
        // What names one connection only is gone before a filter can set something by that name.
        forward::clean(head)?;

        let reading = AtomicBool::new(false);
        let in_time = pingora_timeout::timeout(route.timeout, async {
            let max_body = match route.mode {
                Mode::Exchange { max_body, .. } => max_body as u64,
                Mode::Stream { max_body, .. } => max_body.unwrap_or(u64::MAX),
                Mode::Tunnel { .. } => 0,
            };
            let downstream = &mut *session.downstream_session;
            let mut body = SessionBody::new(
                downstream,
                head,
                has_body,
                max_body,
                snapshot.client_timeout,
                expects_continue,
                &reading,
            );
            let passed = route.chain.request(&mut Request { head, body: &mut body }, cx).await;
            notes.outcome.chain = notes.started.elapsed();
            if let Flow::Reply(fixed) = passed? {
                let to = snapshot.to(Some(&route), notes.origin.as_ref(), cx.operation_id.value());
                return Ok(Outgoing::Reply(reply::fixed(&fixed, to)));
            }
            match route.mode {
                Mode::Stream { .. } => {
                    imgate_filters::Body::limit(&mut body, max_body)?;
                    notes.outcome.body_bound = body.bound();
                    body.invite().await?;
                    Ok(Outgoing::Stream)
                }
                Mode::Exchange { .. } => {
                    let body = imgate_filters::Body::read(&mut body).await?;
                    notes.outcome.bytes_in = body.len() as u64;
                    self.exchange(&route, head, has_body.then_some(&body), cx, notes, snapshot).await
                }
                Mode::Tunnel { idle_timeout } => {
                    self.open_socket(session, &route, head, ask, idle_timeout, cx, notes).await
                }
            }
        });
        match in_time.await {
            Ok(outgoing) => outgoing,
            Err(_) if reading.load(Ordering::Relaxed) => {
                session.downstream_session.set_keepalive(None);
                let slow = Reject::new(Cause::BadRequest, "body_too_slow");
                Err(slow.with_status(StatusCode::REQUEST_TIMEOUT))
            }
            Err(_) => Err(too_late(&route, notes)),
        }
    }

    /// Sends a whole request and takes the answer, healing a stale token on the way.
    async fn exchange(
        &self,
        route: &Route,
        head: &mut RequestHeader,
        body: Option<&Bytes>,
        cx: &mut Context,
        notes: &mut Notes,
        snapshot: &Snapshot,
    ) -> Result<Outgoing, Reject> {
        let answer = self.ask_upstream(route, head, body, cx, notes, snapshot).await?;
        if !cx.injected {
            return Ok(Outgoing::Answer(answer));
        }
        self.heal(route, head, body, cx, notes, snapshot, answer).await
    }

    /// One exchange with the upstream, counted.
    async fn ask_upstream(
        &self,
        route: &Route,
        head: &RequestHeader,
        body: Option<&Bytes>,
        cx: &Context,
        notes: &mut Notes,
        snapshot: &Snapshot,
    ) -> Result<Answer, Reject> {
        let repeat = match route.mode {
            Mode::Exchange { repeat: exchange::Repeat::Refuse, .. } if !head.method.is_safe() => {
                exchange::Repeat::Refuse
            }
            _ => exchange::Repeat::Allow,
        };
        let target = cx.forwarded(head);
        let body = body.map(Bytes::as_ref);
        let wire = forward::write_request(head, target, body, &snapshot.ours, cx.client);
        let began = Instant::now();
        notes.asked_upstream = Some(began);
        let asker = asker::of(&route.upstream, cx, head);
        let request =
            exchange::Request { wire: &wire, method: &head.method, repeat, hold: snapshot.hold, asker };
        let answer = exchange::exchange(&route.upstream, request).await;
        let took = began.elapsed();
        notes.asked_upstream = None;
        notes.outcome.upstream += took;
        match answer {
            Ok(answer) => {
                let code = answer.err_code();
                notes.outcome.err_code = code;
                route.upstream_metrics.answered(code, took);
                Ok(answer)
            }
            Err(error) => {
                let reject = Reject::from(error);
                route.upstream_metrics.failed(reject.cause);
                Err(reject)
            }
        }
    }
}

/// Refuses a request whose time is up, and notes it against the upstream if that was being asked.
fn too_late(route: &Route, notes: &mut Notes) -> Reject {
    if let Some(began) = notes.asked_upstream.take() {
        notes.outcome.upstream += began.elapsed();
        route.upstream_metrics.failed(Cause::UpstreamTimeout);
    }
    Reject::new(Cause::UpstreamTimeout, "request_deadline").with(Hint::RetryAfter(RETRY_AFTER))
}

/// Takes the head out of Pingora's session, to be edited and forwarded without a copy. What stays
/// behind has the method, which Pingora needs to know that an answer to HEAD has no body.
fn take_head(downstream: &mut ServerSession) -> Result<RequestHeader> {
    let head = downstream.req_header_mut();
    let mut rest = RequestHeader::build_no_case(head.method.clone(), b"/", None)?;
    rest.set_version(head.version);
    Ok(std::mem::replace(head, rest))
}

/// How dear the requests of a route are when there are too many.
fn class(route: &Route) -> Class {
    let begins = route.public || matches!(route.mode, Mode::Tunnel { .. });
    if begins { Class::Newcomer } else { Class::Known }
}

/// Finds the route of a request of this head and method that came to this listener.
fn find<'a>(
    snapshot: &'a Snapshot,
    listener: Option<&Address>,
    head: &RequestHeader,
    method: &Method,
) -> Result<&'a Arc<Route>, Reject> {
    let raw = std::str::from_utf8(head.raw_path())
        .map_err(|_| Reject::new(Cause::BadRequest, "target_not_ascii"))?;
    let path = raw.split_once('?').map_or(raw, |(path, _)| path);
    let host = head.headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or("");
    let found = snapshot.find(snapshot.listener(listener), host, method, path);
    match found.map_err(|fault| Reject::new(Cause::BadRequest, fault.as_str()))? {
        Found::Route(route) => Ok(route),
        Found::MethodNotAllowed(allow) => {
            Err(Reject::new(Cause::MethodNotAllowed, "method_not_allowed").with(Hint::Allow(allow.into())))
        }
        Found::None => Err(Reject::new(Cause::NoRoute, "no_route")),
    }
}
