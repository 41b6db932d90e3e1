//! From configured chains to chains that run, checked against the routes that name them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use imgate_filters::chain::{Chain, ChainError};
use imgate_filters::context::Fact;
use imgate_filters::rules::Bind;
use imgate_filters::{BodyUse, BuildError, Credentials, Deps, Filter, Registry, Rule};

use super::error::{ConfigError, Fault};
use super::meaning::{self, Config, Mode, Paths, Route};
use super::problem::Problem;
use super::suggest::Suggestion;
use crate::route::Pattern;

/// The chains that run, by name.
pub type Chains = HashMap<Arc<str>, Arc<Chain>>;

impl Config {
    /// Builds every chain and checks each route against its own.
    ///
    /// # Errors
    /// A filter cannot be built or is out of order; a route streams although its chain reads the body or
    /// sends a token of ours, or is not public although its chain proves nothing.
    pub fn build_chains(&self, deps: &Deps) -> Result<Chains, ConfigError> {
        let mut faults = Vec::new();
        let mut chains = Chains::new();
        for chain in &self.chains {
            match Chain::build(chain.steps.iter().map(|step| &step.step), deps) {
                Ok(built) => {
                    chains.insert(Arc::clone(&chain.name), Arc::new(built));
                }
                Err(error) => faults.push(chain_fault(chain, error, &deps.custom)),
            }
        }
        self.check_routes(&chains, &mut faults);
        if faults.is_empty() { Ok(chains) } else { Err(ConfigError::new(faults)) }
    }

    /// Checks each route's rules, and the rest for one route of each entry: the paths of a table have
    /// that in common.
    fn check_routes(&self, chains: &Chains, faults: &mut Vec<Fault>) {
        let (mut seen, none) = (HashSet::new(), Arc::default());
        for route in self.routes.routes() {
            let Some(chain) = route.chain.as_ref().map_or(Some(&none), |name| chains.get(name)) else {
                continue;
            };
            let of_route = |problem| Fault::new(route.mark.clone(), &*route.name, problem);
            faults.extend(rules(route, chain).or_else(|| unstripped(route, chain)).map(of_route));
            if route.chain.is_some() && seen.insert(&route.place) {
                let problems = [streamed(route, chain), unproven(route, chain)];
                let fault = |problem| Fault::new(route.entry.clone(), &*route.place, problem);
                faults.extend(problems.into_iter().flatten().map(fault));
            }
        }
    }
}

fn chain_fault(chain: &meaning::Chain, error: ChainError, registry: &Registry) -> Fault {
    let index = error.index();
    let name = &chain.name;
    let Some(step) = chain.steps.get(index) else {
        return Fault::new(chain.mark.clone(), format!("chains.{name}"), Problem::Chain(error));
    };
    let problem = match error {
        ChainError::Build { cause: BuildError::Unknown(unknown), .. } => {
            let near = Suggestion::new(&unknown, registry.names());
            return Fault::new(
                step.mark.clone(),
                format!("chains.{name}[{index}]"),
                Problem::NoFilter(unknown, near),
            );
        }
        error => Problem::Chain(error),
    };
    Fault::new(step.mark.clone(), format!("chains.{name}[{index}] ({})", step.step.filter.name()), problem)
}

/// The rules of a route that nobody enforces, and those that it should have stated.
fn rules(route: &Route, chain: &Chain) -> Option<Problem> {
    let unheard = route.rules.stated().find(|rule| chain.honours(*rule).is_none());
    let missing = Rule::ALL.into_iter().find_map(|rule| {
        let demanding = chain.demands(rule).filter(|_| !route.rules.state(rule))?;
        Some(Problem::UnstatedRule(rule, demanding.name))
    });
    unheard.map(Problem::UnheardRule).or(missing).or_else(|| unbound(route, chain))
}

/// A user acts with an admin's token, and the body may name anybody.
fn unbound(route: &Route, chain: &Chain) -> Option<Problem> {
    if !chain.lends_admins_power() {
        return None;
    }
    // OpenIM ignores fields that it does not know, so a field binds on the paths that read it and nowhere else.
    if matches!(route.pattern, Pattern::Prefix(_)) {
        return Some(Problem::AdminBelowPrefix);
    }
    let bound = route.rules.bind.as_ref().is_some_and(Bind::names_the_caller);
    (!bound).then_some(Problem::UnboundAdmin)
}

/// What cannot be done on a route that is not taken whole: reading the body first, or healing a refused
/// token and keeping its text from the client.
fn streamed(route: &Route, chain: &Chain) -> Option<Problem> {
    if matches!(route.mode, Mode::Exchange { .. }) {
        return None;
    }
    let find = |does: fn(&dyn Filter) -> bool| chain.filters().iter().find(|named| does(&*named.filter));
    let reader = find(|filter| filter.body() == BodyUse::Reads);
    let injector = find(|filter| filter.writes().contains(&Fact::Injected));
    let reads = reader.map(|named| Problem::StreamedBody(named.name));
    reads.or_else(|| injector.map(|named| Problem::StreamedToken(named.name)))
}

/// Credentials are for the gateway and OpenIM; the storage may be anybody's.
fn unstripped(route: &Route, chain: &Chain) -> Option<Problem> {
    let names = matches!(route.mode, Mode::Stream { paths: Paths::ObjectNames, .. });
    let strips = chain.filters().iter().any(|named| named.filter.credentials() == Credentials::Strips);
    (names && !strips).then_some(Problem::UnstrippedObjects)
}

fn unproven(route: &Route, chain: &Chain) -> Option<Problem> {
    match route.mode {
        // OpenIM authenticates sockets, but only by a query that can be read in one way.
        Mode::Tunnel { .. } => (!chain.writes(Fact::Socket)).then_some(Problem::UncheckedSocket),
        Mode::Exchange { .. } | Mode::Stream { .. } => {
            (!route.public && !chain.writes(Fact::Caller)).then_some(Problem::Unproven)
        }
    }
}
