//! Routes: what each names must exist, what it says must make sense, and no two may clash.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use imgate_filters::Rules;
use imgate_filters::folder::Folder;
use imgate_filters::size::Size;
use serde_saphyr::Location;

use super::edge::{MAX_BODY, bounded};
use super::{Faults, pattern};
use crate::config::meaning::{Chain, Closed, Limits, Mode, Paths, Route, Upstream};
use crate::config::period::Timeout;
use crate::config::problem::{Beside, Found, HostForm, Overlap, Problem};
use crate::config::public_url::is_host;
use crate::config::source::{Mark, Source};
use crate::config::spanned::Spanned;
use crate::config::suggest::Suggestion;
use crate::config::{table, written, yaml};
use crate::route::{Clash, Methods, Pattern, Table, TableBuilder};

/// How long a tunnel may be silent, if nothing is said: four pings of OpenIM's clients.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// The shortest that makes sense: OpenIM itself cuts at 30 s.
///
/// Source: open-im-server `internal/msggateway/constant.go`, `pongWait`.
const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(31);

/// What a route may name.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) upstreams: &'a [Upstream],
    pub(super) chains: &'a [Chain],
    pub(super) listeners: &'a [Arc<str>],
}

/// All routes, and what their tables leave out.
pub(super) fn resolve(
    faults: &mut Faults,
    written: &Spanned<Vec<Spanned<written::Route>>>,
    names: Names<'_>,
    limits: &Limits,
    base: &Folder,
) -> (Table<Arc<Route>>, Vec<Closed>) {
    if written.value.is_empty() {
        faults.add(written.referenced, "routes", Problem::Empty);
    }
    let mut routes = Routes { names, limits, base, builder: Table::builder(), closed: Vec::new() };
    for (i, route) in written.value.iter().enumerate() {
        let entry =
            Entry { written: &route.value, at: route.referenced, place: format!("routes[{i}]").into() };
        routes.add(faults, &entry);
    }
    warn_unused(faults, &written.value, names);
    (routes.builder.build(), routes.closed)
}

/// One entry of `routes`.
struct Entry<'a> {
    written: &'a written::Route,
    at: Location,
    place: Arc<str>,
}

impl Entry<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.place)
    }
}

struct Routes<'a> {
    names: Names<'a>,
    limits: &'a Limits,
    base: &'a Folder,
    builder: TableBuilder<Arc<Route>>,
    closed: Vec<Closed>,
}

/// Where the requests of an entry go.
struct Target {
    upstream: Arc<str>,
    is_websocket: bool,
}

impl Routes<'_> {
    fn add(&mut self, faults: &mut Faults, entry: &Entry<'_>) {
        let written = entry.written;
        let before = faults.list.len();
        let target = self.target(faults, entry);
        let chain = self.chain(faults, entry);
        let listeners = self.listeners(faults, entry);
        let hosts = hosts(faults, entry);
        let strip = mount(faults, entry);
        let mode = self.mode(faults, entry, target.as_ref().is_some_and(|target| target.is_websocket));
        let keys = [written.path.is_some(), written.prefix.is_some(), written.table.is_some()];
        exactly_one(faults, entry, &["path", "prefix", "table"], &keys);
        let Some(target) = target.filter(|_| faults.list.len() == before) else { return };
        let route = Route {
            name: "".into(),
            listeners,
            hosts,
            methods: methods(written, &target),
            pattern: Pattern::Exact("/".into()),
            strip: strip.len(),
            upstream: target.upstream,
            chain,
            rules: Rules {
                bind: written.bind.as_ref().map(|bind| bind.value.clone()),
                roles: written.roles.as_ref().map(|roles| roles.value.clone()),
                platforms: written.platforms.as_ref().map(|platforms| platforms.value),
            },
            table: written.table.as_ref().map(|file| file.value.as_path().into()),
            line: None,
            public: written.public,
            mode,
            timeout: written.timeout.as_ref().map_or(self.limits.request_timeout, |timeout| timeout.value.0),
            mark: faults.mark(entry.at),
            place: Arc::clone(&entry.place),
            entry: faults.mark(entry.at),
        };
        self.add_paths(faults, entry, strip, &route);
    }

    fn add_paths(&mut self, faults: &mut Faults, entry: &Entry<'_>, at: &str, like: &Route) {
        if let Some(path) = &entry.written.path {
            let place = entry.key("path");
            if faults.keep(path.referenced, &*place, pattern::exact(&path.value)).is_some() {
                let route = Route { pattern: pattern::exact_at(at, &path.value), ..like.clone() };
                self.insert(faults, path.referenced, &place, route);
            }
        }
        if let Some(path) = &entry.written.prefix {
            let place = entry.key("prefix");
            if faults.keep(path.referenced, &*place, pattern::prefix(&path.value)).is_some() {
                let route = Route { pattern: pattern::prefix_at(at, &path.value), ..like.clone() };
                self.insert(faults, path.referenced, &place, route);
            }
        }
        if let Some(file) = &entry.written.table {
            let read = Source::read(self.base, &file.value).map_err(|problem| match problem {
                Problem::Unreadable(cause) => {
                    Problem::UnreadableTable { path: self.base.path_of(&file.value).into(), cause }
                }
                other => other,
            });
            if let Some(source) = faults.keep(file.referenced, entry.key("table"), read) {
                self.add_table(faults, &source, at, like);
            }
        }
    }

    fn add_table(&mut self, faults: &mut Faults, source: &Arc<Source>, at: &str, like: &Route) {
        let mut table: table::Table = match yaml::parse(source) {
            Ok(table) => table,
            Err(fault) => return faults.list.push(fault),
        };
        let closed = std::mem::take(&mut table.closed);
        let (mut own, mut seen) = (Faults::new(source), HashMap::new());
        for (key, methods, entries) in table.lists() {
            for (i, entry) in entries.iter().enumerate() {
                let (place, path) = (format!("{key}[{i}]"), &entry.value.path);
                if own.keep(entry.referenced, &*place, pattern::exact(path)).is_none() {
                    continue;
                }
                seen.insert(path.clone(), place.clone());
                let mut route = Route { pattern: pattern::exact_at(at, path), methods, ..like.clone() };
                special(&mut own, &entry.value.options, &place, &mut route);
                self.insert(&mut own, entry.referenced, &place, route);
            }
        }
        self.add_closed(&mut own, &closed, seen, at, like);
        faults.list.append(&mut own.list);
    }

    fn add_closed(
        &mut self,
        faults: &mut Faults,
        closed: &[Spanned<table::Closed>],
        mut seen: HashMap<String, String>,
        at: &str,
        like: &Route,
    ) {
        for (i, entry) in closed.iter().enumerate() {
            let (place, path) = (format!("closed[{i}]"), &entry.value.path);
            if faults.keep(entry.referenced, &*place, pattern::exact(path)).is_none() {
                continue;
            }
            if let Some(earlier) = seen.insert(path.clone(), place.clone()) {
                let problem = Problem::ClosedTwice { path: path.as_str().into(), earlier: earlier.into() };
                faults.add(entry.referenced, &*place, problem);
            }
            self.closed.push(Closed {
                path: path.as_str().into(),
                public: pattern::exact_at(at, path).path().into(),
                why: entry.value.why.as_str().into(),
                line: entry.value.line,
                hosts: like.hosts.clone(),
                upstream: Arc::clone(&like.upstream),
                table: like.table.clone().unwrap_or_else(|| Path::new("").into()),
                mark: faults.mark(entry.referenced),
                place: Arc::clone(&like.place),
            });
        }
    }

    fn insert(&mut self, faults: &mut Faults, at: Location, place: &str, route: Route) {
        let (name, mark) = (route.pattern.to_string().into(), faults.mark(at));
        let route = Arc::new(Route { name, mark, ..route });
        let Route { listeners, hosts, methods, pattern, .. } = &*route;
        let inserted = self.builder.insert(listeners, hosts, *methods, pattern, Arc::clone(&route));
        if let Err(clash) = inserted {
            let earlier = format!("{} ({})", clash.earlier.place, clash.earlier.mark).into();
            let Clash { methods, pattern, host, listener, .. } = clash;
            let overlap = Box::new(Overlap { host, listener });
            faults.add(at, place, Problem::RouteTaken { methods, pattern, overlap, earlier });
        }
    }

    fn target(&self, faults: &mut Faults, entry: &Entry<'_>) -> Option<Target> {
        let (upstream, websocket) = (&entry.written.upstream, &entry.written.websocket);
        exactly_one(faults, entry, &["upstream", "websocket"], &[upstream.is_some(), websocket.is_some()]);
        let (key, name) = match (upstream, websocket) {
            (Some(name), None) => ("upstream", name),
            (None, Some(name)) => ("websocket", name),
            _ => return None,
        };
        let known = self.names.upstreams.iter().map(|upstream| &upstream.name);
        let found =
            named(&name.value, known).map_err(|near| Problem::NoUpstream(name.value.as_str().into(), near));
        let upstream = faults.keep(name.referenced, entry.key(key), found)?;
        Some(Target { upstream, is_websocket: websocket.is_some() })
    }

    fn chain(&self, faults: &mut Faults, entry: &Entry<'_>) -> Option<Arc<str>> {
        let Some(name) = &entry.written.chain else {
            if !entry.written.public {
                faults.add(entry.at, &*entry.place, Problem::Unguarded);
            }
            return None;
        };
        let known = self.names.chains.iter().map(|chain| &chain.name);
        let found =
            named(&name.value, known).map_err(|near| Problem::NoChain(name.value.as_str().into(), near));
        faults.keep(name.referenced, entry.key("chain"), found)
    }

    fn listeners(&self, faults: &mut Faults, entry: &Entry<'_>) -> Vec<Arc<str>> {
        let Some(written) = &entry.written.listeners else { return Vec::new() };
        if written.value.is_empty() {
            faults.add(written.referenced, entry.key("listeners"), Problem::Empty);
        }
        let mut listeners = Vec::new();
        for (i, name) in written.value.iter().enumerate() {
            let found = named(&name.value, self.names.listeners.iter())
                .map_err(|near| Problem::NoListener(name.value.as_str().into(), near));
            let found = faults.keep(name.referenced, format!("{}.listeners[{i}]", entry.place), found);
            listeners.extend(found.filter(|name| !listeners.contains(name)));
        }
        listeners
    }

    fn mode(&self, faults: &mut Faults, entry: &Entry<'_>, is_websocket: bool) -> Mode {
        let written = entry.written;
        let streams = written.stream.as_ref().is_some_and(|stream| stream.value);
        check_keys(faults, entry, is_websocket, streams);
        if is_websocket {
            return Mode::Tunnel { idle_timeout: idle_timeout(faults, entry) };
        }
        if streams {
            let max_body = written.max_body.as_ref().map(|size| size.value.0);
            return Mode::Stream { max_body, paths: paths(written) };
        }
        let max_body = bounded(faults, written.max_body.as_ref(), &entry.key("max_body"), MAX_BODY);
        let replay_safe = written.replay_safe.as_ref().is_some_and(|safe| safe.value);
        Mode::Exchange { max_body: max_body.unwrap_or(self.limits.body), replay_safe }
    }
}

fn paths(written: &written::Route) -> Paths {
    let names = written.object_names.as_ref().is_some_and(|names| names.value);
    if names { Paths::ObjectNames } else { Paths::Plain }
}

fn named<'a>(name: &str, known: impl Iterator<Item = &'a Arc<str>> + Clone) -> Result<Arc<str>, Suggestion> {
    let found = known.clone().find(|known| &***known == name);
    found.cloned().ok_or_else(|| Suggestion::new(name, known.map(|known| &**known)))
}

fn exactly_one(faults: &mut Faults, entry: &Entry<'_>, keys: &'static [&'static str], given: &[bool]) {
    let found = match given.iter().filter(|given| **given).count() {
        1 => return,
        0 => Found::None,
        _ => Found::Several,
    };
    faults.add(entry.at, &*entry.place, Problem::ExactlyOne { keys, found });
}

/// The methods of an entry; each list of a table has its own.
fn methods(written: &written::Route, target: &Target) -> Methods {
    if target.is_websocket {
        return Methods::GET;
    }
    let Some(listed) = &written.methods else { return Methods::ALL };
    listed.value.iter().map(|method| method.set()).fold(Methods::NONE, Methods::or)
}

fn hosts(faults: &mut Faults, entry: &Entry<'_>) -> Vec<Box<str>> {
    let Some(written) = &entry.written.hosts else { return Vec::new() };
    if written.value.is_empty() {
        faults.add(written.referenced, entry.key("hosts"), Problem::Empty);
    }
    let mut hosts: Vec<Box<str>> = Vec::new();
    for (i, host) in written.value.iter().enumerate() {
        let name = host.value.to_ascii_lowercase();
        let bad = || Problem::BadHost(host.value.as_str().into(), HostForm::NameOnly);
        let checked = if is_host(&name) { Ok(name) } else { Err(bad()) };
        let name = faults.keep(host.referenced, format!("{}.hosts[{i}]", entry.place), checked);
        hosts.extend(name.map(Into::into).filter(|name| !hosts.contains(name)));
    }
    hosts
}

fn mount<'a>(faults: &mut Faults, entry: &Entry<'a>) -> &'a str {
    let Some(at) = &entry.written.at else { return "" };
    faults.keep(at.referenced, entry.key("at"), pattern::mount(&at.value));
    &at.value
}

fn idle_timeout(faults: &mut Faults, entry: &Entry<'_>) -> Duration {
    let Some(timeout) = &entry.written.idle_timeout else { return IDLE_TIMEOUT };
    if timeout.value.0 < MIN_IDLE_TIMEOUT {
        faults.add(timeout.referenced, entry.key("idle_timeout"), Problem::ShortIdle);
    }
    timeout.value.0
}

/// Refuses keys that would have no effect: somebody counts on them.
fn check_keys(faults: &mut Faults, entry: &Entry<'_>, is_websocket: bool, streams: bool) {
    fn at<T>(value: &Option<Spanned<T>>) -> Option<Location> {
        value.as_ref().map(|value| value.referenced)
    }
    let written = entry.written;
    let names = streams && written.prefix.is_some();
    let keys = [
        ("stream", at(&written.stream), is_websocket.then_some(Beside::Websocket)),
        ("max_body", at(&written.max_body), is_websocket.then_some(Beside::Websocket)),
        ("methods", at(&written.methods), is_websocket.then_some(Beside::Websocket)),
        ("methods", at(&written.methods), written.table.is_some().then_some(Beside::Table)),
        ("bind", at(&written.bind), written.table.is_some().then_some(Beside::Table)),
        ("bind", at(&written.bind), is_websocket.then_some(Beside::Websocket)),
        ("replay_safe", at(&written.replay_safe), is_websocket.then_some(Beside::Websocket)),
        ("replay_safe", at(&written.replay_safe), streams.then_some(Beside::Stream)),
        ("object_names", at(&written.object_names), (!names).then_some(Beside::NoObjects)),
        ("idle_timeout", at(&written.idle_timeout), (!is_websocket).then_some(Beside::Request)),
    ];
    for (key, at, beside) in keys {
        if let (Some(at), Some(beside)) = (at, beside) {
            faults.add(at, entry.key(key), Problem::Meaningless { key, beside });
        }
    }
    if let Some(methods) = written.methods.as_ref().filter(|methods| methods.value.is_empty()) {
        faults.add(methods.referenced, entry.key("methods"), Problem::Empty);
    }
}

/// Refuses a rule of a path that its table's route states, too: one of them would be lost, and with it
/// what it keeps out.
fn once(faults: &mut Faults, at: Location, place: &str, key: &'static str, stated: bool) {
    if stated {
        faults.add(at, place, Problem::StatedTwice(key));
    }
}

/// What one path of a table has of its own.
fn special(faults: &mut Faults, options: &table::Options, place: &str, route: &mut Route) {
    if let Some(Spanned { value: Timeout(timeout), .. }) = options.timeout {
        route.timeout = timeout;
    }
    route.line = options.line;
    route.rules.bind.clone_from(&options.bind);
    if let Some(roles) = &options.roles {
        once(faults, roles.referenced, place, "roles", route.rules.roles.is_some());
        route.rules.roles = Some(roles.value.clone());
    }
    if let Some(platforms) = &options.platforms {
        once(faults, platforms.referenced, place, "platforms", route.rules.platforms.is_some());
        route.rules.platforms = Some(platforms.value);
    }
    let Some(size) = &options.max_body else { return };
    match &mut route.mode {
        Mode::Exchange { max_body, .. } => {
            *max_body = bounded(faults, Some(size), place, MAX_BODY).unwrap_or(*max_body);
        }
        Mode::Stream { max_body, .. } => {
            let Size(bytes) = size.value;
            *max_body = Some(bytes);
        }
        Mode::Tunnel { .. } => {
            let problem = Problem::Meaningless { key: "max_body", beside: Beside::Websocket };
            faults.add(size.referenced, place, problem);
        }
    }
}

fn warn_unused(faults: &mut Faults, routes: &[Spanned<written::Route>], names: Names<'_>) {
    let targets = |route: &'_ written::Route| {
        [&route.upstream, &route.websocket].map(|name| name.as_ref().map(|name| name.value.clone()))
    };
    let upstreams: HashSet<String> =
        routes.iter().flat_map(|route| targets(&route.value)).flatten().collect();
    let chains: HashSet<&str> =
        routes.iter().filter_map(|route| route.value.chain.as_ref()).map(|name| &*name.value).collect();
    for upstream in names.upstreams.iter().filter(|upstream| !upstreams.contains(&*upstream.name)) {
        warn(faults, &upstream.mark, "upstreams", Problem::UnusedUpstream((&*upstream.name).into()));
    }
    for chain in names.chains.iter().filter(|chain| !chains.contains(&*chain.name)) {
        warn(faults, &chain.mark, "chains", Problem::UnusedChain((&*chain.name).into()));
    }
}

fn warn(faults: &mut Faults, mark: &Mark, place: &str, problem: Problem) {
    faults.warnings.push(crate::config::error::Fault::new(mark.clone(), place, problem));
}
