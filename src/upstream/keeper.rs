//! Looks after upstreams in the background: health checks, and names looked up again.
//!
//! One task for each upstream that has something to look after; it ends with the upstream. Checks of
//! one server follow no beat: the first comes at a random time, the others a tenth sooner or later than
//! their interval, so that many gateways do not ask at once.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::balance::random_below;
use super::group::count;
use super::probe::{self, Sick};
use super::{Server, Upstream, names};

/// How soon a name that could not be looked up is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How long nothing is due at the most; then it is seen whether the upstream is still there.
const IDLE: Duration = Duration::from_secs(60);

/// Everything that is looked after.
#[derive(Debug, Default)]
pub struct Keeper {
    new: Mutex<Vec<Weak<Upstream>>>,
    changed: Notify,
}

impl Keeper {
    /// Looks after this upstream for as long as it is there, once [`Keeper::run`] runs.
    pub fn watch(&self, upstream: &Arc<Upstream>) {
        let mut new = self.new.lock();
        new.retain(|upstream| upstream.strong_count() > 0);
        new.push(Arc::downgrade(upstream));
        self.changed.notify_one();
    }

    /// Looks after all upstreams until `quit`.
    pub async fn run(self: Arc<Self>, quit: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            let new = std::mem::take(&mut *self.new.lock());
            for upstream in new {
                if upstream.upgrade().is_some_and(|upstream| upstream.needs_keeping()) {
                    tasks.spawn(keep(upstream, quit.clone()));
                }
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = quit.cancelled() => break,
            }
        }
        tasks.close();
        tasks.wait().await;
    }
}

impl Upstream {
    fn needs_keeping(&self) -> bool {
        self.options.check.is_some() || self.origins.iter().any(names::Origin::is_name)
    }
}

/// Looks after one upstream until it is gone.
async fn keep(upstream: Weak<Upstream>, quit: CancellationToken) {
    let mut rounds = Rounds::default();
    loop {
        let Some(present) = upstream.upgrade() else { return };
        let next = rounds.begin_due(&present);
        drop(present);
        tokio::select! {
            () = sleep_until(next) => {}
            Some(done) = rounds.jobs.join_next() => {
                if let (Some(present), Ok(done)) = (upstream.upgrade(), done) {
                    rounds.end(&present, done);
                }
            }
            () = quit.cancelled() => return,
        }
    }
}

/// What is due when, and what is under way.
#[derive(Default)]
struct Rounds {
    lookups: HashMap<usize, Lookup>,
    checks: HashMap<SocketAddr, Check>,
    jobs: JoinSet<Done>,
}

struct Lookup {
    due: Instant,
    under_way: bool,
    failed: bool,
}

struct Check {
    due: Instant,
    under_way: bool,
    /// How many checks in a row said the other thing than what holds.
    against: u32,
}

enum Done {
    LookedUp(usize, io::Result<Vec<SocketAddr>>),
    Checked(Arc<Server>, Result<(), Sick>),
}

impl Rounds {
    /// Begins what is due and says when the next thing is.
    fn begin_due(&mut self, upstream: &Arc<Upstream>) -> Instant {
        let now = Instant::now();
        self.begin_lookups(upstream, now);
        self.begin_checks(upstream, now);
        let lookups = self.lookups.values().filter(|lookup| !lookup.under_way).map(|lookup| lookup.due);
        let checks = self.checks.values().filter(|check| !check.under_way).map(|check| check.due);
        lookups.chain(checks).min().unwrap_or(now + IDLE).min(now + IDLE)
    }

    fn begin_lookups(&mut self, upstream: &Arc<Upstream>, now: Instant) {
        let options = &upstream.options.resolve;
        for (index, origin) in upstream.origins.iter().enumerate().filter(|(_, origin)| origin.is_name()) {
            let lookup = self.lookups.entry(index).or_insert_with(|| {
                // One that has no address is waited for.
                let due = if origin.found.is_empty() { now } else { now + jittered(options.every) };
                Lookup { due, under_way: false, failed: false }
            });
            if lookup.under_way || lookup.due > now {
                continue;
            }
            lookup.under_way = true;
            let (resolver, origin, timeout) =
                (Arc::clone(&upstream.resolver), origin.clone(), options.timeout);
            self.jobs.spawn(async move {
                Done::LookedUp(index, names::look_up(&*resolver, &origin, timeout).await)
            });
        }
    }

    fn begin_checks(&mut self, upstream: &Arc<Upstream>, now: Instant) {
        let Some(options) = &upstream.options.check else { return };
        let servers = upstream.servers();
        self.checks.retain(|address, _| servers.iter().any(|server| server.address == *address));
        for server in servers.iter() {
            let check = self.checks.entry(server.address).or_insert_with(|| {
                let due = now + options.interval.mul_f64(fraction());
                Check { due, under_way: false, against: 0 }
            });
            if check.under_way || check.due > now {
                continue;
            }
            check.under_way = true;
            check.due = now + jittered(options.interval);
            let (server, options) = (Arc::clone(server), options.clone());
            self.jobs.spawn(async move {
                let said = probe::probe(&server, &options).await;
                Done::Checked(server, said)
            });
        }
    }

    fn end(&mut self, upstream: &Upstream, done: Done) {
        match done {
            Done::LookedUp(index, found) => self.looked_up(upstream, index, found),
            Done::Checked(server, said) => self.checked(upstream, &server, &said),
        }
    }

    fn looked_up(&mut self, upstream: &Upstream, index: usize, found: io::Result<Vec<SocketAddr>>) {
        let Some(lookup) = self.lookups.get_mut(&index) else { return };
        let every = upstream.options.resolve.every;
        lookup.under_way = false;
        let pause = if found.is_ok() { every } else { every.min(RETRY) };
        lookup.due = Instant::now() + jittered(pause);
        let had_failed = std::mem::replace(&mut lookup.failed, found.is_err());
        match found {
            Ok(addresses) => {
                upstream.looked_up(index, addresses);
                count(&upstream.counts().lookups);
            }
            Err(error) => {
                count(&upstream.counts().lookups_failed);
                if !had_failed {
                    let (name, upstream) = (upstream.origins[index].to_string(), &*upstream.name);
                    warn!(upstream, name, %error, "a name cannot be looked up; it keeps the addresses it has");
                }
            }
        }
    }

    fn checked(&mut self, upstream: &Upstream, server: &Arc<Server>, said: &Result<(), Sick>) {
        let Some(options) = &upstream.options.check else { return };
        let Some(check) = self.checks.get_mut(&server.address) else { return };
        check.under_way = false;
        let counts = upstream.counts();
        count(if said.is_ok() { &counts.checks_passed } else { &counts.checks_failed });
        // That we lack sockets says nothing of the server.
        if matches!(said, Err(Sick::Connect(error)) if error.is_ours()) {
            return;
        }
        if said.is_err() == server.is_down() {
            check.against = 0;
            return;
        }
        check.against += 1;
        let enough = if server.is_down() { options.healthy_after } else { options.unhealthy_after };
        if check.against >= enough {
            check.against = 0;
            let why = said.as_ref().err().map(ToString::to_string);
            server.set_down(said.is_err(), why.as_deref());
            upstream.count_down();
        }
    }
}

/// A tenth less to a tenth more.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(0.9 + 0.2 * fraction())
}

/// A random number from 0 to 1.
fn fraction() -> f64 {
    const STEPS: u32 = 1 << 16;
    let step = u32::try_from(random_below(STEPS as usize)).unwrap_or(0);
    f64::from(step) / f64::from(STEPS)
}
