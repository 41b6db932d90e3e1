//! `imgate routes list`: every route of a configuration, for people or for machines.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use http::Method;
use imgate_filters::rules::{Bind, FieldPath, Roles};
use serde::Serialize;

use crate::cli::explain::access;
use crate::cli::{ConfigFile, Failure, runtime, say};
use crate::config::{Closed, Config, Mode, Route};
use crate::gateway::{self, Shared, Snapshot};
use crate::metrics::Metrics;
use crate::route::Found;

/// Lists every route of a configuration.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    config: ConfigFile,
    /// Only what this host reaches
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// List what the tables leave out on purpose, and why
    #[arg(long)]
    closed: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// For whom it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For machines
    Json,
}

impl List {
    /// Prints the list.
    ///
    /// # Errors
    /// The configuration is refused.
    pub(super) fn run(&self, shared: &Shared) -> Result<(), Failure> {
        let config = self.config.load()?;
        // Chains are built as a start would build them: a list of what cannot start would be a lie.
        let snapshot = runtime(1)?.block_on(async {
            let metrics = Metrics::new().map_err(Failure::unavailable)?;
            Snapshot::build(&config, shared, &metrics, None).map_err(Failure::config)
        })?;
        say(&match (self.closed, self.format) {
            (true, Format::Text) => self.closed_text(&config),
            (true, Format::Json) => json(&self.closed(&config).map(ClosedLine::new).collect::<Vec<_>>()),
            (false, Format::Text) => self.text(&config, &snapshot),
            (false, Format::Json) => {
                json(&self.routes(&config, &snapshot).map(RouteLine::new).collect::<Vec<_>>())
            }
        });
        Ok(())
    }

    fn routes<'a>(&'a self, config: &'a Config, snapshot: &'a Snapshot) -> impl Iterator<Item = Both<'a>> {
        let both = config.routes.routes().iter().zip(snapshot.table.routes());
        both.filter(|(route, _)| self.host.as_ref().is_none_or(|host| is_reached(config, host, route)))
            .map(|(written, built)| Both { written, built })
    }

    fn closed<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = &'a Closed> {
        let has = |hosts: &[Box<str>], host: &str| {
            hosts.is_empty() || hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
        };
        let host = self.host.as_deref();
        config.closed.iter().filter(move |closed| host.is_none_or(|host| has(&closed.hosts, host)))
    }

    fn text(&self, config: &Config, snapshot: &Snapshot) -> String {
        let (mut lines, mut last, mut count) = (Vec::new(), None, 0);
        for both in self.routes(config, snapshot) {
            if last.replace(&both.written.place) != Some(&both.written.place) {
                lines.push(format!("\n{}", heading(both)));
            }
            lines.push(row(both, config));
            count += 1;
        }
        let closed = self.closed(config).count();
        let hint = if closed > 0 { " (see --closed)" } else { "" };
        lines.push(format!("\n{count} routes; {closed} paths are left out on purpose{hint}"));
        lines.join("\n").trim_start().to_owned()
    }

    fn closed_text(&self, config: &Config) -> String {
        let (mut lines, mut last) = (Vec::new(), None);
        for closed in self.closed(config) {
            if last.replace(&closed.place) != Some(&closed.place) {
                lines.push(format!("\n{}  table {}", closed.place, closed.table.display()));
            }
            let line = closed.line.map_or_else(String::new, |line| format!(" ({line} line only)"));
            lines.push(format!("  {:<52} {}{line}", closed.public, closed.why));
        }
        if lines.is_empty() {
            return "no table leaves anything out".to_owned();
        }
        lines.join("\n").trim_start().to_owned()
    }
}

/// A route as it was configured, and as it serves.
#[derive(Clone, Copy)]
struct Both<'a> {
    written: &'a Route,
    built: &'a gateway::Route,
}

/// Whether a request for this host can come to the route; another may stand before it.
fn is_reached(config: &Config, host: &str, route: &Arc<Route>) -> bool {
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let is_found = |listener: Option<&str>, method| {
        matches!(config.routes.find(listener, host, method, route.pattern.path()),
            Found::Route(found) if Arc::ptr_eq(found, route))
    };
    let mut listeners = config.listeners.iter().map(|listener| listener.name.as_deref());
    listeners.any(|listener| methods.iter().any(|method| is_found(listener, method)))
}

fn heading(Both { written, built }: Both<'_>) -> String {
    let table = written.table.as_ref().map_or_else(String::new, |file| format!("table {}, ", file.display()));
    let chain =
        built.chain_name.as_deref().map_or_else(|| "no chain".to_owned(), |name| format!("chain {name}"));
    let hosts =
        if written.hosts.is_empty() { String::new() } else { format!(", on {}", written.hosts.join(", ")) };
    let listeners = match &*written.listeners {
        [] => String::new(),
        [one] => format!(", listener {one}"),
        several => format!(", listeners {}", several.join(", ")),
    };
    format!("{}  {table}{chain}, to {}{hosts}{listeners}: {}", written.place, written.upstream, access(built))
}

fn row(Both { written, .. }: Both<'_>, config: &Config) -> String {
    let (mut notes, rules) = (Vec::new(), written.rules.to_string());
    if !rules.is_empty() {
        notes.push(rules);
    }
    match written.mode {
        Mode::Exchange { max_body, .. } if max_body != config.limits.body => {
            notes.push(format!("body at most {max_body} bytes"));
        }
        Mode::Exchange { .. } => {}
        Mode::Stream { .. } => notes.push("stream".to_owned()),
        Mode::Tunnel { .. } => notes.push("WebSocket".to_owned()),
    }
    if written.timeout != config.limits.request_timeout {
        notes.push(format!("timeout {} ms", written.timeout.as_millis()));
    }
    if let Some(line) = written.line {
        notes.push(format!("{line} line only"));
    }
    let methods = written.methods.to_string().replace(", ", "|");
    format!("  {methods:<4} {:<52} {}", written.name, notes.join("; ")).trim_end().to_owned()
}

fn json<T: Serialize>(lines: &[T]) -> String {
    // Texts, numbers and lists of them always serialise.
    serde_json::to_string_pretty(lines).unwrap_or_default()
}

/// A route for machines.
#[derive(Serialize)]
struct RouteLine<'a> {
    methods: Vec<String>,
    path: &'a str,
    upstream: &'a str,
    upstream_path: String,
    hosts: &'a [Box<str>],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listeners: Vec<&'a str>,
    access: &'static str,
    chain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind: Option<BindLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platforms: Option<String>,
    way: &'static str,
    max_body: Option<u64>,
    timeout_ms: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<String>,
    place: &'a str,
    source: String,
}

impl<'a> RouteLine<'a> {
    fn new(Both { written, built }: Both<'a>) -> Self {
        let (way, max_body) = match written.mode {
            Mode::Exchange { max_body, .. } => ("exchange", u64::try_from(max_body).ok()),
            Mode::Stream { max_body, .. } => ("stream", max_body),
            Mode::Tunnel { .. } => ("websocket", None),
        };
        Self {
            methods: written.methods.to_string().split(", ").map(str::to_owned).collect(),
            path: &written.name,
            upstream: &written.upstream,
            upstream_path: written.name.get(written.strip..).unwrap_or_default().to_owned(),
            hosts: &written.hosts,
            listeners: written.listeners.iter().map(|name| &**name).collect(),
            access: access(built),
            chain: built.chain_name.as_deref(),
            bind: written.rules.bind.as_ref().map(BindLine::new),
            roles: written.rules.roles.as_ref().map(|roles| match roles {
                Roles::Any => vec!["any"],
                Roles::OneOf(roles) => roles.iter().map(|role| &**role).collect(),
            }),
            platforms: written.rules.platforms.map(|platforms| platforms.to_string()),
            way,
            max_body,
            timeout_ms: written.timeout.as_millis(),
            line: written.line.map(|line| line.to_string()),
            place: &written.place,
            source: written.mark.to_string(),
        }
    }
}

/// What a route binds; all lists empty for `bind: none`.
#[derive(Serialize)]
struct BindLine<'a> {
    check: &'a [FieldPath],
    optional: &'a [FieldPath],
    each: &'a [FieldPath],
    any: &'a [FieldPath],
    force: &'a [FieldPath],
    empty: &'a [FieldPath],
}

impl<'a> BindLine<'a> {
    fn new(bind: &'a Bind) -> Self {
        let Bind { check, optional, each, any, force, empty } = bind;
        Self { check, optional, each, any, force, empty }
    }
}

/// A path that is left out, for machines.
#[derive(Serialize)]
struct ClosedLine<'a> {
    path: &'a str,
    upstream: &'a str,
    upstream_path: &'a str,
    why: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<String>,
    place: &'a str,
    source: String,
}

impl<'a> ClosedLine<'a> {
    fn new(closed: &'a Closed) -> Self {
        Self {
            path: &closed.public,
            upstream: &closed.upstream,
            upstream_path: &closed.path,
            why: &closed.why,
            line: closed.line.map(|line| line.to_string()),
            place: &closed.place,
            source: closed.mark.to_string(),
        }
    }
}
