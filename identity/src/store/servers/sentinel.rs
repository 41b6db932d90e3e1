//! Redis Sentinel: which server is the master of a group.
//!
//! A master is taken on the word of more than half of the sentinels, at the highest epoch among them,
//! and only if it says itself that it is one. Sentinels that cannot be reached take nothing away: a
//! link that works is kept until a majority names another master.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::dial::Dialer;
use super::node::{Node, Role};
use crate::store::Unavailable;
use crate::store::address::Address;
use crate::store::unavailable::NoMaster;

/// Where sentinels say that they follow another master.
const SWITCHED: &str = "+switch-master";

/// All sentinels of a group, with one connection to each.
pub(super) struct Sentinels {
    master: Box<str>,
    peers: Vec<Node>,
    /// How long they may take to answer, connecting included.
    patience: Duration,
}

/// What one sentinel says.
enum Word {
    Master {
        epoch: u64,
        address: Address,
    },
    /// It does not watch over such a group.
    Unknown,
}

impl Sentinels {
    /// Starts to connect. `switched` is rung when one of them announces another master.
    pub(super) fn spawn(
        master: Box<str>,
        sentinels: Vec<Address>,
        dialer: &Dialer,
        timeout: Duration,
        switched: &Arc<Notify>,
    ) -> Arc<Self> {
        let peer =
            |address| Node::spawn(address, dialer.clone(), Role::Sentinel(Arc::clone(switched)), timeout);
        let peers = sentinels.into_iter().map(peer).collect();
        Arc::new(Self { master, peers, patience: timeout + dialer.patience() })
    }

    /// The master, as more than half of the sentinels know it.
    pub(super) async fn master(&self) -> Result<Address, NoMaster> {
        self.master_by(Instant::now() + self.patience).await
    }

    /// The master, as more than half of the sentinels know it that answer in time.
    pub(super) async fn master_by(&self, deadline: Instant) -> Result<Address, NoMaster> {
        let words: Vec<Word> = join_all(self.peers.iter().map(|peer| self.ask(peer, deadline)))
            .await
            .into_iter()
            .flatten()
            .collect();
        if words.len() * 2 <= self.peers.len() {
            return Err(NoMaster::Quorum);
        }
        let masters = words.into_iter().filter_map(|word| match word {
            Word::Master { epoch, address } => Some((epoch, address)),
            Word::Unknown => None,
        });
        masters.max_by_key(|(epoch, _)| *epoch).map(|(_, address)| address).ok_or(NoMaster::Unknown)
    }

    /// Whether `address` is the master.
    pub(super) async fn confirm(&self, address: &Address) -> Result<(), NoMaster> {
        if self.master().await? == *address { Ok(()) } else { Err(NoMaster::Replaced) }
    }

    async fn ask(&self, peer: &Node, deadline: Instant) -> Option<Word> {
        let mut pipeline = Pipeline::with_capacity(2);
        // The address is that of the new master from the moment it is promoted, and so is the epoch.
        pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&*self.master);
        pipeline.cmd("SENTINEL").arg("MASTER").arg(&*self.master);
        let [address, details] = peer.ask(pipeline, deadline).await.ok()?.try_into().ok()?;
        match address {
            Value::Nil => Some(Word::Unknown),
            address => Some(Word::Master { epoch: epoch(details)?, address: read_address(address)? }),
        }
    }
}

fn read_address(answer: Value) -> Option<Address> {
    let (host, port): (String, u16) = redis::from_redis_value(answer).ok()?;
    Address::new(&host, port).ok()
}

fn epoch(details: Value) -> Option<u64> {
    let fields: std::collections::HashMap<String, String> = redis::from_redis_value(details).ok()?;
    fields.get("config-epoch")?.parse().ok()
}

/// Asks to be told of switches. A sentinel that refuses is asked now and then anyway.
pub(super) async fn subscribe(connection: &mut MultiplexedConnection, patience: Duration) {
    let _ = timeout(patience, connection.subscribe(SWITCHED)).await;
}

/// Checks that the server calls itself a master.
pub(super) async fn is_master(
    connection: &mut MultiplexedConnection,
    patience: Duration,
) -> Result<(), Unavailable> {
    let role = redis::cmd("ROLE");
    match timeout(patience, connection.send_packed_command(&role)).await {
        Ok(Ok(answer)) => says_master(&answer),
        Ok(Err(error)) => Err(Unavailable::from(&error)),
        Err(_) => Err(Unavailable::Deadline),
    }
}

/// Reads the answer to `ROLE`.
pub(super) fn says_master(answer: &Value) -> Result<(), Unavailable> {
    let role = match answer {
        Value::Array(fields) => fields.first(),
        Value::ServerError(error) => return Err(Unavailable::from(error)),
        _ => None,
    };
    match role {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err(NoMaster::Demoted.into()),
    }
}
