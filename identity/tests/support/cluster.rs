//! A Redis Cluster of the test's own: three masters, each with a replica.
//!
//! Self-contained but for `redis_server`, so that other crates' tests can include both by path.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;

use super::redis_server::RedisServer;

/// How long a cluster may take to agree on something on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Nodes of a cluster. Dropping it ends them.
pub(crate) struct Cluster {
    /// The masters as they were at first, then the replica of each.
    pub(crate) nodes: Vec<RedisServer>,
}

impl Cluster {
    pub(crate) const MASTERS: usize = 3;

    /// Starts a cluster and waits until all of it works.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts it with more arguments for each node.
    pub(crate) async fn start_with(more: &[&str]) -> Self {
        let arguments = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "4000",
            "--cluster-allow-replica-migration",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ];
        let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
        let nodes = (0..2 * Self::MASTERS).map(|_| RedisServer::start_with(&arguments)).collect();
        let cluster = Self { nodes };
        cluster.join().await;
        cluster
    }

    /// The addresses of all nodes.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::address).collect()
    }

    async fn join(&self) {
        let last = 16384 / Self::MASTERS;
        for (i, node) in self.nodes.iter().enumerate() {
            let epoch = (i + 1).to_string();
            ask(node, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await.unwrap();
            if i < Self::MASTERS {
                let first = (i * last).to_string();
                let end = if i + 1 == Self::MASTERS { 16383 } else { (i + 1) * last - 1 }.to_string();
                ask(node, &["CLUSTER", "ADDSLOTSRANGE", &first, &end]).await.unwrap();
            }
        }
        for node in &self.nodes[1..] {
            let address = node.address();
            let (host, port) = address.split_once(':').unwrap();
            ask(&self.nodes[0], &["CLUSTER", "MEET", host, port]).await.unwrap();
        }
        agreed("all nodes know each other", async || {
            let mut known = 0;
            for node in &self.nodes {
                let nodes = ask(node, &["CLUSTER", "NODES"]).await.unwrap_or_default();
                known += usize::from(nodes.lines().filter(|line| !line.contains("handshake")).count() == 6);
            }
            known == self.nodes.len()
        })
        .await;
        for (i, replica) in self.nodes[Self::MASTERS..].iter().enumerate() {
            let master = self.id(i).await;
            ask(replica, &["CLUSTER", "REPLICATE", &master]).await.unwrap();
        }
        self.settled().await;
    }

    /// Waits until every node that runs says that all is well, and every replica follows a master.
    pub(crate) async fn settled(&self) {
        agreed("the cluster works", async || {
            for node in &self.nodes {
                let Some(info) = ask(node, &["CLUSTER", "INFO"]).await else { continue };
                let role = ask(node, &["INFO", "replication"]).await.unwrap_or_default();
                let follows = role.contains("role:master") || role.contains("master_link_status:up");
                if !info.contains("cluster_state:ok") || !follows {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// The id of a node.
    pub(crate) async fn id(&self, node: usize) -> String {
        ask(&self.nodes[node], &["CLUSTER", "MYID"]).await.unwrap()
    }

    /// Which of the masters, as they were at first, owns the slot of `key`.
    pub(crate) async fn master_of(&self, key: &str) -> usize {
        let slot: usize = self.slot(key).await.parse().unwrap();
        (slot / (16384 / Self::MASTERS)).min(Self::MASTERS - 1)
    }

    /// The slot of `key`.
    pub(crate) async fn slot(&self, key: &str) -> String {
        // A number and not a text, so it is asked for apart.
        let mut connection = connect(&self.nodes[Self::MASTERS - 1]).await.unwrap();
        let slot: u64 =
            redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query_async(&mut connection).await.unwrap();
        slot.to_string()
    }

    /// Makes a replica take its master's place, while both work.
    pub(crate) async fn promote(&self, replica: usize) {
        let mut order_again = Instant::now();
        agreed("the replica is a master", async || {
            // A server gives up after five seconds, and an order that comes before begins anew.
            if Instant::now() >= order_again {
                let _ = ask(&self.nodes[replica], &["CLUSTER", "FAILOVER"]).await;
                order_again = Instant::now() + Duration::from_secs(6);
            }
            self.calls_itself_master(replica).await
        })
        .await;
    }

    async fn calls_itself_master(&self, node: usize) -> bool {
        let role = ask(&self.nodes[node], &["INFO", "replication"]).await;
        role.is_some_and(|role| role.contains("role:master"))
    }

    /// Waits until a node is a master.
    pub(crate) async fn is_master(&self, node: usize) {
        agreed("the replica is a master", async || self.calls_itself_master(node).await).await;
    }
}

/// A connection to one node.
pub(crate) async fn connect(node: &RedisServer) -> Option<MultiplexedConnection> {
    let client = redis::Client::open(node.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(10)))
        .set_response_timeout(Some(Duration::from_secs(10)));
    client.get_multiplexed_async_connection_with_config(&config).await.ok()
}

/// Asks one node; `None` if it does not answer, or has no answer.
pub(crate) async fn ask(node: &RedisServer, words: &[&str]) -> Option<String> {
    let mut connection = connect(node).await?;
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.ok()
}

/// Asks until it is so, for as long as a cluster may take.
pub(crate) async fn agreed(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !happened().await {
        assert!(Instant::now() < give_up, "it took too long until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
