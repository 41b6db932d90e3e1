//! A group of Redis servers that sentinels watch over: one master, two replicas, three sentinels.
//!
//! Self-contained but for `redis_server`, so that other crates' tests can include both by path.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;

use super::redis_server::{RedisServer, answers, end, free_port};

/// The name of the group.
pub(crate) const GROUP: &str = "mymaster";

/// The password of the servers that hold records.
pub(crate) const PASSWORD: &str = "the-password-of-the-records";

/// The password of the sentinels.
pub(crate) const SENTINEL_PASSWORD: &str = "the-password-of-the-sentinels";

/// How long the group may take to agree on something on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The group. Dropping it ends every process.
pub(crate) struct Group {
    /// The first is the master at first.
    pub(crate) servers: Vec<RedisServer>,
    pub(crate) sentinels: Vec<Sentinel>,
}

/// One sentinel.
pub(crate) struct Sentinel {
    child: Child,
    pub(crate) port: u16,
    _directory: tempfile::TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Sentinel {
    fn start(master: &str) -> Self {
        let (host, port) = master.split_once(':').unwrap();
        for _ in 0..10 {
            let directory = tempfile::tempdir().unwrap();
            let own = free_port();
            let config = format!(
                "port {own}\nbind 127.0.0.1\nrequirepass {SENTINEL_PASSWORD}\n\
                 sentinel sentinel-pass {SENTINEL_PASSWORD}\n\
                 sentinel monitor {GROUP} {host} {port} 2\nsentinel auth-pass {GROUP} {PASSWORD}\n\
                 sentinel down-after-milliseconds {GROUP} 3000\nsentinel failover-timeout {GROUP} 10000\n"
            );
            let file = directory.path().join("sentinel.conf");
            std::fs::write(&file, config).unwrap();
            let mut child = Command::new("redis-server")
                .arg(&file)
                .arg("--sentinel")
                .current_dir(directory.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-server must be installed to run this test");
            if answers(&mut child, own) {
                return Self { child, port: own, _directory: directory };
            }
            end(&mut child);
        }
        panic!("no sentinel started");
    }

    /// Its address.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends the process without a farewell.
    pub(crate) fn kill(&mut self) {
        end(&mut self.child);
        assert!(TcpStream::connect(("127.0.0.1", self.port)).is_err());
    }

    /// Stops the process from running; it keeps its sockets and answers nothing.
    pub(crate) fn pause(&self) {
        let sent = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status();
        assert!(sent.expect("the kill command").success());
    }

    /// Asks it; `None` if it does not answer.
    pub(crate) async fn ask(&self, words: &[&str]) -> Option<redis::Value> {
        let mut connection = connect(&self.address(), SENTINEL_PASSWORD).await?;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.ok()
    }
}

impl Group {
    /// Starts a group and waits until its sentinels know each other and the replicas.
    pub(crate) async fn start() -> Self {
        let own = ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"];
        let master = RedisServer::start_with(&own);
        let address = master.address();
        let port = address.rsplit_once(':').unwrap().1.to_owned();
        let replica = [&own[..], &["--replicaof", "127.0.0.1", &port]].concat();
        let mut servers = vec![master];
        servers.extend((0..2).map(|_| RedisServer::start_with(&replica)));
        let sentinels: Vec<Sentinel> = (0..3).map(|_| Sentinel::start(&address)).collect();
        let group = Self { servers, sentinels };
        group.settled().await;
        group
    }

    /// Waits until every sentinel knows two others and two replicas that are in step.
    async fn settled(&self) {
        for sentinel in &self.sentinels {
            agreed("a sentinel knows the group", async || {
                let Some(answer) = sentinel.ask(&["SENTINEL", "MASTER", GROUP]).await else { return false };
                let fields: std::collections::HashMap<String, String> =
                    redis::from_redis_value(answer).unwrap_or_default();
                fields.get("num-other-sentinels").is_some_and(|n| n == "2")
                    && fields.get("num-slaves").is_some_and(|n| n == "2")
            })
            .await;
        }
        for server in &self.servers[1..] {
            agreed("a replica is in step", async || {
                let info = ask(server, &["INFO", "replication"]).await.unwrap_or_default();
                info.contains("master_link_status:up")
            })
            .await;
        }
    }

    /// The address of the master, as one sentinel knows it.
    pub(crate) async fn master(&self) -> Option<String> {
        let answer = self.sentinels[1].ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP]).await?;
        let (host, port): (String, u16) = redis::from_redis_value(answer).ok()?;
        Some(format!("{host}:{port}"))
    }

    /// Waits until another server than `old` is the master, and says which.
    pub(crate) async fn another_master(&self, old: &str) -> &RedisServer {
        agreed("there is another master", async || match self.master().await {
            Some(new) if new != old => {
                let server = self.servers.iter().find(|server| server.address() == new).unwrap();
                let info = ask(server, &["INFO", "replication"]).await.unwrap_or_default();
                info.contains("role:master")
            }
            _ => false,
        })
        .await;
        let new = self.master().await.unwrap();
        self.servers.iter().find(|server| server.address() == new).unwrap()
    }
}

async fn connect(address: &str, password: &str) -> Option<MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://:{password}@{address}")).unwrap();
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(10)))
        .set_response_timeout(Some(Duration::from_secs(10)));
    client.get_multiplexed_async_connection_with_config(&config).await.ok()
}

/// Asks one of the servers that hold records; `None` if it does not answer.
pub(crate) async fn ask(server: &RedisServer, words: &[&str]) -> Option<String> {
    let mut connection = connect(&server.address(), PASSWORD).await?;
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.ok()
}

/// Asks until it is so, for as long as a group may take.
pub(crate) async fn agreed(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !happened().await {
        assert!(Instant::now() < give_up, "it took too long until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
