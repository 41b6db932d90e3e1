//! `upstream/pick`: what it costs to let a request in, choose its server, and note how it went.
//!
//! Nothing is connected: the addresses are nobody's.

use std::net::SocketAddr;

use criterion::{BenchmarkId, Criterion};
use imgate::upstream::{Asker, Balance, Key, Options, Upstream};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("upstream");
    for (name, balance) in [("least_loaded", Balance::LeastLoaded), ("hash", Balance::Hash(Key::User))] {
        for n in [1, 2, 16] {
            let servers: Vec<SocketAddr> = (1..=n).map(|port| ([127, 0, 0, 1], port).into()).collect();
            let options = Options { balance: balance.clone(), ..Options::default() };
            let upstream = Upstream::new("u", &servers, options);
            let mut caller = 0;
            group.bench_function(BenchmarkId::new(format!("pick/{name}"), n), |b| {
                b.iter(|| {
                    caller += 1;
                    let mut lease = upstream.admit(Asker { caller, key: caller }).unwrap();
                    lease.good();
                });
            });
        }
    }
    group.finish();
}
