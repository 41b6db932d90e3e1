//! `filter/<name>`: what one filter costs, alone, on a request of twenty headers and a warm cache.
//!
//! Left out: everything around a filter (socket, parser, route, upstream, log), and misses of the
//! cache, which `store/miss` measures.

use std::sync::Arc;

use criterion::Criterion;
use criterion::measurement::WallTime;
use imgate_filters::Deps;

use crate::arrivals::{Arrival, Arrivals, MESSAGE, message_of};
use crate::drive::{arrived_after, chain, filter, measure};
use crate::world::World;

type Group<'a> = criterion::BenchmarkGroup<'a, WallTime>;

pub(crate) fn bench(criterion: &mut Criterion) {
    let world = World::new();
    let mut group = criterion.benchmark_group("filter");
    verify_signature(&mut group, &world);
    behind_a_caller(&mut group, &world);
    anywhere(&mut group, &world);
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
}

/// Measures a filter that does not mind the same request again.
fn again(group: &mut Group<'_>, name: &str, deps: &Deps, arrival: &Arrival) {
    let arrival = Arc::new(arrival.clone());
    let filter = filter(&format!("- {name}: {{}}"), deps);
    measure(group, name, &filter, None, || (*arrival).clone());
}
