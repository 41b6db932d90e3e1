//! `filter/<name>`: what one filter costs, alone, on a request of twenty headers and a warm cache.
//!
//! Left out: everything around a filter (socket, parser, route, upstream, log), and misses of the
//! cache, which `store/miss` measures.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::WallTime;
use imgate_filters::context::Place;
use imgate_filters::rules::Roles;
use imgate_filters::{Deps, Rules};
use imgate_identity::sign::canonical::Scheme;

use crate::arrivals::{Arrival, Arrivals, MESSAGE, message_of};
use crate::drive::{Step as _, arrived_after, chain, filter, measure};
use crate::world::World;

type Group<'a> = criterion::BenchmarkGroup<'a, WallTime>;

pub(crate) fn bench(criterion: &mut Criterion) {
    let world = World::new();
    let mut group = criterion.benchmark_group("filter");
    verify_signature(&mut group, &world);
    canonical(&mut group, &world);
    bearers(&mut group, &world);
    behind_a_caller(&mut group, &world);
    bound(&mut group, &world);
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

/// Measures a scheme given by configuration: `METHOD`, path, time, nonce and digest, each on its line.
fn canonical(group: &mut Group<'_>, world: &World) {
    let scheme = "{ headers: { x-session: '{session}', x-time: '{timestamp}', x-nonce: '{nonce}', \
                  x-digest: '{digest}', x-signature: '{signature}' }, encoding: hex, digest: hex, key: hkdf, \
                  timestamp: s, string_to_sign: \"{method}\\n{target}\\n{timestamp}\\n{nonce}\\n{digest}\" }";
    let yaml = format!("- verify_signature: {{ replay: off, scheme: {{ canonical: {scheme} }} }}");
    let config = serde_saphyr::from_str(scheme).unwrap();
    let arrival = world.canonical(&Scheme::new(&config).unwrap(), MESSAGE);
    configured(group, "verify_signature/canonical_post_243", &yaml, &world.deps, &arrival);
}

/// Measures the filters that take a bearer's string: two for users, one for admins.
fn bearers(group: &mut Group<'_>, world: &World) {
    let post = Arrivals::unsigned(MESSAGE).next();
    let with = |name: &'static str, value: &str| {
        let mut arrival = post.clone();
        arrival.head.insert_header(name, value).unwrap();
        arrival
    };
    again(group, "verify_session_token", &world.deps, &with("token", &world.session_token()));
    again(group, "verify_openim_token", &world.deps, &with("token", &world.openim_token()));
    let mut admin = with("authorization", &format!("Bearer {}", world.admin_token()));
    admin.cx.place = ruled(Rules { roles: Some(Roles::Any), ..Rules::default() });
    let yaml = "- verify_jwt: { jwks_file: src/verify_jwt/admins.jwks, issuer: ops, audience: imgate }";
    configured(group, "verify_jwt", yaml, &world.deps, &admin);
}

fn ruled(rules: Rules) -> Arc<Place> {
    Arc::new(Place { rules, ..Place::default() })
}

/// Measures `bind_identity` on a field that is right, and on one that it writes.
fn bound(group: &mut Group<'_>, world: &World) {
    let post = Arrivals::posts(MESSAGE, world.session, world.key()).next();
    let mut verified = arrived_after(&chain("- verify_signature: {}", &world.fresh_deps()), post);
    for (name, rule) in [("check", "{ check: [sendID] }"), ("force", "{ force: [inviterUserID] }")] {
        let bind = Some(serde_saphyr::from_str(rule).unwrap());
        verified.cx.place = ruled(Rules { bind, ..Rules::default() });
        let name = format!("bind_identity/{name}");
        configured(group, &name, "- bind_identity: {}", &world.deps, &verified);
    }
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
    configured(group, "respond", "- respond: { status: 503, errCode: 20404 }", &world.deps, &post);
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
