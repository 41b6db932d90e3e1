//! What tells one configuration from another, by name; and one hash for all of it.
//!
//! Values are never told: one of them might be a secret in a place where none belongs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::meaning::{Config, Route};

/// What a new configuration has that the old one had not, and the other way round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entries that were not there, as in `chains.user` or `routes: POST /x`.
    pub added: Vec<Box<str>>,
    /// Entries that are not there any more.
    pub removed: Vec<Box<str>>,
    /// Entries that say something else.
    pub changed: Vec<Box<str>>,
    /// Files that hold something else.
    pub files: Vec<Box<Path>>,
}

impl Changes {
    /// What `new` changes of `old`. Both have been built, so that all their files are read.
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut changes = Self::default();
        changes.compare(&old.outline.entries().collect(), &new.outline.entries().collect(), u64::eq);
        changes.compare(&routes(old), &routes(new), |one, other| is_same(one, other));
        let (before, after) = (old.base.files(), new.base.files());
        let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        for path in paths {
            let same = match (before.get(path), after.get(path)) {
                (Some(one), Some(other)) => one.holds_what(other),
                _ => false,
            };
            changes.files.extend((!same).then(|| path.clone()));
        }
        changes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        let Self { added, removed, changed, files } = self;
        added.is_empty() && removed.is_empty() && changed.is_empty() && files.is_empty()
    }

    /// How many entries differ in each section: a key at the top of the file.
    pub fn by_section(&self) -> BTreeMap<&str, u64> {
        let mut sections = BTreeMap::new();
        for entry in self.added.iter().chain(&self.removed).chain(&self.changed) {
            let section = entry.split(['.', ':']).next().unwrap_or(entry);
            *sections.entry(section).or_insert(0) += 1;
        }
        sections
    }

    fn compare<T>(
        &mut self,
        old: &BTreeMap<Box<str>, T>,
        new: &BTreeMap<Box<str>, T>,
        same: impl Fn(&T, &T) -> bool,
    ) {
        self.removed.extend(old.keys().filter(|name| !new.contains_key(*name)).cloned());
        for (name, value) in new {
            match old.get(name) {
                None => self.added.push(name.clone()),
                Some(before) if !same(before, value) => self.changed.push(name.clone()),
                Some(_) => {}
            }
        }
    }
}

impl Config {
    /// A hash of all files that were read, for a fleet to compare. Secrets are left out: who may read a
    /// metric could try passwords against it.
    pub fn hash(&self) -> [u8; 32] {
        let mut all = Sha256::new();
        for (path, digest) in self.base.files().iter().filter_map(|(path, seen)| Some((path, seen.digest()?)))
        {
            // Each file is hashed on its own, so two cannot trade places unseen.
            all.update(Sha256::digest(path.as_os_str().as_encoded_bytes()));
            all.update(digest);
        }
        all.finalize().into()
    }
}

/// The routes by what they match.
fn routes(config: &Config) -> BTreeMap<Box<str>, &Route> {
    let named = |route: &Route| {
        let hosts = route.hosts.join(" ");
        let listeners: Vec<_> = route.listeners.iter().map(|name| format!(" on {name}")).collect();
        format!("routes: {} {hosts}{}{}", route.methods, route.pattern, listeners.concat()).into()
    };
    config.routes.routes().iter().map(|route| (named(route), &**route)).collect()
}

/// Whether both do the same. The fields are listed so that a new one cannot be forgotten here.
fn is_same(one: &Route, other: &Route) -> bool {
    fn says(route: &Route) -> impl PartialEq {
        let Route {
            name,
            listeners,
            hosts,
            methods,
            pattern,
            strip,
            upstream,
            chain,
            rules,
            table,
            line,
            public,
            mode,
            timeout,
            // Where it stands in its file is no part of what it does.
            mark: _,
            place: _,
            entry: _,
        } = route;
        let matches = (name, listeners, hosts, methods, pattern);
        (matches, strip, upstream, chain, rules, table, line, public, mode, timeout)
    }
    says(one) == says(other)
}
