//! Which upstream is what, judged by the routes that lead there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use imgate_filters::Fact;

use crate::config::{self, Config};
use crate::gateway::{Mode, Route, Snapshot};
use crate::upstream::{Options, Origin, Upstream};

/// What an upstream is taken for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Nothing that could be known: a sidecar, or an object storage.
    Other,
    /// A message gateway; the path by which it gets handshakes.
    Sockets(Box<str>),
    /// OpenIM's API: a route sends it OpenIM's tokens.
    Api,
}

/// The upstreams, sorted.
pub(super) struct Targets<'a> {
    upstreams: Vec<(&'a config::Upstream, Kind)>,
}

/// One server of an upstream, to be asked alone.
pub(super) struct Target {
    /// Its name in what is said: `openim_api 127.0.0.1:10002`.
    pub(super) name: String,
    /// Where it is.
    pub(super) address: SocketAddr,
    /// The upstream of this server alone.
    pub(super) upstream: Upstream,
}

impl<'a> Targets<'a> {
    /// Sorts the upstreams that a route leads to.
    pub(super) fn of(config: &'a Config, snapshot: &Snapshot) -> Self {
        let mut kinds: BTreeMap<Arc<str>, Kind> = BTreeMap::new();
        for route in snapshot.table.routes() {
            let (kind, known) =
                (kind(route), kinds.entry(Arc::clone(&route.place.upstream)).or_insert(Kind::Other));
            if *known < kind {
                *known = kind;
            }
        }
        let known = |upstream: &'a config::Upstream| Some((upstream, kinds.get(&upstream.name)?.clone()));
        Self { upstreams: config.upstreams.iter().filter_map(known).collect() }
    }

    /// The servers of OpenIM's API.
    pub(super) fn api(&self) -> Vec<Target> {
        self.each(|kind| *kind == Kind::Api).map(|(target, _)| target).collect()
    }

    /// The message gateways, each with the path by which it gets handshakes.
    pub(super) fn sockets(&self) -> Vec<(Target, Box<str>)> {
        let path = |(target, kind): (Target, &Kind)| match kind {
            Kind::Sockets(path) => Some((target, path.clone())),
            Kind::Api | Kind::Other => None,
        };
        self.each(|kind| matches!(kind, Kind::Sockets(_))).filter_map(path).collect()
    }

    /// All others.
    pub(super) fn others(&self) -> Vec<Target> {
        self.each(|kind| *kind == Kind::Other).map(|(target, _)| target).collect()
    }

    fn each(&self, wanted: impl Fn(&Kind) -> bool) -> impl Iterator<Item = (Target, &Kind)> {
        let chosen = self.upstreams.iter().filter(move |(_, kind)| wanted(kind));
        chosen.flat_map(|(upstream, kind)| {
            let servers = upstream.servers.iter();
            let found = servers.flat_map(|origin| origin.found.iter().map(move |address| (origin, *address)));
            found.map(move |(origin, address)| (target(upstream, origin, address), kind))
        })
    }
}

/// A server by itself, with the patience of its upstream; every answer of it counts.
fn target(upstream: &config::Upstream, origin: &Origin, address: SocketAddr) -> Target {
    let alone = Origin { found: vec![address], ..origin.clone() };
    let options = Options { eject: None, breaker: None, check: None, ..upstream.options.clone() };
    let name = if origin.is_name() {
        format!("{} {origin} ({address})", upstream.name)
    } else {
        format!("{} {origin}", upstream.name)
    };
    Target { name, address, upstream: Upstream::succeeding(None, &upstream.name, &[alone], options) }
}

fn kind(route: &Route) -> Kind {
    match route.mode {
        Mode::Tunnel { .. } => {
            let public: &str = &route.place.route;
            Kind::Sockets(public.get(route.place.strip..).unwrap_or("/").trim_end_matches('*').into())
        }
        _ if route.chain.writes(Fact::Injected) => Kind::Api,
        Mode::Exchange { .. } | Mode::Stream { .. } => Kind::Other,
    }
}
