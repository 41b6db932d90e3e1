//! `route/find`: what finding a route costs, with 10, 1,000 and 10,000 of them.
//!
//! Nine of ten routes are exact paths, one of ten is a prefix. Each lookup asks for another route, so
//! that a large table pays for the processor's caches as it would in production. Left out: the tables
//! of hosts (none of these routes is tied to one) and the check of the path, which is `route/check_path`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use http::Method;
use imgate::route::{Found, Methods, Pattern, Table, check_path};

/// How many different paths are asked for in turn. A power of two.
const ASKED: usize = 4096;

/// Steps through routes so that neighbours are not asked for one after the other. A prime.
const STRIDE: usize = 7919;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for size in [10, 1_000, 10_000] {
        let table = table(size);
        let mut one = |kind: &str, paths: Vec<String>, found: bool| {
            let is_found = |path: &str| matches!(table.find(None, "h", &Method::POST, path), Found::Route(_));
            assert!(paths.iter().all(|path| is_found(path) == found), "{kind} of {size}");
            let mut turn = 0;
            group.bench_function(BenchmarkId::new(format!("find/{kind}"), size), |b| {
                b.iter(|| {
                    turn = (turn + 1) % ASKED;
                    is_found(black_box(&paths[turn]))
                });
            });
        };
        one("exact", asked(size, |i| exact(i + usize::from(is_prefix(i)))), true);
        one("prefix", asked(size, |i| format!("{}2026/11/21/picture-{i}.jpg", prefix(i - i % 10))), true);
        one("miss", asked(size, |i| format!("/unknown/service_{i}/call")), false);
    }
    let path = "/object/imAdmin/2026/11/21/msg_picture_5a3f0d7e8f8b4a3c9d0e.jpg";
    group.bench_function("check_path", |b| b.iter(|| check_path(black_box(path))));
    group.finish();
}

fn is_prefix(i: usize) -> bool {
    i.is_multiple_of(10)
}

fn exact(i: usize) -> String {
    format!("/service_{}/call_number_{i}", i / 25)
}

fn prefix(i: usize) -> String {
    format!("/files_{}/folder_{i}/", i / 25)
}

fn table(size: usize) -> Table<usize> {
    let mut builder = Table::builder();
    for i in 0..size {
        let pattern =
            if is_prefix(i) { Pattern::Prefix(prefix(i).into()) } else { Pattern::Exact(exact(i).into()) };
        builder.insert(&[], &[], Methods::POST, &pattern, i).unwrap();
    }
    builder.build()
}

/// Paths of routes all over the table.
fn asked(size: usize, path: impl Fn(usize) -> String) -> Vec<String> {
    (0..ASKED).map(|turn| path(turn * STRIDE % size)).collect()
}
