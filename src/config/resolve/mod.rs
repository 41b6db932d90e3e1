//! From what was written to what it means, collecting every fault on the way.

mod edge;
mod identity;
mod listeners;
mod pattern;
mod routes;
mod store;
mod upstreams;

use std::sync::Arc;

use imgate_filters::folder::Folder;
use imgate_filters::reject::Answers;
use serde_saphyr::Location;

use super::error::{ConfigError, Fault};
use super::meaning::{Chain, Config, Step};
use super::named::Named;
use super::outline::Outline;
use super::problem::Problem;
use super::source::{Mark, Source};
use super::spanned::Spanned;
use super::{written, yaml};

/// The faults found so far in one file.
struct Faults {
    source: Arc<Source>,
    list: Vec<Fault>,
    warnings: Vec<Fault>,
}

impl Faults {
    fn new(source: &Arc<Source>) -> Self {
        Self { source: Arc::clone(source), list: Vec::new(), warnings: Vec::new() }
    }

    fn mark(&self, at: Location) -> Mark {
        Mark::at(&self.source, at)
    }

    fn add(&mut self, at: Location, place: impl Into<Box<str>>, problem: Problem) {
        let fault = Fault::new(self.mark(at), place, problem);
        self.list.push(fault);
    }

    fn warn(&mut self, at: Location, place: impl Into<Box<str>>, problem: Problem) {
        let fault = Fault::new(self.mark(at), place, problem);
        self.warnings.push(fault);
    }

    /// Keeps a value, or the fault that there is none.
    fn keep<T>(&mut self, at: Location, place: impl Into<Box<str>>, value: Result<T, Problem>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(problem) => {
                self.add(at, place, problem);
                None
            }
        }
    }
}

/// Reads and understands a file whose relative names are sought in `base`.
pub(super) fn resolve(source: &Arc<Source>, base: &Folder) -> Result<Config, ConfigError> {
    let written: written::Config = yaml::parse(source)?;
    let mut faults = Faults::new(source);

    let (listeners, admin) =
        listeners::resolve(&mut faults, &written.listeners, written.admin.as_ref(), base);
    let listener_names = listeners::names(&mut faults, &written.listeners.value);
    let public_url = edge::public_url(&mut faults, &written.public_url);
    let hosts = edge::hosts(&mut faults, written.hosts.as_ref(), public_url.as_ref());
    let threads = edge::threads(&mut faults, written.threads.as_ref());
    let limits = edge::limits(&mut faults, &written.limits);
    let trusted_proxies = edge::trusted_proxies(&mut faults, written.trusted_proxies.as_ref(), base);
    let cors = edge::cors(&mut faults, written.cors.as_ref());
    let identity = identity::resolve(&mut faults, &written.identity, base);
    let upstreams = upstreams::resolve(&mut faults, &written.upstreams, base);
    let chains = chains(&mut faults, written.chains);
    let answers = answers(&mut faults, &written.errors);
    let names = routes::Names { upstreams: &upstreams, chains: &chains, listeners: &listener_names };
    let (routes, closed) = routes::resolve(&mut faults, &written.routes, names, &limits, base);

    let (Some(public_url), Some(identity), Some(cors)) = (public_url, identity, cors) else {
        return Err(ConfigError::new(faults.list));
    };
    if !faults.list.is_empty() {
        return Err(ConfigError::new(faults.list));
    }
    Ok(Config {
        listeners,
        admin,
        public_url,
        hosts,
        threads,
        limits,
        trusted_proxies,
        cors,
        access_log: edge::access_log(written.access_log, base),
        identity,
        upstreams,
        chains,
        answers,
        routes,
        closed,
        base: base.clone(),
        watch: written.watch,
        outline: Outline::of(source),
        warnings: faults.warnings,
    })
}

fn chains(faults: &mut Faults, written: Named<String, Vec<Spanned<imgate_filters::Step>>>) -> Vec<Chain> {
    let mut chains = Vec::new();
    for (name, filters) in written.0 {
        check_name(faults, &name, "chains");
        let step = |step: Spanned<_>| Step { mark: faults.mark(step.referenced), step: step.value };
        let steps: Vec<Step> = filters.into_iter().map(step).collect();
        warn_of(faults, &name.value, &steps);
        chains.push(Chain { mark: faults.mark(name.referenced), name: name.value.into(), steps });
    }
    chains
}

fn warn_of(faults: &mut Faults, chain: &str, steps: &[Step]) {
    for (index, Step { mark, step }) in steps.iter().enumerate() {
        if let Some(warning) = step.filter.warning() {
            let place = format!("chains.{chain}[{index}] ({})", step.filter.name());
            faults.warnings.push(Fault::new(mark.clone(), place, Problem::Filter(warning)));
        }
    }
}

fn answers(faults: &mut Faults, written: &Named<imgate_filters::Cause, Spanned<written::Answer>>) -> Answers {
    let mut answers = Answers::default();
    for (cause, answer) in &written.0 {
        let cause = cause.value;
        let (status, err_code) = (answer.value.status, answer.value.err_code);
        let set = answers.set(cause, status, err_code).map_err(Problem::Answer);
        faults.keep(answer.referenced, format!("errors.{cause}"), set);
    }
    answers
}

/// Names stand in logs and as labels of metrics, so they are plain.
fn check_name(faults: &mut Faults, name: &Spanned<String>, noun: &str) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if name.value.is_empty() || !name.value.bytes().all(plain) {
        faults.add(name.referenced, noun, Problem::BadName(name.value.as_str().into()));
    }
}
