//! `chain/<name>`: what a whole chain costs on a request of twenty headers and a warm cache.
//!
//! `chain/empty` is what measuring costs; take it off the others. The chains are those of
//! `conf/imgate.yaml`.

use criterion::Criterion;

use crate::arrivals::{Arrivals, MESSAGE};
use crate::drive::{chain, measure};
use crate::world::World;

const USER: &str = "
- operation_id: {}
- verify_signature: {}
- resolve_token: {}
- strip_credentials: {}
- inject_token: {}
";

const SOCKET: &str = "
- operation_id: {}
- verify_socket: {}
- strip_credentials: {}
";

pub(crate) fn bench(criterion: &mut Criterion) {
    let world = World::new();
    let mut group = criterion.benchmark_group("chain");
    let posts = || Arrivals::posts(MESSAGE, world.session, world.key());
    let mut one = |name: &str, yaml: &str, mut arrivals: Arrivals| {
        let chain = chain(yaml, &world.fresh_deps());
        measure(&mut group, name, &chain, None, move || arrivals.next());
    };
    one("empty", "[]", posts());
    one("user", USER, posts());
    one("socket", SOCKET, Arrivals::handshakes());
    group.finish();
}
