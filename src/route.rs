//! From listener, host, method and path to a route: pure, no I/O, and no slower with more routes.
//!
//! A listener has the routes that name it and those that name none. Paths are compared byte by byte as
//! sent, in their case. Routes tied to a host come before those that are not, an exact path before a prefix, a longer prefix before a shorter one. The most specific path
//! alone decides: if its routes do not take the method, nothing more general is asked.
//! [`check_path`] refuses paths that another hop could read differently.

mod object;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::Method;
pub use imgate_filters::path::{PathFault, check_path};

type Map<V> = HashMap<Box<str>, V, RandomState>;

/// The longest host name, in bytes. Source: RFC 1035 section 2.3.4.
const MAX_HOST: usize = 253;

/// A set of methods, out of those that a route can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods(u8);

impl Methods {
    const NAMES: [&'static str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

    /// No method.
    pub const NONE: Self = Self(0);
    /// `GET` alone.
    pub const GET: Self = Self(1);
    /// `POST` alone.
    pub const POST: Self = Self(1 << 2);
    /// Every method that a route can take.
    pub const ALL: Self = Self((1 << 6) - 1);

    /// The set of one method; empty for a method that no route takes.
    pub fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::GET,
            Method::HEAD => Self(1 << 1),
            Method::POST => Self::POST,
            Method::PUT => Self(1 << 3),
            Method::PATCH => Self(1 << 4),
            Method::DELETE => Self(1 << 5),
            _ => Self::NONE,
        }
    }

    /// Reads the name of a method, in upper case; `None` for one that no route takes.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|i| Self(1 << i))
    }

    /// The methods of either set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The methods of both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Lists them as an `Allow` header does.
impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = Self::NAMES.iter().enumerate().filter(|(i, _)| self.0 & (1 << i) != 0);
        for (n, (_, name)) in listed.enumerate() {
            if n > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl From<Methods> for Box<str> {
    fn from(methods: Methods) -> Self {
        methods.to_string().into()
    }
}

/// What paths a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This path.
    Exact(Box<str>),
    /// This path, which ends in `/`, and all below it.
    Prefix(Box<str>),
}

impl Pattern {
    /// The path as written.
    pub fn path(&self) -> &str {
        match self {
            Self::Exact(path) | Self::Prefix(path) => path,
        }
    }
}

/// A prefix is shown with a star behind it.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// What [`Table::find`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a, T> {
    /// The route.
    Route(&'a T),
    /// The path is known, the method is not; these are.
    MethodNotAllowed(Methods),
    /// Nothing.
    None,
}

/// Two routes that would take the same requests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{methods} {pattern} is taken already")]
pub struct Clash<T: fmt::Debug> {
    /// The route that was there first.
    pub earlier: T,
    /// What both take.
    pub pattern: Pattern,
    /// The methods that both take.
    pub methods: Methods,
    /// The host that both take; `None` for routes without a host.
    pub host: Option<Box<str>>,
    /// The listener that both are on; `None` if they are on all of them.
    pub listener: Option<Box<str>>,
}

/// Routes, arranged so that finding one costs the same however many there are.
#[derive(Clone, Debug)]
pub struct Table<T> {
    routes: Box<[T]>,
    /// What is on every listener.
    common: Hosts,
    /// What is on the listeners that routes name, with what is on every one. There are few.
    named: Box<[(Arc<str>, Hosts)]>,
}

/// The routes of one listener.
#[derive(Clone, Debug, Default)]
struct Hosts {
    tied: Map<Paths>,
    any: Paths,
}

impl Hosts {
    fn find(&self, host: &str, path: &str) -> Option<&Entry> {
        let tied = self.of_host(host).and_then(|paths| paths.find(path));
        tied.or_else(|| self.any.find(path))
    }

    fn of_host(&self, host: &str) -> Option<&Paths> {
        if self.tied.is_empty() {
            return None;
        }
        let name = host_name(host);
        let mut lower = [0; MAX_HOST];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        self.tied.get(std::str::from_utf8(lower).ok()?)
    }

    /// What takes a pattern already, and for which of the hosts.
    fn taken<'h>(
        &mut self,
        hosts: &[Option<&'h str>],
        methods: Methods,
        pattern: &Pattern,
    ) -> Option<(Slot, Option<&'h str>)> {
        hosts.iter().find_map(|host| Some((self.paths(*host).entry(pattern)?.taking(methods)?, *host)))
    }

    /// The routes tied to a host, or to none.
    fn paths(&mut self, host: Option<&str>) -> &mut Paths {
        match host {
            None => &mut self.any,
            Some(host) => self.tied.entry(host.into()).or_default(),
        }
    }
}

/// The routes of one host.
#[derive(Clone, Debug, Default)]
struct Paths {
    exact: Map<Entry>,
    prefixes: Node,
}

/// A prefix and those below it, by their next segment. Only segments that some prefix has are looked
/// up, so neither more prefixes nor longer paths cost more.
#[derive(Clone, Debug, Default)]
struct Node {
    entry: Option<Entry>,
    below: Map<Node>,
}

impl Node {
    /// The entry of the longest prefix that the path begins with.
    fn find(&self, path: &str) -> Option<&Entry> {
        let (mut node, mut rest) = (self, path.strip_prefix('/')?);
        let mut found = node.entry.as_ref();
        while let Some(slash) = memchr::memchr(b'/', rest.as_bytes()) {
            let Some(below) = node.below.get(&rest[..slash]) else { break };
            (node, rest) = (below, &rest[slash + 1..]);
            found = node.entry.as_ref().or(found);
        }
        found
    }

    /// The place of a prefix.
    fn place(&mut self, prefix: &str) -> &mut Option<Entry> {
        let mut node = self;
        for segment in prefix.split('/').filter(|segment| !segment.is_empty()) {
            node = node.below.entry(segment.into()).or_default();
        }
        &mut node.entry
    }
}

/// The routes of one pattern; there is hardly ever a second one.
#[derive(Clone, Debug)]
struct Entry {
    first: Slot,
    more: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    methods: Methods,
    route: u32,
}

impl Entry {
    fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }

    fn taking(&self, methods: Methods) -> Option<Slot> {
        self.slots().find(|slot| !slot.methods.and(methods).is_empty())
    }

    fn methods(&self) -> Methods {
        self.slots().fold(Methods::NONE, |all, slot| all.or(slot.methods))
    }
}

impl Paths {
    fn find(&self, path: &str) -> Option<&Entry> {
        self.exact.get(path).or_else(|| self.prefixes.find(path))
    }

    fn entry(&mut self, pattern: &Pattern) -> Option<&Entry> {
        match pattern {
            Pattern::Exact(path) => self.exact.get(path),
            Pattern::Prefix(path) => self.prefixes.place(path).as_ref(),
        }
    }

    fn add(&mut self, pattern: &Pattern, slot: Slot) {
        let fresh = Entry { first: slot, more: Vec::new() };
        let known = match pattern {
            Pattern::Exact(path) => self.exact.get_mut(path),
            Pattern::Prefix(path) => self.prefixes.place(path).as_mut(),
        };
        match (known, pattern) {
            (Some(entry), _) => entry.more.push(slot),
            (None, Pattern::Exact(path)) => drop(self.exact.insert(path.clone(), fresh)),
            (None, Pattern::Prefix(path)) => *self.prefixes.place(path) = Some(fresh),
        }
    }
}

impl<T> Table<T> {
    /// Starts a table.
    pub fn builder() -> TableBuilder<T> {
        TableBuilder { routes: Vec::new(), common: Hosts::default(), named: Vec::new() }
    }

    /// Finds the route of a request. `listener` is the name of the listener that it came to, if it has
    /// one, `host` the `Host` header as sent, `path` the path without its query.
    pub fn find(&self, listener: Option<&str>, host: &str, method: &Method, path: &str) -> Found<'_, T> {
        let Some(entry) = self.of_listener(listener).find(host, path) else { return Found::None };
        match entry.taking(Methods::of(method)) {
            Some(slot) => Found::Route(&self.routes[slot.route as usize]),
            None => Found::MethodNotAllowed(entry.methods()),
        }
    }

    /// Finds the route of a request whose path [`check_path`] refuses, if it is one that `takes` names of
    /// objects and the path leads to it in every reading.
    pub fn find_object(
        &self,
        listener: Option<&str>,
        host: &str,
        method: &Method,
        path: &str,
        takes: impl FnOnce(&T) -> bool,
    ) -> Option<&T> {
        let found = |path: &str| match self.find(listener, host, method, path) {
            Found::Route(route) => Some(route),
            Found::MethodNotAllowed(_) | Found::None => None,
        };
        let route = found(path).filter(|route| takes(route))?;
        let leads_there = |reading: &String| found(reading).is_some_and(|other| std::ptr::eq(other, route));
        object::readings(path)?.iter().all(leads_there).then_some(route)
    }

    fn of_listener(&self, listener: Option<&str>) -> &Hosts {
        let named = listener.and_then(|name| self.named.iter().find(|(known, _)| **known == *name));
        named.map_or(&self.common, |(_, hosts)| hosts)
    }

    /// All routes, in the order in which they were inserted.
    pub fn routes(&self) -> &[T] {
        &self.routes
    }

    /// Makes the same table with other payloads, each made once.
    ///
    /// # Errors
    /// The first error of `make`.
    pub fn try_map<U, E>(&self, make: impl FnMut(&T) -> Result<U, E>) -> Result<Table<U>, E> {
        let routes: Vec<U> = self.routes.iter().map(make).collect::<Result<_, E>>()?;
        Ok(Table { routes: routes.into(), common: self.common.clone(), named: self.named.clone() })
    }
}

/// A `Host` header without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// A [`Table`] in the making.
#[derive(Debug)]
pub struct TableBuilder<T> {
    routes: Vec<T>,
    common: Hosts,
    named: Vec<(Arc<str>, Hosts)>,
}

impl<T: Clone + fmt::Debug> TableBuilder<T> {
    /// Adds a route, on these listeners or, if there are none, on all; for these hosts or, if there are
    /// none, for any. Hosts are names in lower case.
    ///
    /// # Errors
    /// An earlier route has the same pattern, a listener, a host and a method in common with it; then
    /// nothing is added.
    pub fn insert(
        &mut self,
        listeners: &[Arc<str>],
        hosts: &[Box<str>],
        methods: Methods,
        pattern: &Pattern,
        route: T,
    ) -> Result<(), Clash<T>> {
        let hosts: Vec<Option<&str>> =
            if hosts.is_empty() { vec![None] } else { hosts.iter().map(|host| Some(&**host)).collect() };
        listeners.iter().for_each(|name| self.open(name));
        let Self { routes, common, named } = self;
        let on_all = listeners.is_empty();
        let named = named.iter_mut().filter(|(name, _)| on_all || listeners.contains(name));
        let named = named.map(|(name, on)| (Some(&**name), on));
        let mut meant: Vec<_> = on_all.then_some((None, common)).into_iter().chain(named).collect();
        for (listener, on) in &mut meant {
            if let Some((slot, host)) = on.taken(&hosts, methods, pattern) {
                return Err(Clash {
                    earlier: routes[slot.route as usize].clone(),
                    pattern: pattern.clone(),
                    methods: slot.methods.and(methods),
                    host: host.map(Into::into),
                    listener: listener.map(Into::into),
                });
            }
        }
        let slot = Slot { methods, route: u32::try_from(routes.len()).unwrap_or(u32::MAX) };
        for (_, on) in meant {
            hosts.iter().for_each(|host| on.paths(*host).add(pattern, slot));
        }
        routes.push(route);
        Ok(())
    }

    /// Gives a listener routes of its own, beginning with those on every one.
    fn open(&mut self, name: &Arc<str>) {
        if !self.named.iter().any(|(known, _)| known == name) {
            self.named.push((Arc::clone(name), self.common.clone()));
        }
    }

    /// Finishes the table.
    pub fn build(self) -> Table<T> {
        Table { routes: self.routes.into(), common: self.common, named: self.named.into() }
    }
}

#[cfg(test)]
mod tests;
