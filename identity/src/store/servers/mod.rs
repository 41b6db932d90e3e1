//! The Redis servers behind a store: one, the master of a Sentinel group, or the masters of a cluster.
//!
//! [`Fleet`] knows which servers hold the records and carries questions to them. A task of its own
//! follows failovers and moves of slots. With caches to keep true, that task also holds a link to each
//! of these servers on which changes are announced: all of them work, or the store counts as down.

mod canary;
mod dial;
mod examination;
mod node;
mod redirect;
mod routes;
mod sentinel;
mod slots;
mod supervisor;
mod topology;
mod tracking;

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use redis::{Cmd, Pipeline, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(super) use self::dial::Dialer;
pub use self::examination::ServerInfo;
use self::node::Node;
use self::routes::{Known, Routes};
pub(super) use self::slots::{SLOTS, slot, tag};
use self::topology::Topology;
use super::Unavailable;
use super::cache::Caches;
use super::config::{Seeds, Target};
use super::unavailable::Refusal;
use crate::key::Keys;

/// How often a question follows a key from server to server.
const MAX_HOPS: usize = 5;

/// Spreads `pause` by a quarter either way, so that gateways do not come back in step.
fn jittered(pause: Duration) -> Duration {
    // Without randomness the pauses are merely in step.
    let roll = getrandom::u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.75 + 0.5 * f64::from(roll) / f64::from(u32::MAX))
}

/// All servers of a store. Dropping it closes every connection.
pub(super) struct Fleet {
    shared: Arc<Shared>,
    supervisor: JoinHandle<()>,
}

/// What the supervisor and callers share.
struct Shared {
    target: Target,
    topology: Topology,
    routes: watch::Sender<Known>,
    /// Rung when the routes may be out of date.
    stale: Arc<Notify>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Fleet {
    /// Starts to connect, to read and to keep `caches` true; needs a tokio runtime.
    pub(super) fn track(target: Target, caches: Arc<Caches>) -> Self {
        let shared = Shared::new(target);
        let supervisor = tokio::spawn(supervisor::track(Arc::clone(&shared), caches));
        Self { shared, supervisor }
    }

    /// Starts to connect without caches; needs a tokio runtime.
    pub(super) fn follow(target: Target) -> Self {
        let shared = Shared::new(target);
        let supervisor = tokio::spawn(supervisor::follow(Arc::clone(&shared)));
        Self { shared, supervisor }
    }

    /// When a call that begins now has to be over.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.shared.target.timeout
    }

    /// Whether every server that holds records is connected.
    pub(super) fn is_up(&self) -> bool {
        self.are_up(|mut nodes| nodes.all(|node| node.is_up()))
    }

    /// Whether any server that holds records is connected.
    pub(super) fn answers(&self) -> bool {
        self.are_up(|mut nodes| nodes.any(|node| node.is_up()))
    }

    fn are_up(&self, which: impl FnOnce(slice::Iter<'_, Arc<Node>>) -> bool) -> bool {
        match &*self.shared.routes.borrow() {
            Known::Routes(routes) => which(routes.nodes().iter()),
            Known::Unknown | Known::Nobody(_) => false,
        }
    }

    /// Whether keys are spread over servers by slots.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.shared.topology, Topology::Cluster(_))
    }

    /// Asks the server that holds `key`, in one round trip while nothing moves. All commands must be about
    /// keys of the same slot. Errors of single commands are among the answers.
    pub(super) async fn ask(
        &self,
        key: &str,
        commands: Vec<Cmd>,
        deadline: Instant,
    ) -> Result<Vec<Value>, Unavailable> {
        let routes = self.shared.routes(deadline).await?;
        if let Some(node) = routes.only() {
            return node.ask(pipeline(commands), deadline).await;
        }
        self.shared.chase(&routes, slot(key), &commands, deadline).await.map(|(_, answers)| answers)
    }

    /// Asks the server that owns `slot` about the slot itself. `owned` is a key in it, by which the server
    /// shows that it does own it.
    pub(super) async fn ask_owner(
        &self,
        owned: &str,
        commands: Vec<Cmd>,
        deadline: Instant,
    ) -> Result<Vec<Value>, Unavailable> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(owned);
        let routes = self.shared.routes(deadline).await?;
        let (node, _) = self.shared.chase(&routes, slot(owned), &[exists], deadline).await?;
        node.ask(pipeline(commands), deadline).await
    }

    /// Waits for the first answer of any server.
    pub(super) async fn greet(&self) -> Result<(), Unavailable> {
        let patience = self.shared.target.connect_timeout + self.shared.target.timeout;
        let deadline = Instant::now() + patience;
        let routes = self.shared.routes(deadline).await?;
        let answers = join_all(routes.nodes().iter().map(|node| ping(node, deadline))).await;
        answers.into_iter().reduce(Result::or).unwrap_or(Err(Unavailable::Down))
    }

    /// Tries once, on connections of its own, whether every server can be used: it takes our credentials,
    /// answers, announces changes, and bears its mark if one is asked for.
    pub(super) async fn probe(&self, keys: &Keys) -> Result<(), Unavailable> {
        let view = self.shared.discover().await?;
        let gone = Arc::new(Notify::new());
        let links = view.servers().into_iter().map(|server| {
            let gone = Arc::clone(&gone);
            async move {
                let mut link = tracking::Link::establish(&self.shared, &server, keys, None, &gone).await?;
                let mark = keys.store_mark_in(server.slot.map(tag));
                link.ask(redis::cmd("EXISTS").arg(mark)).await
            }
        });
        let answers = try_join_all(links).await.map_err(|lost| lost.why)?;
        let marked = |answer: &Value| matches!(answer, Value::Int(count) if *count > 0);
        let good = !self.shared.target.require_mark || answers.iter().all(marked);
        if good { Ok(()) } else { Err(Unavailable::Unmarked) }
    }
}

fn pipeline(commands: impl IntoIterator<Item = Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}

async fn ping(node: &Node, deadline: Instant) -> Result<(), Unavailable> {
    match node.ask(pipeline([redis::cmd("PING")]), deadline).await?.pop() {
        Some(Value::ServerError(error)) => Err(Unavailable::from(&error)),
        _ => Ok(()),
    }
}

impl Shared {
    fn new(target: Target) -> Arc<Self> {
        let stale = Arc::new(Notify::new());
        let topology = Topology::begin(&target, &stale);
        let shared = Arc::new(Self { target, topology, routes: watch::Sender::new(Known::Unknown), stale });
        if let Seeds::One(address) = &shared.target.seeds {
            shared.publish(&topology::View::One(address.clone()));
        }
        shared
    }

    async fn routes(&self, deadline: Instant) -> Result<Arc<Routes>, Unavailable> {
        routes::known(&mut self.routes.subscribe(), deadline).await
    }

    /// Asks the owner of `slot`, and goes on where it points to for as long as there is time.
    async fn chase(
        &self,
        routes: &Arc<Routes>,
        slot: u16,
        commands: &[Cmd],
        deadline: Instant,
    ) -> Result<(Arc<Node>, Vec<Value>), Unavailable> {
        let node = routes.owner(slot).ok_or(Unavailable::Refused(Refusal::ClusterDown))?;
        let mut chase = redirect::Chase::new(Arc::clone(node), commands);
        let mut known = self.routes.subscribe();
        for _ in 0..MAX_HOPS {
            let Some(onward) = chase.hop(deadline).await? else { return chase.over() };
            if onward.moved {
                self.stale.notify_one();
            }
            let node = routes::find(&mut known, &onward.to, slot, deadline).await?;
            chase.turn(node, &onward);
        }
        Err(Unavailable::Refused(Refusal::Moved))
    }

    /// Lets callers know which servers there are. Connections to those that stay are kept.
    fn publish(&self, view: &topology::View) {
        self.routes.send_if_modified(|known| {
            let old = match known {
                Known::Routes(routes) if routes.are(view) => return false,
                Known::Routes(routes) => Some(Arc::clone(routes)),
                Known::Unknown | Known::Nobody(_) => None,
            };
            let node = |address: &_| {
                let kept = old.as_ref().and_then(|routes| routes.at(address).cloned());
                kept.unwrap_or_else(|| Arc::new(self.topology.node(address, &self.target)))
            };
            *known = Known::Routes(Arc::new(Routes::new(view, node)));
            true
        });
    }

    /// Lets callers know why there is nobody to ask, unless somebody was found before.
    fn publish_nobody(&self, why: Unavailable) {
        self.routes.send_if_modified(|known| {
            let unknown = !matches!(known, Known::Routes(_));
            if unknown {
                *known = Known::Nobody(why);
            }
            unknown
        });
    }
}
