//! What the gateway counts, as Prometheus reads it on the admin listener.
//!
//! Labels come from closed sets (routes, upstreams and causes of the configuration), never from a
//! request. Handles are resolved when a configuration is loaded, so a request only adds to atomics.
//! Times are in seconds, sizes in bytes.

mod door;
mod reload;

use std::sync::Arc;
use std::time::Duration;

use imgate_filters::context::Shadowed;
use imgate_filters::{Cause, RateMemory};
use imgate_identity::store::{Health, Store};
use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::door::{DoorMetrics, Handshake};
pub use self::reload::{ReloadMetrics, UpgradeResult};
use crate::admission::{Class, Pacer, Shed};
use crate::jwks;
use crate::tunnel::Ended;
use crate::upstream::{Server, State, Upstream};

/// Upper bounds of the duration histograms, in seconds.
const BUCKETS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The classes of status a request can end with.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All counters of a process. They outlive reloads.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    upstream_seconds: HistogramVec,
    upstream_failures: IntCounterVec,
    openim_codes: IntCounterVec,
    refusals: [IntCounter; Cause::ALL.len()],
    shadow_refusals: IntCounterVec,
    tunnels_ended: [IntCounter; Ended::ALL.len()],
    /// What is counted at the front door.
    pub door: DoorMetrics,
    /// Client connections that speak HTTP.
    pub connections: IntGauge,
    /// Sockets that are open.
    pub tunnels: IntGauge,
    /// Bytes relayed from clients to upstreams.
    pub tunnel_bytes_up: IntCounter,
    /// Bytes relayed from upstreams to clients.
    pub tunnel_bytes_down: IntCounter,
    /// Requests for which OpenIM refused the stored token, by what a fresh look found.
    heals: [IntCounter; Heal::ALL.len()],
    /// What came of reloads and upgrades, and what runs now.
    pub reload: ReloadMetrics,
    upstream_in_flight: IntGaugeVec,
    upstreams: UpstreamState,
    log_lines_dropped: IntGauge,
    rate_keys: IntGauge,
    rate_overflows: IntCounter,
    rate_shared: IntCounterVec,
    shed: ShedMetrics,
    handshakes_refused: IntCounter,
    store: StoreMetrics,
    jwks: JwksMetrics,
}

/// What came of a token that OpenIM refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heal {
    /// The store held another token, and OpenIM took it.
    Healed,
    /// The store held another token, and OpenIM refused it too.
    StillRefused,
    /// The store held the same token, which was kicked: a verdict for the client.
    Verdict,
    /// The store held the same token, refused for another reason.
    Unchanged,
    /// The store held no token any more.
    Gone,
    /// The store could not be asked.
    StoreAway,
}

impl Heal {
    const ALL: [Self; 6] =
        [Self::Healed, Self::StillRefused, Self::Verdict, Self::Unchanged, Self::Gone, Self::StoreAway];

    fn as_str(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::StillRefused => "still_refused",
            Self::Verdict => "verdict",
            Self::Unchanged => "unchanged",
            Self::Gone => "gone",
            Self::StoreAway => "store_away",
        }
    }
}

/// The handles of one route.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    by_class: [IntCounter; CLASSES.len()],
    seconds: Histogram,
}

impl RouteMetrics {
    /// Notes a finished request.
    pub fn finished(&self, status: u16, took: Duration) {
        if let Some(counter) = self.by_class.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.inc();
        }
        self.seconds.observe(took.as_secs_f64());
    }
}

/// The handles of one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    seconds: Histogram,
    unreachable: IntCounter,
    timeout: IntCounter,
    codes: [IntCounter; CodeClass::ALL.len()],
}

/// Classes of the `errCode` an upstream answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CodeClass {
    Success,
    Token,
    Internal,
    Application,
    NoEnvelope,
}

impl CodeClass {
    const ALL: [Self; 5] = [Self::Success, Self::Token, Self::Internal, Self::Application, Self::NoEnvelope];

    fn of(code: Option<i64>) -> Self {
        match code {
            None => Self::NoEnvelope,
            Some(0) => Self::Success,
            Some(1501..=1507) => Self::Token,
            // A backend that is down. Source: openimsdk/tools mw/rpc_client_interceptor.go (raw gRPC
            // codes on the released line), mw/grpc/client/error.go (500 at head).
            Some(4 | 13 | 14 | 500) => Self::Internal,
            Some(_) => Self::Application,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "0",
            Self::Token => "15xx",
            Self::Internal => "internal",
            Self::Application => "application",
            Self::NoEnvelope => "none",
        }
    }
}

impl UpstreamMetrics {
    /// Notes an answer and the `errCode` in it.
    pub fn answered(&self, err_code: Option<i64>, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        self.codes[CodeClass::of(err_code) as usize].inc();
    }

    /// Notes that no answer came.
    pub fn failed(&self, cause: Cause) {
        match cause {
            Cause::UpstreamTimeout => self.timeout.inc(),
            _ => self.unreachable.inc(),
        }
    }
}

struct ShedMetrics {
    delay: Gauge,
    ratio: GaugeVec,
    refused: IntCounterVec,
}

struct StoreMetrics {
    up: IntGauge,
    entries: IntGauge,
    waiting: IntGauge,
    events: IntCounterVec,
    failures: IntCounterVec,
    link_faults: IntCounterVec,
}

/// What upstreams count themselves, and how they are.
struct UpstreamState {
    servers: IntGaugeVec,
    breaker: IntGaugeVec,
    events: IntCounterVec,
}

struct JwksMetrics {
    age: GaugeVec,
    keys: IntGaugeVec,
    fetches: IntCounterVec,
}

/// Brings a counter up to a total that somebody else keeps. After a reload that made a new store, it
/// stands still until the new total has caught up.
fn catch_up(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

impl Metrics {
    /// Makes and registers all counters.
    ///
    /// # Errors
    /// A name or label is not one Prometheus takes, which a test rules out.
    pub fn new() -> Result<Arc<Self>, prometheus::Error> {
        let registry = Registry::new();
        let make = Maker { registry: &registry };
        let refusals =
            make.counters("imgate_refusals_total", "Requests refused by the gateway, by cause", &["cause"])?;
        let ended =
            make.counters("imgate_tunnels_ended_total", "Sockets that ended, by cause", &["cause"])?;
        let heals = make.counters(
            "imgate_token_heals_total",
            "Injected tokens that OpenIM refused, by what a fresh look in the store found",
            &["result"],
        )?;
        let bytes = make.counters("imgate_tunnel_bytes_total", "Bytes relayed on sockets", &["direction"])?;
        let metrics = Self {
            requests: make.counters("imgate_requests_total", "Requests answered", &["route", "class"])?,
            request_seconds: make.histograms("imgate_request_seconds", "Time to answer", &["route"])?,
            upstream_seconds: make.histograms(
                "imgate_upstream_seconds",
                "Time the upstream took",
                &["upstream"],
            )?,
            upstream_failures: make.counters(
                "imgate_upstream_failures_total",
                "Requests an upstream did not answer",
                &["upstream", "cause"],
            )?,
            openim_codes: make.counters(
                "imgate_upstream_err_codes_total",
                "Answers by class of errCode; none is an answer without envelope",
                &["upstream", "class"],
            )?,
            shadow_refusals: make.counters(
                "imgate_shadow_refusals_total",
                "Requests that a filter in shadow mode would have refused, or answered itself (fixed_reply)",
                &["filter", "cause"],
            )?,
            refusals: Cause::ALL.map(|cause| refusals.with_label_values(&[cause.as_str()])),
            tunnels_ended: Ended::ALL.map(|cause| ended.with_label_values(&[cause.as_str()])),
            door: DoorMetrics::new(&make)?,
            connections: make.gauge(
                "imgate_connections",
                "Client connections that speak HTTP; sockets are in imgate_tunnels",
            )?,
            tunnels: make.gauge("imgate_tunnels", "Sockets that are open")?,
            tunnel_bytes_up: bytes.with_label_values(&["up"]),
            tunnel_bytes_down: bytes.with_label_values(&["down"]),
            heals: Heal::ALL.map(|result| heals.with_label_values(&[result.as_str()])),
            reload: ReloadMetrics::new(&make)?,
            upstream_in_flight: make.gauges(
                "imgate_upstream_in_flight",
                "Requests and sockets under way to a server",
                &["upstream", "server"],
            )?,
            upstreams: UpstreamState {
                servers: make.gauges(
                    "imgate_upstream_server_state",
                    "1 for the state that a server is in: up, down (fails its health checks), left_out \
                     (requests to it failed) or returning (gets its share step by step)",
                    &["upstream", "server", "state"],
                )?,
                breaker: make.gauges(
                    "imgate_upstream_breaker_open",
                    "Whether requests are refused because nearly all of them fail",
                    &["upstream"],
                )?,
                events: make.counters(
                    "imgate_upstream_events_total",
                    "What became of servers, health checks, repeats and lookups",
                    &["upstream", "event"],
                )?,
            },
            log_lines_dropped: make
                .gauge("imgate_access_log_dropped_lines", "Access lines dropped since the start")?,
            rate_keys: make
                .gauge("imgate_rate_limit_keys", "Keys whose allowance is not known to be whole")?,
            rate_overflows: make.register(IntCounter::new(
                "imgate_rate_limit_overflows_total",
                "Requests that were counted together with others because a limit was full of keys",
            )?)?,
            rate_shared: make.counters(
                "imgate_rate_limit_shared_total",
                "Requests under limits that gateways share: passed and refused by the store, spared (refused without asking it), away (the store gave no answer)",
                &["result"],
            )?,
            handshakes_refused: make.register(IntCounter::new(
                "imgate_handshakes_refused_total",
                "TLS handshakes refused because more of them waited than could be begun in time",
            )?)?,
            shed: ShedMetrics {
                delay: make.register(Gauge::new(
                    "imgate_queue_delay_seconds",
                    "How long tasks waited for a thread at least, when it was last measured",
                )?)?,
                ratio: make.register(GaugeVec::new(
                    Opts::new("imgate_shed_ratio", "Which part of the requests is refused for that delay"),
                    &["class"],
                )?)?,
                refused: make.counters(
                    "imgate_shed_total",
                    "Requests refused because tasks waited for too long",
                    &["class"],
                )?,
            },
            store: StoreMetrics {
                up: make
                    .gauge("imgate_store_up", "Whether the store is reachable and its changes are tracked")?,
                entries: make.gauge("imgate_store_cache_entries", "Records held in memory")?,
                waiting: make.gauge(
                    "imgate_store_lookups_waiting",
                    "Lookups that wait for their turn to read the store",
                )?,
                events: make.counters(
                    "imgate_store_events_total",
                    "Events of the store and its cache",
                    &["event"],
                )?,
                failures: make.counters(
                    "imgate_store_failures_total",
                    "Reads of the store that failed, by cause; broken means a record needs attention",
                    &["cause"],
                )?,
                link_faults: make.counters(
                    "imgate_store_link_faults_total",
                    "Why the store did not announce changes: links that could not be made, or were lost",
                    &["cause"],
                )?,
            },
            jwks: JwksMetrics {
                age: make.register(GaugeVec::new(
                    Opts::new("imgate_jwks_age_seconds", "How old the keys of an issuer of admins are"),
                    &["url"],
                )?)?,
                keys: make.gauges("imgate_jwks_keys", "Keys in use; none means 503 for admins", &["url"])?,
                fetches: make.counters(
                    "imgate_jwks_fetches_total",
                    "Attempts to fetch keys, by whether a good set came of it",
                    &["url", "result"],
                )?,
            },
            registry: registry.clone(),
        };
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Arc::new(metrics))
    }

    /// Resolves the handles of a route.
    pub fn route(&self, name: &str) -> RouteMetrics {
        RouteMetrics {
            by_class: CLASSES.map(|class| self.requests.with_label_values(&[name, class])),
            seconds: self.request_seconds.with_label_values(&[name]),
        }
    }

    /// Forgets a route that is no more. Without that, each name that ever was would be kept.
    pub fn forget_route(&self, name: &str) {
        // What was never counted is not there to be removed.
        for class in CLASSES {
            let _ = self.requests.remove_label_values(&[name, class]);
        }
        let _ = self.request_seconds.remove_label_values(&[name]);
    }

    /// Resolves the handles of an upstream.
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        let failures = |cause: Cause| self.upstream_failures.with_label_values(&[name, cause.as_str()]);
        UpstreamMetrics {
            seconds: self.upstream_seconds.with_label_values(&[name]),
            unreachable: failures(Cause::UpstreamUnreachable),
            timeout: failures(Cause::UpstreamTimeout),
            codes: CodeClass::ALL.map(|class| self.openim_codes.with_label_values(&[name, class.as_str()])),
        }
    }

    /// Notes a refusal.
    pub fn refused(&self, cause: Cause) {
        self.refusals[cause as usize].inc();
    }

    /// Notes a refusal, or an answer, that a filter in shadow mode kept to itself.
    pub fn shadowed(&self, shadowed: &Shadowed) {
        let cause = shadowed.cause.map_or("fixed_reply", Cause::as_str);
        self.shadow_refusals.with_label_values(&[shadowed.filter, cause]).inc();
    }

    /// Notes what came of a refused token.
    pub fn healed(&self, result: Heal) {
        self.heals[result as usize].inc();
    }

    /// Notes a socket that ended.
    pub fn tunnel_ended(&self, ended: Ended) {
        self.tunnels_ended[ended as usize].inc();
    }

    /// Takes over how the upstreams are and what they count themselves. Those that are gone with an
    /// earlier configuration are forgotten.
    pub fn observe_upstreams(&self, upstreams: &[Arc<Upstream>]) {
        self.upstream_in_flight.reset();
        self.upstreams.servers.reset();
        self.upstreams.breaker.reset();
        for upstream in upstreams {
            let name = &*upstream.name;
            self.upstreams.breaker.with_label_values(&[name]).set(i64::from(upstream.has_open_breaker()));
            for (event, total) in upstream.counts().all() {
                catch_up(&self.upstreams.events.with_label_values(&[name, event]), total);
            }
            for server in upstream.servers().iter() {
                self.observe_server(name, server);
            }
        }
    }

    fn observe_server(&self, upstream: &str, server: &Server) {
        let (address, present) = (server.address.to_string(), server.state());
        self.upstream_in_flight.with_label_values(&[upstream, &address]).set(i64::from(server.in_flight()));
        for state in State::ALL {
            let gauge = self.upstreams.servers.with_label_values(&[upstream, &address, state.as_str()]);
            gauge.set(i64::from(state == present));
        }
    }

    /// Takes over what the limits count themselves.
    pub fn observe_rates(&self, rates: &RateMemory) {
        self.rate_keys.set(i64::try_from(rates.keys()).unwrap_or(i64::MAX));
        catch_up(&self.rate_overflows, rates.overflows());
        let shared = rates.shared();
        for (result, total) in [
            ("passed", shared.passed),
            ("refused", shared.refused),
            ("spared", shared.spared),
            ("away", shared.away),
        ] {
            catch_up(&self.rate_shared.with_label_values(&[result]), total);
        }
    }

    /// Takes over how many handshakes were refused.
    pub fn observe_handshakes(&self, pacer: &Pacer) {
        catch_up(&self.handshakes_refused, pacer.refused());
    }

    /// Takes over what is known of the delay and what was refused for it.
    pub fn observe_shed(&self, shed: &Shed) {
        self.shed.delay.set(shed.delay().as_secs_f64());
        for class in Class::ALL {
            self.shed.ratio.with_label_values(&[class.as_str()]).set(shed.part(class));
            catch_up(&self.shed.refused.with_label_values(&[class.as_str()]), shed.refused(class));
        }
    }

    /// Takes over what the store and the log count themselves.
    pub fn observe(&self, store: &Store, log_lines_dropped: usize) {
        self.store.up.set(i64::from(store.health() == Health::Live));
        let stats = store.stats();
        let failures = stats.failures;
        for (event, total) in [
            ("hit", stats.hits),
            ("negative_hit", stats.negative_hits),
            ("miss", stats.misses),
            ("load", stats.loads),
            ("invalidation", stats.invalidations),
            ("flush", stats.flushes),
            ("link_loss", stats.link_losses),
        ] {
            catch_up(&self.store.events.with_label_values(&[event]), total);
        }
        for (cause, total) in [
            ("down", failures.down),
            ("deadline", failures.deadline),
            ("overloaded", failures.overloaded),
            ("unmarked", failures.unmarked),
            ("broken", failures.broken),
            ("refused", failures.refused),
        ] {
            catch_up(&self.store.failures.with_label_values(&[cause]), total);
        }
        for (cause, total) in store.link_faults() {
            catch_up(&self.store.link_faults.with_label_values(&[cause]), total);
        }
        self.store.entries.set(i64::try_from(stats.entries).unwrap_or(i64::MAX));
        self.store.waiting.set(i64::try_from(stats.waiting).unwrap_or(i64::MAX));
        self.log_lines_dropped.set(i64::try_from(log_lines_dropped).unwrap_or(i64::MAX));
    }

    /// Takes over what is known of the keys that are fetched. Sets that are not in use any more are
    /// forgotten.
    pub fn observe_jwks(&self, reports: &[jwks::Report]) {
        self.jwks.age.reset();
        self.jwks.keys.reset();
        for report in reports {
            let url = report.url.to_string();
            if let Some(age) = report.age {
                self.jwks.age.with_label_values(&[&*url]).set(age.as_secs_f64());
            }
            let keys = i64::try_from(report.keys).unwrap_or(i64::MAX);
            self.jwks.keys.with_label_values(&[&*url]).set(keys);
            for (result, total) in [("ok", report.ok), ("failed", report.failed)] {
                catch_up(&self.jwks.fetches.with_label_values(&[&*url, result]), total);
            }
        }
    }

    /// Writes everything in Prometheus' text format.
    ///
    /// # Errors
    /// A metric cannot be written, which would be a bug of the library.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), labels)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_rendered() {
        let metrics = Metrics::new().unwrap();
        metrics.route("api").finished(503, Duration::from_millis(3));
        metrics.upstream("openim").answered(Some(1506), Duration::from_millis(1));
        metrics.refused(Cause::Replayed);
        metrics.healed(Heal::Healed);
        metrics.tunnel_ended(Ended::Idle);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        for line in [
            "imgate_requests_total{class=\"5xx\",route=\"api\"} 1",
            "imgate_upstream_err_codes_total{class=\"15xx\",upstream=\"openim\"} 1",
            "imgate_refusals_total{cause=\"replayed\"} 1",
            "imgate_token_heals_total{result=\"healed\"} 1",
            "imgate_tunnels_ended_total{cause=\"idle\"} 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn handles_follow_the_order_of_their_enums() {
        assert!(Heal::ALL.iter().enumerate().all(|(i, h)| *h as usize == i));
        assert!(CodeClass::ALL.iter().enumerate().all(|(i, c)| *c as usize == i));
        assert!(Ended::ALL.iter().enumerate().all(|(i, e)| *e as usize == i));
    }
}
