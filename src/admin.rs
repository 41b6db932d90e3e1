//! The admin listener: `/healthz`, `/readyz`, `/metrics`. GET only, and never on a public address.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use imgate_identity::store::Health;
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use tracing::error;

use crate::front::{Bounds, Desk, Refusal, Refused};
use crate::proxy::Gateway;

/// Whether traffic should be sent here.
#[derive(Debug, Default)]
pub struct Readiness {
    store_tried: AtomicBool,
    draining: AtomicBool,
}

impl Readiness {
    /// The store was of use at least once. It stays so: when the store goes away, callers whose records
    /// are cached are still served, and taking every gateway out at once would serve nobody.
    pub fn store_answered(&self) {
        self.store_tried.store(true, Ordering::Release);
    }

    /// Whether the store was of use at least once.
    pub fn has_store(&self) -> bool {
        self.store_tried.load(Ordering::Acquire)
    }

    /// The gateway stops: no new traffic, please.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Why no traffic should be sent here, if so.
    fn objection(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Acquire) {
            return Some("draining");
        }
        (!self.has_store()).then_some("store not reached yet")
    }
}

/// The admin listener's application.
pub struct Admin {
    gateway: Gateway,
    readiness: Arc<Readiness>,
}

impl Admin {
    /// Reports on this gateway.
    pub fn new(gateway: Gateway, readiness: Arc<Readiness>) -> Self {
        Self { gateway, readiness }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Vec<u8>> {
        if ![Method::GET, Method::HEAD].contains(method) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readyz(),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "/healthz, /readyz, /metrics\n"),
        }
    }

    fn readyz(&self) -> Response<Vec<u8>> {
        if let Some(objection) = self.readiness.objection() {
            return text(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {objection}\n"));
        }
        match self.gateway.snapshot.load().store.health() {
            Health::Live => text(StatusCode::OK, "ready\n"),
            Health::Down => text(StatusCode::OK, "ready; store is down\n"),
        }
    }

    fn metrics(&self) -> Response<Vec<u8>> {
        let snapshot = self.gateway.snapshot.load();
        let metrics = &self.gateway.metrics;
        metrics.observe(&snapshot.store, self.gateway.log.dropped());
        metrics.observe_jwks(&snapshot.jwks.report());
        metrics.observe_rates(&self.gateway.rates);
        metrics.observe_shed(&self.gateway.shed);
        if let Some(pacer) = &snapshot.handshakes {
            metrics.observe_handshakes(pacer);
        }
        metrics.observe_upstreams(&snapshot.upstreams);
        match metrics.render() {
            Ok(body) => answer(StatusCode::OK, "text/plain; version=0.0.4", body),
            Err(error) => {
                error!(%error, "metrics cannot be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n")
            }
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        let answer = self.answer(&head.method, head.uri.path());
        // Whoever asks without a pause, and has room for the answers, would never leave the thread, which
        // is the users' thread, too.
        tokio::task::yield_now().await;
        answer
    }
}

impl Desk for Admin {
    fn bounds(&self) -> Bounds {
        self.gateway.bounds()
    }

    fn refuse(&self, refused: &Refused<'_>) -> Refusal {
        let (head, body) =
            text(StatusCode::BAD_REQUEST, &format!("{}\n", refused.reject.reason)).into_parts();
        Refusal { head: head.into(), body }
    }
}

fn text(status: StatusCode, body: &str) -> Response<Vec<u8>> {
    answer(status, "text/plain; charset=utf-8", body.into())
}

fn answer(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}
