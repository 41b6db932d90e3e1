//! `filter/<name>`: what one filter costs, alone, on a request of twenty headers and a warm cache.
//!
//! Left out: everything around a filter (socket, parser, route, upstream, log), and misses of the
//! cache, which `store/miss` measures.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::WallTime;
use imgate_filters::Deps;

use crate::arrivals::{Arrival, Arrivals, MESSAGE, message_of};
use crate::drive::{Step as _, arrived_after, chain, filter, measure};
use crate::world::World;

type Group<'a> = criterion::BenchmarkGroup<'a, WallTime>;

pub(crate) fn bench(criterion: &mut Criterion) {
    let world = World::new();
    let mut group = criterion.benchmark_group("filter");
    verify_signature(&mut group, &world);
    behind_a_caller(&mut group, &world);
    anywhere(&mut group, &world);
    one_limited(&mut group, &world);
    million_limited(&mut group, &world);
    group.finish();
}

fn verify_signature(group: &mut Group<'_>, world: &World) {
    let mut one = |name: &str, refusal: Option<&'static str>, mut arrivals: Arrivals| {
        // Each has a memory of nonces of its own, or the last bench would search the fullest one.
        let filter = filter("- verify_signature: {}", &world.fresh_deps());
        measure(group, &format!("verify_signature/{name}"), &filter, refusal, move || arrivals.next());
    };
    one("get", None, Arrivals::gets(world.session, world.key()));
    one("post_243", None, Arrivals::posts(MESSAGE, world.session, world.key()));
    one("post_8k", None, Arrivals::posts(&message_of(8192), world.session, world.key()));
    let wrong = Arrivals::posts(MESSAGE, world.session, world.wrong_key());
    one("refused_signature", Some("signature_mismatch"), wrong);
    let unknown = Arrivals::posts(MESSAGE, world.stranger, world.key());
    one("unknown_session", Some("session_unknown"), unknown);
}

fn behind_a_caller(group: &mut Group<'_>, world: &World) {
    let post = Arrivals::posts(MESSAGE, world.session, world.key()).next();
    let verified = arrived_after(&chain("- verify_signature: {}", &world.fresh_deps()), post.clone());
    let ready =
        chain("- verify_signature: {}\n- resolve_token: {}\n- strip_credentials: {}", &world.fresh_deps());
    let resolved = arrived_after(&ready, post);
    again(group, "resolve_token", &world.deps, &verified);
    again(group, "strip_credentials", &world.deps, &verified);
    again(group, "inject_token", &world.deps, &resolved);
    again(group, "assert_identity", &world.deps, &verified);
}

fn anywhere(group: &mut Group<'_>, world: &World) {
    let post = Arrivals::posts(MESSAGE, world.session, world.key()).next();
    again(group, "operation_id", &world.deps, &post);
    again(group, "verify_socket", &world.deps, &Arrivals::handshakes().next());
    let edits = "request: { set: { x-edge: eu-1 }, add: { x-via: imgate }, remove: [dnt, priority] }";
    configured(group, "headers", &format!("- headers: {{ {edits} }}"), &world.deps, &post);
    let swap = "- rewrite_path: { strip_prefix: /msg, add_prefix: /v1, paths: { /a: /b } }";
    configured(group, "rewrite_path", swap, &world.deps, &post);
    configured(group, "body_limit", "- body_limit: { max: 1MiB }", &world.deps, &post);
    configured(group, "cors", "- cors: { allow_origins: ['https://app.example.com'] }", &world.deps, &post);
    for count in [2, 10_000] {
        let (few, many) = (networks(198, count), networks(203, count));
        configured(group, &format!("ip_deny/{count}"), &format!("- ip_deny: {few}"), &world.deps, &post);
        configured(group, &format!("ip_allow/{count}"), &format!("- ip_allow: {many}"), &world.deps, &post);
    }
}

/// A list of networks of 16 addresses with as many between them, from `first`.0.113.64 on: the client's
/// is among them for 203.
fn networks(first: u8, count: u32) -> String {
    let start = u32::from(Ipv4Addr::new(first, 0, 113, 64));
    let nets: Vec<String> = (0..count).map(|i| format!("{}/28", Ipv4Addr::from(start + 32 * i))).collect();
    format!("{{ addresses: [{}] }}", nets.join(", "))
}

/// Measures a limit on somebody who calls just as often as it allows.
fn one_limited(group: &mut Group<'_>, world: &World) {
    let mut post = Arrivals::posts(MESSAGE, world.session, world.key()).next();
    let filter = filter("- rate_limit: { per: address, rate: 1000000/s, burst: 1 }", &world.deps);
    measure(group, "rate_limit/one_key", &filter, None, || {
        post.cx.arrived += Duration::from_micros(1);
        post.clone()
    });
}

/// Measures a limit that is full: a million addresses, none of whose allowances is whole again, since no
/// time passes here.
fn million_limited(group: &mut Group<'_>, world: &World) {
    const KEYS: u32 = 1_000_000;
    let post = Arrivals::posts(MESSAGE, world.session, world.key()).next();
    let yaml = "- rate_limit: { per: address, rate: 1/s, burst: 86400, max_keys: 1000000 }";
    let deps = Deps { rates: Arc::default(), ..world.deps.clone() };
    let filter = filter(yaml, &deps);
    let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
    let from = |n: u32| {
        let mut arrival = post.clone();
        arrival.cx.client = address(n);
        arrival
    };
    let mut crowd = post.clone();
    for n in 0..KEYS {
        crowd.cx.client = address(n);
        filter.run(&mut crowd).unwrap();
    }
    assert_eq!((deps.rates.keys(), deps.rates.overflows()), (KEYS as usize, 0));
    // All of them take turns, in an order that no cache foresees.
    let mut n = 0;
    measure(group, "rate_limit/one_of_a_million", &filter, None, || {
        n = (n + 614_657) % KEYS;
        from(n)
    });
    measure(group, "rate_limit/stranger_when_full", &filter, None, || {
        n += 1;
        from(KEYS + n)
    });
}

/// Measures a filter that does not mind the same request again.
fn again(group: &mut Group<'_>, name: &str, deps: &Deps, arrival: &Arrival) {
    configured(group, name, &format!("- {name}: {{}}"), deps, arrival);
}

/// Measures such a filter with options.
fn configured(group: &mut Group<'_>, name: &str, yaml: &str, deps: &Deps, arrival: &Arrival) {
    let arrival = Arc::new(arrival.clone());
    let filter = filter(yaml, deps);
    measure(group, name, &filter, None, || (*arrival).clone());
}
