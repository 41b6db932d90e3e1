//! What the parts of a request cost, one by one: `filter/*`, `chain/*`, `route/*`, `store/*`, and the bytes
//! that go up and come back (`forward/*`, `exchange/*`, `envelope/*`, `reply/*`), and `upstream/*`.
//!
//! One binary, because linking one takes minutes. `cargo bench --bench micro -- chain/` runs a part.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be set up has to stop")]

mod filters;

mod chain;

mod route;

mod store;

mod upstream;

mod wire;

mod arrivals;

mod world;

mod drive;

#[path = "../../src/exchange/decode.rs"]
#[allow(dead_code, reason = "not public; the bench takes it as it stands and leaves some of it out")]
mod decode;

#[path = "../../identity/tests/support/redis_server.rs"]
mod redis_server;

use criterion::Criterion;

// The gateway's own allocator: a filter allocates, and what that costs is part of its price.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    filters::bench(&mut criterion);
    chain::bench(&mut criterion);
    route::bench(&mut criterion);
    wire::bench(&mut criterion);
    store::bench(&mut criterion);
    upstream::bench(&mut criterion);
    criterion.final_summary();
}
