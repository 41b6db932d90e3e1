//! Runs requests through filters and chains, as the gateway does once a caller is cached.
//!
//! A cached request waits for nothing, so no runtime is needed and none is measured: a filter that
//! would wait fails the bench.

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup};
use futures_util::FutureExt as _;
use imgate_filters::chain::Chain;
use imgate_filters::{Deps, Filter, Reject, Request};

use crate::arrivals::Arrival;

/// How many requests are made ready at once: few enough to stay in the processor's caches, enough for
/// reading the clock not to show.
pub(crate) const BATCH: BatchSize = BatchSize::NumIterations(32);

/// The chain of this YAML.
pub(crate) fn chain(yaml: &str, deps: &Deps) -> Chain {
    let configs: Vec<imgate_filters::Step> = serde_saphyr::from_str(yaml).unwrap();
    Chain::build(&configs, deps).unwrap()
}

/// The one filter of this YAML, outside any chain.
pub(crate) fn filter(yaml: &str, deps: &Deps) -> Box<dyn Filter> {
    let configs: Vec<imgate_filters::Step> = serde_saphyr::from_str(yaml).unwrap();
    configs[0].filter.build(deps).unwrap().1
}

/// What can be run on a request.
pub(crate) trait Step {
    /// Runs it; it must not wait.
    fn run(&self, arrival: &mut Arrival) -> Result<(), Reject>;
}

impl Step for Chain {
    fn run(&self, Arrival { head, body, cx }: &mut Arrival) -> Result<(), Reject> {
        let mut request = Request { head, body };
        let flow = self.request(&mut request, cx).now_or_never().expect("a cached request does not wait");
        flow.map(|_| ())
    }
}

impl Step for Box<dyn Filter> {
    fn run(&self, Arrival { head, body, cx }: &mut Arrival) -> Result<(), Reject> {
        let mut request = Request { head, body };
        let flow = self.request(&mut request, cx).now_or_never().expect("a cached request does not wait");
        flow.map(|_| ())
    }
}

/// A request as it stands behind `chain`.
pub(crate) fn arrived_after(chain: &Chain, mut arrival: Arrival) -> Arrival {
    chain.run(&mut arrival).unwrap();
    arrival
}

/// Measures `step` on the requests that `next` makes, after one proof that it does what is expected:
/// to refuse for this reason, or to let through.
pub(crate) fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    step: &impl Step,
    refusal: Option<&'static str>,
    mut next: impl FnMut() -> Arrival,
) {
    assert_eq!(step.run(&mut next()).err().map(|reject| reject.reason), refusal, "{name}");
    group.bench_function(name, |b| b.iter_batched_ref(&mut next, |arrival| step.run(arrival), BATCH));
}
