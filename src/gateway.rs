//! One loaded configuration, resolved: what a request needs, looked up once.
//!
//! A reload builds a whole new [`Snapshot`] and swaps it in; a request holds one and sees no other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use imgate_filters::chain::Chain;
use imgate_filters::context::Place;
use imgate_filters::reject::Answers;
use imgate_filters::{Authorities, Deps, RateMemory, Registry, ReplayMemory, cors};
use imgate_identity::store::{BadRedisConfig, Memory, Store};

use crate::admission::{Pace, Pacer, ShedTerms};
use crate::config::{self, Config, ConfigError, Paths, StoreSource};
use crate::exchange::Repeat;
use crate::forward::Ours;
use crate::front::Bounds;
use crate::front::address::Address;
use crate::front::tls::BadSettings;
use crate::front::trusted::TrustedProxies;
use crate::jwks;
use crate::metrics::{Metrics, RouteMetrics, UpstreamMetrics};
use crate::reply::To;
use crate::route::{Found, PathFault, Table, check_path};
use crate::upstream::Upstream;
use crate::upstream::keeper::Keeper;

/// The longest that idle connections are kept for another request once the gateway stops.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// How a route's requests reach its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Whole request, whole answer.
    Exchange {
        /// The largest body taken, in bytes.
        max_body: usize,
        /// Whether a request may be sent twice.
        repeat: Repeat,
    },
    /// Bytes as they come, by Pingora's own proxy.
    Stream {
        /// The largest body taken, in bytes, if there is a limit.
        max_body: Option<u64>,
        /// What paths it takes.
        paths: Paths,
    },
    /// A WebSocket.
    Tunnel {
        /// How long no byte may pass.
        idle_timeout: Duration,
    },
}

/// One route, resolved.
pub struct Route {
    /// What filters may know of it.
    pub place: Arc<Place>,
    /// What a request passes before it is forwarded.
    pub chain: Arc<Chain>,
    /// The chain's name, for `explain`.
    pub chain_name: Option<Arc<str>>,
    /// Where it goes.
    pub upstream: Arc<Upstream>,
    /// How it goes there.
    pub mode: Mode,
    /// How long a request may take before its answer begins.
    pub timeout: Duration,
    /// Whether it says that anybody may call it.
    pub public: bool,
    /// Its counters.
    pub metrics: RouteMetrics,
    /// Its upstream's counters.
    pub upstream_metrics: UpstreamMetrics,
}

/// Everything a request needs of the configuration.
pub struct Snapshot {
    /// Where clients connect, and by which names routes know that.
    pub listeners: Vec<config::Listener>,
    /// The routes.
    pub table: Table<Arc<Route>>,
    /// The upstreams, for sweeping and metrics.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Where records come from.
    pub store: Arc<Store>,
    /// Where the keys of admins' issuers come from.
    pub jwks: Arc<jwks::Feeds>,
    /// What refusals look like.
    pub answers: Answers,
    /// The cross-origin policy of routes whose chain has none.
    pub cors: cors::Policy,
    /// What we tell upstreams.
    pub ours: Ours,
    /// What a client's connection may do.
    pub bounds: Bounds,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// How long a client may take to read an answer, or to send the next piece of a body.
    pub client_timeout: Duration,
    /// The most of an answer that is held in memory, in bytes; beyond it an answer flows.
    pub hold: usize,
    /// When requests are refused for want of time, if ever.
    pub shed: Option<ShedTerms>,
    /// Who lets TLS handshakes begin, if their number is bounded.
    pub handshakes: Option<Arc<Pacer>>,
}

impl Snapshot {
    /// The name that the listener of this address has now. One that is in the file no more has none, and
    /// keeps only the routes that are on every listener: its old name may mean another one by now.
    pub fn listener(&self, address: Option<&Address>) -> Option<&str> {
        let listener = self.listeners.iter().find(|listener| Some(&listener.address) == address)?;
        listener.name.as_deref()
    }

    /// Finds the route of a request, as [`Table::find`] does.
    ///
    /// # Errors
    /// Another hop could read the path in another way, and where it leads that matters.
    pub fn find(
        &self,
        listener: Option<&str>,
        host: &str,
        method: &Method,
        path: &str,
    ) -> Result<Found<'_, Arc<Route>>, PathFault> {
        let Err(fault) = check_path(path) else { return Ok(self.table.find(listener, host, method, path)) };
        let takes_names =
            |route: &Arc<Route>| matches!(route.mode, Mode::Stream { paths: Paths::ObjectNames, .. });
        let found = self.table.find_object(listener, host, method, path, takes_names);
        found.map(Found::Route).ok_or(fault)
    }

    /// The cross-origin policy of a route, or of what is answered before one is found.
    pub fn policy<'a>(&'a self, route: Option<&'a Route>) -> &'a cors::Policy {
        route.and_then(|route| route.chain.cors()).unwrap_or(&self.cors)
    }

    /// What an answer of ours needs to know of a request on this route, from this page and of this name.
    pub fn to<'a>(
        &'a self,
        route: Option<&'a Route>,
        origin: Option<&'a HeaderValue>,
        operation_id: &'a HeaderValue,
    ) -> To<'a> {
        To { answers: &self.answers, cors: self.policy(route), origin, operation_id }
    }
}

/// What outlives every configuration.
#[derive(Clone, Default)]
pub struct Shared {
    /// The nonces this process has seen.
    pub replays: Arc<ReplayMemory>,
    /// What is left of everybody's allowances.
    pub rates: Arc<RateMemory>,
    /// The records of `store: { memory: {} }`.
    pub memory: Arc<Memory>,
    /// The keys of admins' issuers.
    pub jwks: Arc<jwks::Feeds>,
    /// Who looks after the upstreams.
    pub keeper: Arc<Keeper>,
    /// Filters of the embedder's own.
    pub custom: Arc<Registry>,
}

/// Why a configuration that reads well cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Its parts do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A route names an upstream that is not there.
    #[error("a route names no upstream that exists")]
    Upstream,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] BadSettings),
    /// The description of the store is refused.
    #[error("identity.store: {0}")]
    Store(#[from] BadRedisConfig),
}

impl Snapshot {
    /// Resolves a configuration. A store that is configured as `before` goes on with its cache and its
    /// links, an upstream with its connections.
    ///
    /// # Errors
    /// A chain cannot be built, is out of order, or does not fit a route that names it.
    pub fn build(
        config: &Config,
        shared: &Shared,
        metrics: &Metrics,
        before: Option<(&Config, &Self)>,
    ) -> Result<Self, BuildError> {
        let store = match before {
            Some((old, snapshot)) if has_same_store(old, config) => Arc::clone(&snapshot.store),
            _ => open_store(config, shared)?,
        };
        let chains = config.build_chains(&deps(config, shared, &store))?;
        let old_upstreams = before.map_or(&[][..], |(_, snapshot)| &snapshot.upstreams);
        let open = |u| open_upstream(u, old_upstreams, &shared.keeper, metrics);
        let upstreams: Upstreams<'_> = config.upstreams.iter().map(|u| (&*u.name, open(u))).collect();
        let unguarded = Arc::new(Chain::default());
        let table = config.routes.try_map(|route: &Arc<config::Route>| {
            let chain = route.chain.as_ref().and_then(|name| chains.get(name)).unwrap_or(&unguarded);
            let (upstream, upstream_metrics) = upstreams.get(&*route.upstream).ok_or(BuildError::Upstream)?;
            Ok::<_, BuildError>(Arc::new(Route {
                place: Arc::new(Place {
                    route: Arc::clone(&route.name),
                    upstream: Arc::clone(&route.upstream),
                    rules: route.rules.clone(),
                    strip: route.strip,
                }),
                chain: Arc::clone(chain),
                chain_name: route.chain.clone(),
                upstream: Arc::clone(upstream),
                mode: mode(route.mode),
                timeout: route.timeout,
                public: route.public,
                metrics: metrics.route(&route.name),
                upstream_metrics: upstream_metrics.clone(),
            }))
        })?;
        Ok(Self {
            listeners: config.listeners.clone(),
            table,
            upstreams: upstreams.into_values().map(|(upstream, _)| upstream).collect(),
            store,
            jwks: Arc::clone(&shared.jwks),
            answers: config.answers.clone(),
            cors: config.cors.clone(),
            ours: Ours::new(config.public_url.header().clone(), config.public_url.scheme()),
            bounds: bounds(&config.limits),
            trusted_proxies: config.trusted_proxies.clone(),
            client_timeout: config.limits.client_timeout,
            hold: config.limits.hold,
            shed: config.limits.shed,
            handshakes: open_pacer(config.limits.handshakes, before),
        })
    }
}

/// Keeps a pacer of the same pace, with what was booked: a reload is no second burst.
fn open_pacer(pace: Option<Pace>, before: Option<(&Config, &Snapshot)>) -> Option<Arc<Pacer>> {
    let pace = pace?;
    let same = |(old, _): &(&Config, &Snapshot)| old.limits.handshakes == Some(pace);
    let kept = before.filter(same).and_then(|(_, snapshot)| snapshot.handshakes.clone());
    Some(kept.unwrap_or_else(|| Arc::new(Pacer::new(pace))))
}

type Upstreams<'a> = HashMap<&'a str, (Arc<Upstream>, UpstreamMetrics)>;

/// Keeps an upstream that is configured as before, with its connections and what is in flight to it, and
/// of one that is not the servers that stay.
fn open_upstream(
    upstream: &config::Upstream,
    before: &[Arc<Upstream>],
    keeper: &Keeper,
    metrics: &Metrics,
) -> (Arc<Upstream>, UpstreamMetrics) {
    let config::Upstream { name, servers, options, .. } = upstream;
    let old = before.iter().find(|old| old.name == *name);
    let kept = old.filter(|old| old.is_configured_as(name, servers, options)).cloned();
    let opened = kept.unwrap_or_else(|| {
        let opened = Arc::new(Upstream::succeeding(old.map(|old| &**old), name, servers, options.clone()));
        keeper.watch(&opened);
        opened
    });
    (opened, metrics.upstream(name))
}

fn bounds(limits: &config::Limits) -> Bounds {
    Bounds {
        head: limits.head,
        head_timeout: limits.head_timeout,
        keepalive_timeout: limits.keepalive_timeout,
        requests: limits.requests_per_connection,
        last_chance: LAST_CHANCE.min(limits.drain_timeout / 2),
    }
}

fn mode(mode: config::Mode) -> Mode {
    match mode {
        config::Mode::Exchange { max_body, replay_safe } => {
            Mode::Exchange { max_body, repeat: if replay_safe { Repeat::Allow } else { Repeat::Refuse } }
        }
        config::Mode::Stream { max_body, paths } => Mode::Stream { max_body, paths },
        config::Mode::Tunnel { idle_timeout } => Mode::Tunnel { idle_timeout },
    }
}

fn deps(config: &Config, shared: &Shared, store: &Arc<Store>) -> Deps {
    let names = config.hosts.iter().map(|host| &**host);
    Deps {
        store: Arc::clone(store),
        authorities: Arc::new(Authorities::new(names, config.public_url.scheme())),
        admin_users: Arc::new(config.identity.admin_users.clone()),
        assertion_key: config.identity.assertion_key.clone(),
        replays: Arc::clone(&shared.replays),
        jwks: Arc::clone(&shared.jwks) as _,
        rates: Arc::clone(&shared.rates),
        base: config.base.clone(),
        custom: Arc::clone(&shared.custom),
    }
}

fn has_same_store(old: &Config, new: &Config) -> bool {
    let (old, new) = (&old.identity, &new.identity);
    old.store == new.store && old.layout == new.layout && old.cache == new.cache
}

fn open_store(config: &Config, shared: &Shared) -> Result<Arc<Store>, BadRedisConfig> {
    let (layout, cache) = (config.identity.layout.clone(), config.identity.cache.clone());
    match &config.identity.store {
        StoreSource::Memory => Ok(Store::memory(Arc::clone(&shared.memory), layout, cache)),
        StoreSource::Redis(redis) => Store::redis(redis.clone(), layout, cache),
    }
}
