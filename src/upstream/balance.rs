//! Which server gets a request.
//!
//! Either the less loaded of two random ones, or the one that the request's key belongs to: the highest
//! of a hash of key and server (rendezvous hashing), so a server that fails hands on only what was its
//! own. A server that is far busier than the rest is passed over for the next one of the same key.
//! If none is in use, all are: health checks that are wrong must not take everything down.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderName;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::server::{PARTS, Server};

/// How a server is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// The less loaded of two random ones.
    #[default]
    LeastLoaded,
    /// The one that this belongs to.
    Hash(Key),
}

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The user who calls; the client's address if there is none.
    User,
    /// The client's address.
    Address,
    /// The value of this header; the client's address if there is none.
    Header(HeaderName),
}

/// How many requests a server may have under way, however idle the others are, before a key moves on.
const FREE: u32 = 8;

/// The server for a request of this key, other than the one at `avoid` if there is another; `None` if
/// there is no server at all.
pub(super) fn choose<'a>(
    servers: &'a [Arc<Server>],
    balance: &Balance,
    key: u64,
    avoid: Option<SocketAddr>,
) -> Option<&'a Arc<Server>> {
    match (servers, balance) {
        ([], _) => None,
        ([one], _) => Some(one),
        (_, Balance::LeastLoaded) => Some(less_loaded(servers, avoid)),
        (_, Balance::Hash(_)) => {
            Some(by_key(servers, key, avoid).unwrap_or_else(|| less_loaded(servers, avoid)))
        }
    }
}

fn less_loaded(servers: &[Arc<Server>], avoid: Option<SocketAddr>) -> &Arc<Server> {
    let n = servers.len();
    let first = random_below(n);
    // Any other: an offset of 1 to n - 1 from the first.
    let second = (first + 1 + random_below(n - 1)) % n;
    let rank = |server: &Arc<Server>| {
        let is_in_use = server.is_in_use(|| random_below(PARTS as usize) as u64);
        (Some(server.address) == avoid, !is_in_use, server.in_flight())
    };
    let (a, b) = (&servers[first], &servers[second]);
    let (rank_a, rank_b) = (rank(a), rank(b));
    let (better, best_rank) = if rank_b < rank_a { (b, rank_b) } else { (a, rank_a) };
    match best_rank {
        (false, false, _) => better,
        // Only for one that is no second choice: else the first in the list would get all there is.
        (avoided, unused, _) => {
            let others = servers.iter().map(|server| (rank(server), server));
            let first_choice = others.filter(|(r, _)| (r.0, r.1) < (avoided, unused)).min_by_key(|(r, _)| *r);
            first_choice.map_or(better, |(_, server)| server)
        }
    }
}

fn by_key(servers: &[Arc<Server>], key: u64, avoid: Option<SocketAddr>) -> Option<&Arc<Server>> {
    // The same part of the keys stays with a server that returns.
    let may_take = |server: &&Arc<Server>| {
        Some(server.address) != avoid && server.is_in_use(|| weight(key, server) % PARTS)
    };
    let (mut in_use, mut under_way) = (0_u32, 0_u32);
    for server in servers.iter().filter(may_take) {
        in_use += 1;
        under_way = under_way.saturating_add(server.in_flight());
    }
    // A quarter above the average.
    let bound = under_way.saturating_add(1).saturating_mul(5).div_ceil(4 * in_use.max(1)).max(FREE);
    let candidates = servers.iter().filter(may_take).filter(|server| server.in_flight() < bound);
    candidates.max_by_key(|server| weight(key, server))
}

fn weight(key: u64, server: &Server) -> u64 {
    xxh3_64_with_seed(&key.to_le_bytes(), server.hash)
}

/// A number below `n`, good enough to spread load: a thread-local xorshift, seeded by the hasher.
pub(super) fn random_below(n: usize) -> usize {
    use std::cell::Cell;
    use std::hash::{BuildHasher as _, RandomState};

    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    let x = STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    });
    // The upper half is the better one; the remainder's bias is nothing at these sizes.
    ((x >> 32) as usize) % n
}
