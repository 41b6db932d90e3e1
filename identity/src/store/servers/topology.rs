//! How servers share the records, and who has to agree that nothing changed about it.

use std::slice;
use std::sync::Arc;

use redis::{AsyncConnectionConfig, Cmd, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::node::{Node, Role};
use super::routes::Known;
use super::sentinel::Sentinels;
use super::slots::{self, Map};
use super::{Shared, pipeline};
use crate::store::Unavailable;
use crate::store::address::Address;
use crate::store::config::{Seeds, Target};
use crate::store::unavailable::NoMaster;

/// Where it is known which servers hold the records.
pub(super) enum Topology {
    /// In the configuration: it is one.
    One(Address),
    /// At the sentinels of a group.
    Sentinel(Arc<Sentinels>),
    /// At every node of a cluster; these are asked first.
    Cluster(Vec<Address>),
}

/// Which servers hold the records at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    One(Address),
    Cluster(Map),
}

/// A server that holds records.
pub(super) struct Server {
    pub(super) address: Address,
    /// One of its slots, in a cluster.
    pub(super) slot: Option<u16>,
}

impl View {
    pub(super) fn owners(&self) -> &[Address] {
        match self {
            Self::One(address) => slice::from_ref(address),
            Self::Cluster(map) => &map.owners,
        }
    }

    pub(super) fn servers(&self) -> Vec<Server> {
        match self {
            Self::One(address) => vec![Server { address: address.clone(), slot: None }],
            Self::Cluster(map) => {
                let owners = map.owners.iter().cloned().zip(map.samples());
                owners.map(|(address, slot)| Server { address, slot }).collect()
            }
        }
    }
}

impl Topology {
    pub(super) fn begin(target: &Target, stale: &Arc<Notify>) -> Self {
        match &target.seeds {
            Seeds::One(address) => Self::One(address.clone()),
            Seeds::Sentinel { master, sentinels, dialer } => {
                let (master, sentinels) = (master.clone(), sentinels.clone());
                Self::Sentinel(Sentinels::spawn(master, sentinels, dialer, target.timeout, stale))
            }
            Seeds::Cluster(nodes) => {
                // Here and not in the first request: it takes a few milliseconds.
                slots::tag(0);
                Self::Cluster(nodes.clone())
            }
        }
    }

    /// The connection for commands to a server.
    pub(super) fn node(&self, address: &Address, target: &Target) -> Node {
        let role = match self {
            Self::Sentinel(sentinels) => Role::Master(Arc::clone(sentinels)),
            // In a cluster a server says itself which slots are not its own.
            Self::One(_) | Self::Cluster(_) => Role::Server,
        };
        Node::spawn(address.clone(), target.dialer.clone(), role, target.timeout)
    }
}

/// What every node of a cluster is asked.
pub(super) fn cluster_slots() -> Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    command
}

/// Reads what a node of a cluster answers to that.
pub(super) fn read_map(answer: Option<Value>, asked: &Address) -> Result<Map, Unavailable> {
    match answer {
        Some(Value::ServerError(error)) => Err(Unavailable::from(&error)),
        Some(answer) => Map::read(answer, asked).ok_or(NoMaster::Unmapped.into()),
        None => Err(Unavailable::Down),
    }
}

impl Shared {
    /// Finds the servers that hold the records now.
    pub(super) async fn discover(&self) -> Result<View, Unavailable> {
        match &self.topology {
            Topology::One(address) => Ok(View::One(address.clone())),
            Topology::Sentinel(sentinels) => Ok(View::One(sentinels.master().await?)),
            Topology::Cluster(seeds) => self.map(seeds).await.map(View::Cluster),
        }
    }

    /// Asks one node after the other until one tells the owners of the slots, beginning anywhere: one that
    /// was cut off from the others must not mislead us twice.
    async fn map(&self, seeds: &[Address]) -> Result<Map, Unavailable> {
        let mut why = NoMaster::Unmapped.into();
        let known = match &*self.routes.borrow() {
            Known::Routes(routes) => routes.nodes().to_vec(),
            Known::Unknown | Known::Nobody(_) => Vec::new(),
        };
        for node in shuffled(&known) {
            match self.map_of_node(node).await {
                Ok(map) => return Ok(map),
                Err(error) => why = error,
            }
        }
        for seed in shuffled(seeds) {
            match self.map_of_seed(seed).await {
                Ok(map) => return Ok(map),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn map_of_node(&self, node: &Node) -> Result<Map, Unavailable> {
        let deadline = Instant::now() + self.target.timeout;
        read_map(node.ask(pipeline([cluster_slots()]), deadline).await?.pop(), node.address())
    }

    async fn map_of_seed(&self, seed: &Address) -> Result<Map, Unavailable> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.target.connect_timeout));
        let mut wire = self.target.dialer.open(seed, config).await?;
        let answer = wire.commands.send_packed_command(&cluster_slots()).await;
        read_map(Some(answer.map_err(|error| Unavailable::from(&error))?), seed)
    }
}

/// All of them, from a random one on.
fn shuffled<T>(all: &[T]) -> impl Iterator<Item = &T> {
    // Without randomness it is always the same.
    let first = getrandom::u32().map_or(0, |roll| roll as usize % all.len().max(1));
    all[first..].iter().chain(&all[..first])
}
