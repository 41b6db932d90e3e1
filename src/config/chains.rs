//! From configured chains to chains that run, checked against the routes that name them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use imgate_filters::chain::{Chain, ChainError};
use imgate_filters::context::Fact;
use imgate_filters::{BodyUse, Deps};

use super::error::{ConfigError, Fault};
use super::meaning::{self, Config, Mode, Route};
use super::problem::Problem;

/// The chains that run, by name.
pub type Chains = HashMap<Arc<str>, Arc<Chain>>;

impl Config {
    /// Builds every chain and checks each route against its own.
    ///
    /// # Errors
    /// A filter cannot be built or is out of order; a route streams although its chain reads the body,
    /// or is not public although its chain proves nothing.
    pub fn build_chains(&self, deps: &Deps) -> Result<Chains, ConfigError> {
        let mut faults = Vec::new();
        let mut chains = Chains::new();
        for chain in &self.chains {
            match Chain::build(chain.steps.iter().map(|step| &step.filter), deps) {
                Ok(built) => {
                    chains.insert(Arc::clone(&chain.name), Arc::new(built));
                }
                Err(error) => faults.push(chain_fault(chain, error)),
            }
        }
        self.check_routes(&chains, &mut faults);
        if faults.is_empty() { Ok(chains) } else { Err(ConfigError::new(faults)) }
    }

    /// Checks one route of each entry: the paths of a table have all else in common.
    fn check_routes(&self, chains: &Chains, faults: &mut Vec<Fault>) {
        let mut seen = HashSet::new();
        for route in self.routes.routes() {
            let chain = route.chain.as_ref().and_then(|name| chains.get(name));
            if let (Some(chain), true) = (chain, seen.insert(&route.place)) {
                let problems = [streamed_body(route, chain), unproven(route, chain)];
                let fault = |problem| Fault::new(route.entry.clone(), &*route.place, problem);
                faults.extend(problems.into_iter().flatten().map(fault));
            }
        }
    }
}

fn chain_fault(chain: &meaning::Chain, error: ChainError) -> Fault {
    let index = error.index();
    let name = &chain.name;
    match chain.steps.get(index) {
        Some(step) => {
            let place = format!("chains.{name}[{index}] ({})", step.filter.name());
            Fault::new(step.mark.clone(), place, Problem::Chain(error))
        }
        None => Fault::new(chain.mark.clone(), format!("chains.{name}"), Problem::Chain(error)),
    }
}

fn streamed_body(route: &Route, chain: &Chain) -> Option<Problem> {
    let streams = matches!(route.mode, Mode::Stream { .. } | Mode::Tunnel { .. });
    let reader = chain.filters().iter().find(|named| named.filter.body() == BodyUse::Reads)?;
    streams.then_some(Problem::StreamedBody(reader.name))
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
