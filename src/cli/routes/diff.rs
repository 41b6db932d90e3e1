//! `imgate routes diff`: what OpenIM's router registers, against what the tables know.
//!
//! New is what no table takes or leaves out, whether or not a prefix lets it through. A path that is gone
//! does no harm and is only told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use http::Method;

use super::gin::{Registered, Router, Unread};
use super::go::Place;
use crate::cli::{ConfigFile, Failure, say};
use crate::config::{Config, Line, Mode, Route};
use crate::route::{Methods, Pattern};

/// Compares a configuration with OpenIM's source.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    config: ConfigFile,
    /// OpenIM's router, `internal/api/router.go`; several files are read as one package
    #[arg(long, value_name = "FILE", required = true)]
    router: Vec<PathBuf>,
    /// The upstreams that are OpenIM's API; default: those that a table goes to
    #[arg(long, value_name = "NAME")]
    upstream: Vec<String>,
    /// The release line of the router; what only the other line has may then be missing
    #[arg(long, value_enum)]
    line: Option<LineName>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LineName {
    Development,
    Released,
}

impl From<LineName> for Line {
    fn from(name: LineName) -> Self {
        match name {
            LineName::Development => Self::Development,
            LineName::Released => Self::Released,
        }
    }
}

impl Diff {
    /// Prints what differs; the exit code is 1 if the tables do not know a route.
    ///
    /// # Errors
    /// The configuration is refused, a file cannot be read, or it registers nothing.
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let config = self.config.load()?;
        let router = self.read()?;
        let known = Known::of(&config, &self.upstreams(&config)?);
        let report = Report::new(&router, &known, self.line.map(Into::into));
        say(&report.text(&router, &known));
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    fn read(&self) -> Result<Router, Failure> {
        let texts: Vec<(&Path, String)> = self
            .router
            .iter()
            .map(|path| match std::fs::read_to_string(path) {
                Ok(text) => Ok((path.as_path(), text)),
                Err(error) => Err(Failure::file(path, &error)),
            })
            .collect::<Result<_, _>>()?;
        let files = texts.iter().map(|(path, text)| (*path, text.as_str()));
        let router = Router::read(files)
            .map_err(|(path, error)| Failure::usage(format!("{}: no Go source: {error}", path.display())))?;
        if router.routes.is_empty() && router.unread.is_empty() {
            return Err(Failure::usage(
                "nothing registers a route there\nhint: give OpenIM's internal/api/router.go",
            ));
        }
        Ok(router)
    }

    fn upstreams(&self, config: &Config) -> Result<Vec<Arc<str>>, Failure> {
        let names = || config.upstreams.iter().map(|upstream| &upstream.name);
        if let Some(unknown) = self.upstream.iter().find(|name| !names().any(|known| ***name == **known)) {
            return Err(Failure::usage(format!("no upstream named `{unknown}`")));
        }
        let of_tables = |name: &str| {
            config.routes.routes().iter().any(|route| route.table.is_some() && *route.upstream == *name)
                || config.closed.iter().any(|closed| *closed.upstream == *name)
        };
        let is_meant = |name: &str| {
            if self.upstream.is_empty() {
                of_tables(name)
            } else {
                self.upstream.iter().any(|one| one == name)
            }
        };
        let meant: Vec<Arc<str>> = names().filter(|name| is_meant(name)).cloned().collect();
        if meant.is_empty() {
            return Err(Failure::usage("no table is mounted\nhint: name OpenIM's API with --upstream"));
        }
        Ok(meant)
    }
}

/// What a configuration knows of the paths of some upstreams, by the path as they know it.
struct Known {
    /// Paths that are routed.
    open: BTreeMap<Box<str>, Vec<Stands>>,
    /// Paths that tables leave out.
    closed: BTreeMap<Box<str>, Vec<Stands>>,
    /// Prefixes that are routed.
    prefixes: Vec<(Box<str>, Stands)>,
    /// How many tables speak of them.
    tables: usize,
}

/// Where the configuration speaks of a path, and what it says.
#[derive(Clone)]
struct Stands {
    methods: Methods,
    line: Option<Line>,
    place: String,
    is_closed: bool,
}

impl Known {
    fn of(config: &Config, upstreams: &[Arc<str>]) -> Self {
        let (mut open, mut closed) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        let mut prefixes = Vec::new();
        let is_request = |route: &&Arc<Route>| {
            upstreams.contains(&route.upstream) && !matches!(route.mode, Mode::Tunnel { .. })
        };
        for route in config.routes.routes().iter().filter(is_request) {
            let (methods, line, place) = (route.methods, route.line, route.mark.to_string());
            let stands = Stands { methods, line, place, is_closed: false };
            let path = route.pattern.path().get(route.strip..).unwrap_or_default();
            match route.pattern {
                Pattern::Exact(_) => open.entry(path.into()).or_default().push(stands),
                Pattern::Prefix(_) => prefixes.push((path.into(), stands)),
            }
        }
        for path in config.closed.iter().filter(|path| upstreams.contains(&path.upstream)) {
            let (methods, line, place) = (Methods::ALL, path.line, path.mark.to_string());
            let stands = Stands { methods, line, place, is_closed: true };
            closed.entry(path.path.clone()).or_default().push(stands);
        }
        let listed = config.routes.routes().iter().filter(|route| route.table.is_some());
        let listed = listed.map(|route| (&route.upstream, &route.place));
        let left_out = config.closed.iter().map(|closed| (&closed.upstream, &closed.place));
        let tables: BTreeSet<_> =
            listed.chain(left_out).filter(|(name, _)| upstreams.contains(name)).collect();
        Self { open, closed, prefixes, tables: tables.len() }
    }

    /// What is said of a route.
    fn verdict(&self, route: &Registered) -> Verdict<'_> {
        let method = method(&route.method);
        let takes = |stands: &&Stands| method == Methods::NONE || stands.methods.and(method) == method;
        if self.closed.contains_key(&*route.path) {
            return Verdict::Known;
        }
        match self.open.get(&*route.path) {
            Some(open) if open.iter().any(|stands| takes(&stands)) => return Verdict::Known,
            Some(open) => return Verdict::OtherMethod(open),
            None => {}
        }
        // gin's `/object/*name` is our `/object/`.
        let wild = route.path.rsplit_once('*').map(|(prefix, _)| prefix);
        let under = self.prefixes.iter().filter(|(prefix, stands)| {
            route.path.starts_with(&**prefix) && !stands.methods.and(method).is_empty()
        });
        match under.max_by_key(|(prefix, _)| prefix.len()) {
            Some((prefix, stands)) if wild == Some(&**prefix) && takes(&stands) => Verdict::Known,
            Some((_, stands)) => Verdict::LetThrough(stands),
            None => Verdict::New,
        }
    }
}

/// What the tables say of a route of OpenIM's.
enum Verdict<'a> {
    Known,
    New,
    /// New, and a prefix lets it through.
    LetThrough(&'a Stands),
    OtherMethod(&'a [Stands]),
}

/// The methods that a name of gin's stands for.
fn method(name: &str) -> Methods {
    if name == "ANY" {
        return Methods::ALL;
    }
    name.parse::<Method>().map_or(Methods::NONE, |method| Methods::of(&method))
}

/// What differs, each a line of text.
#[derive(Default)]
struct Report {
    fresh: Vec<String>,
    methods: Vec<String>,
    unread: Vec<String>,
    gone: Vec<String>,
    other_line: Vec<String>,
    unexpected: Vec<String>,
}

impl Report {
    fn new(router: &Router, known: &Known, line: Option<Line>) -> Self {
        let mut report = Self::default();
        for route in &router.routes {
            report.add(route, &known.verdict(route));
        }
        report.unread = router.unread.iter().map(unread).collect();
        for (path, stands) in known.open.iter().chain(&known.closed) {
            let has = router.routes.iter().any(|route| *route.path == **path);
            for stands in stands {
                report.look_back(path, stands, has, line);
            }
        }
        // A table may be mounted twice.
        for lines in [&mut report.gone, &mut report.other_line, &mut report.unexpected] {
            lines.sort_unstable();
            lines.dedup();
        }
        report
    }

    fn add(&mut self, route: &Registered, verdict: &Verdict<'_>) {
        let what = format!("{:<4} {:<48} {}", route.method, route.path, at(&route.place));
        match verdict {
            Verdict::Known => {}
            Verdict::New => self.fresh.push(what),
            Verdict::LetThrough(stands) => {
                self.fresh.push(format!("{what}  let through by the prefix at {}", stands.place));
            }
            Verdict::OtherMethod(open) => {
                let ours: Vec<String> =
                    open.iter().map(|stands| format!("{} at {}", stands.methods, stands.place)).collect();
                self.methods.push(format!("{what}  here {}", ours.join(", ")));
            }
        }
    }

    /// Looks whether the router has what the tables speak of, on the line that they say.
    fn look_back(&mut self, path: &str, stands: &Stands, has: bool, line: Option<Line>) {
        let closed = if stands.is_closed { "  left out" } else { "" };
        let what = format!("{path:<53} {}{closed}", stands.place);
        match (has, stands.line, line) {
            (true, Some(only), Some(line)) if only != line => {
                self.unexpected.push(format!("{what}  said to be of the {only} line"));
            }
            (true, ..) => {}
            (false, Some(only), line) if line != Some(only) => {
                self.other_line.push(format!("{what}  of the {only} line"));
            }
            (false, ..) => self.gone.push(what),
        }
    }

    fn is_clean(&self) -> bool {
        [&self.fresh, &self.methods, &self.unread].iter().all(|lines| lines.is_empty())
    }

    fn text(&self, router: &Router, known: &Known) -> String {
        let parts = [
            ("new: OpenIM has it, no table takes it or leaves it out", &self.fresh),
            ("method changed", &self.methods),
            ("not understood: it may register routes", &self.unread),
            ("gone: a table has it, OpenIM has not", &self.gone),
            ("gone, as the tables say", &self.other_line),
            ("there, though the tables say otherwise", &self.unexpected),
        ];
        let mut lines = Vec::new();
        for (title, part) in parts.iter().filter(|(_, part)| !part.is_empty()) {
            lines.push(format!("{title} ({})", part.len()));
            lines.extend(part.iter().map(|line| format!("  {line}")));
            lines.push(String::new());
        }
        let verdict = if self.is_clean() { "every route is known" } else { "some routes are not known" };
        let tables = if known.tables == 1 { "table" } else { "tables" };
        lines.push(format!("{} routes against {} {tables}: {verdict}", router.routes.len(), known.tables));
        lines.join("\n")
    }
}

fn unread(unread: &Unread) -> String {
    format!("{:<53} {}  {}", unread.what, at(&unread.place), unread.why)
}

fn at(place: &Place) -> String {
    format!("{}:{}", place.file.display(), place.line)
}
