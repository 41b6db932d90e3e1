//! Idle connections to one server.
//!
//! A connection that is taken out was looked at with a real `recv`: no bytes and no end may wait on
//! it. Idle connections are kept in shards by thread, so no lock is shared by all requests, and the
//! one used last is used first, so that those no longer needed grow old.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use parking_lot::Mutex;

use super::{Lease, Options, Server};
use crate::wire::Wire;

/// The most shards there are; a machine with fewer cores has fewer.
const MAX_SHARDS: usize = 16;

#[derive(Debug)]
struct Idle {
    stream: Wire,
    since: Instant,
}

/// The idle connections of one server.
#[derive(Debug)]
pub(super) struct Pool {
    shards: Box<[Mutex<VecDeque<Idle>>]>,
    per_shard: usize,
    idle_timeout: Duration,
}

impl Pool {
    /// Keeps about `keep` connections, spread over the cores there are.
    pub(super) fn new(keep: usize, idle_timeout: Duration) -> Self {
        let shards = std::thread::available_parallelism().map_or(1, NonZero::get).min(MAX_SHARDS);
        Self {
            per_shard: keep.div_ceil(shards),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            idle_timeout,
        }
    }

    /// Takes a connection that can carry a request and was in use within `max_idle`.
    pub(super) fn take(&self, max_idle: Duration) -> Option<Wire> {
        let (home, shards) = (thread_number(), self.shards.len());
        (0..shards).find_map(|i| self.take_from((home + i) % shards, max_idle))
    }

    fn take_from(&self, shard: usize, max_idle: Duration) -> Option<Wire> {
        let mut idle = self.shards[shard].lock();
        // The one used last comes first: if that one is too old, all are.
        while idle.back().is_some_and(|youngest| youngest.since.elapsed() < max_idle) {
            let mut candidate = idle.pop_back()?;
            if self.is_young(&candidate) && candidate.stream.is_quiet() {
                return Some(candidate.stream);
            }
        }
        None
    }

    pub(super) fn put(&self, stream: Wire) {
        let mut idle = self.shards[thread_number() % self.shards.len()].lock();
        if idle.len() >= self.per_shard {
            idle.pop_front();
        }
        if self.per_shard > 0 {
            idle.push_back(Idle { stream, since: Instant::now() });
        }
    }

    pub(super) fn sweep(&self) {
        for shard in &*self.shards {
            shard.lock().retain_mut(|idle| self.is_young(idle) && idle.stream.is_quiet());
        }
    }

    fn is_young(&self, idle: &Idle) -> bool {
        idle.since.elapsed() < self.idle_timeout
    }
}

/// A small number that is this thread's own.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static HOME: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    HOME.with(|home| *home)
}

/// Whether a status says that the server is at fault, or what stands behind it.
pub fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// A connection to a server while it carries one exchange.
#[derive(Debug)]
pub struct Connection {
    /// The connection itself.
    pub stream: Wire,
    lease: Lease,
    reused: bool,
}

impl Connection {
    pub(super) fn fresh(stream: Wire, lease: Lease) -> Self {
        Self { stream, lease, reused: false }
    }

    pub(super) fn reused(stream: Wire, lease: Lease) -> Self {
        Self { stream, lease, reused: true }
    }

    /// The server it leads to.
    pub fn server(&self) -> &Arc<Server> {
        self.lease.server()
    }

    /// Whether it carried an exchange before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// How its server is reached.
    pub(crate) fn options(&self) -> &Options {
        &self.server().group.options
    }

    /// Tells the server how it did, by the status and the code of its answer.
    pub(crate) fn judge(&mut self, status: StatusCode, err_code: Option<i64>) {
        let has_failed =
            is_failure(status) || err_code.is_some_and(|code| self.options().failure_codes.contains(&code));
        if has_failed { self.lease.bad() } else { self.lease.good() }
    }

    /// The server while this lasts, to be told how it went.
    pub(crate) fn lease(&mut self) -> &mut Lease {
        &mut self.lease
    }

    /// Parts the connection from its place in the server's load; a tunnel holds both to its end.
    pub fn into_parts(self) -> (Wire, Lease) {
        (self.stream, self.lease)
    }

    /// Keeps the connection for another exchange. Only for one whose request was written whole and
    /// whose answer ended exactly, with nothing read beyond it: anything else would hand one
    /// caller's answer to another. Dropping a connection closes it.
    pub fn keep(self) {
        self.lease.server().pool.put(self.stream);
    }

    #[cfg(test)]
    pub(super) fn local_port(&self) -> u16 {
        let Wire::Plain(stream) = &self.stream else { panic!("under TLS") };
        stream.tcp().unwrap().local_addr().unwrap().port()
    }
}
