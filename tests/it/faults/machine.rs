//! The machine under the gateway: signals, logs, descriptors, ports, and a Redis with odd values in it.

use std::fs::OpenOptions;
use std::process::Command;
use std::time::Duration;

use futures_util::SinkExt as _;
use openim_standin::{Options, Standin};
use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::support::command::{imgate, shell};
use crate::support::ws::{dial, next, target};
use crate::support::{Client, Gateway, Person, RedisServer, Sent, Setup, eventually, leaks, writer};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

struct World {
    gateway: Gateway,
    ann: Person,
    openim: Standin,
    redis: RedisServer,
}

async fn world() -> World {
    world_with(|_| {}).await
}

async fn world_with(change: impl FnOnce(&mut Setup)) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let mut setup = Setup::new(&openim, &redis).patient();
    change(&mut setup);
    World { gateway: setup.start().await, ann, openim, redis }
}

impl World {
    async fn serves(&self) {
        let reply = self.gateway.send(&self.ann.post(FRIENDS, BODY)).await;
        assert_eq!(reply.verdict(), (200, 0), "{}", reply.text());
    }

    async fn own_redis(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
        client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
    }
}

/// A process may be asked about by anybody who may end it.
fn limit_descriptors(gateway: &Gateway, most: usize) {
    let pid = gateway.pid().to_string();
    let limit = format!("--nofile={most}:{most}");
    assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
}

#[tokio::test]
async fn row_24_a_value_of_10_mib_is_nobodys_fault() {
    let w = world_with(|setup| setup.store = setup.store.replace("10s", "1s")).await;
    let bob = Person::new("bob", &w.redis, &w.openim).await;
    let mut redis = w.own_redis().await;
    let huge = "x".repeat(10 << 20);
    redis::cmd("SET").arg("im:token:bob").arg(&huge).exec_async(&mut redis).await.unwrap();
    w.serves().await;
    let reply = w.gateway.send(&bob.post(FRIENDS, r#"{"userID":"bob"}"#)).await;
    assert_eq!(reply.verdict(), (503, 20401), "{}", reply.text());
    w.serves().await;
    writer(&w.redis).await.put_token(&bob.user, &bob.token).await.unwrap();
    let served =
        async || w.gateway.send(&bob.post(FRIENDS, r#"{"userID":"bob"}"#)).await.verdict() == (200, 0);
    eventually("bob is served with a token that is one", served).await;
}

#[tokio::test]
async fn row_37_a_socket_outlives_its_token() {
    let w = world().await;
    let mut socket = dial(w.gateway.address, &target("ann", &w.ann.token, 2, "")).await.unwrap();
    let other = w.openim.mint("ann", 2);
    leaks::secret(&other);
    let store = writer(&w.redis).await;
    store.put_token(&w.ann.user, &other).await.unwrap();
    store.delete_token(&w.ann.user).await.unwrap();
    let gone = async || w.gateway.send(&w.ann.post(FRIENDS, BODY)).await.verdict() == (401, 1507);
    eventually("the gateway knows", gone).await;
    socket.send(Message::binary("still here")).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::binary("still here")));
}

#[tokio::test]
async fn row_38_a_storm_of_signals_is_one_reload_and_one_stop() {
    let mut w = world().await;
    for _ in 0..50 {
        w.gateway.signal("-HUP");
    }
    w.serves().await;
    let ok = "imgate_config_reloads_total{result=\"ok\"}";
    eventually("it reloads", async || w.gateway.metric(ok).await >= 1.0).await;
    w.serves().await;
    for _ in 0..3 {
        // The process may be gone before the last one.
        let _ = Command::new("kill").args(["-TERM", &w.gateway.pid().to_string()]).status();
    }
    assert!(w.gateway.ended().await.success());
    assert!(TcpStream::connect(w.gateway.address).await.is_err());
}

#[tokio::test]
async fn row_41_a_log_that_takes_nothing_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert_eq!(shell(&format!("mkfifo {}", pipe.display())).code, 0);
    // Held open for reading, and never read.
    let _reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    for output in ["/dev/full".to_owned(), pipe.display().to_string()] {
        let mut w = world_with(|setup| setup.access_log = format!("{{ file: {output} }}")).await;
        let mut client = Client::connect(w.gateway.address).await;
        // A pipe holds 64 KiB, which these lines are more than.
        for _ in 0..400 {
            let reply = client.send(&Sent::new("GET", "/nowhere")).await;
            assert_eq!(reply.verdict(), (404, 20201), "{output}");
        }
        w.serves().await;
        assert_eq!(w.gateway.admin_get("/healthz").await.status, 200, "{output}");
        w.gateway.signal("-TERM");
        assert!(w.gateway.ended().await.success(), "{output}");
    }
}

#[tokio::test]
async fn row_42_a_slow_reader_of_metrics_holds_up_nobody() {
    let w = world().await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().unwrap();
        // Little room, so that the gateway soon waits for this reader.
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(w.gateway.admin).await.unwrap();
        let wire = Sent::new("GET", "/metrics").wire().repeat(100);
        // The admin listener may have heard enough.
        let _ = tokio::time::timeout(Duration::from_millis(100), stream.write_all(&wire)).await;
        slow.push(stream);
    }
    for _ in 0..20 {
        w.serves().await;
    }
    assert_eq!(w.gateway.admin_get("/readyz").await.status, 200);
    assert!(w.gateway.admin_get("/metrics").await.text().contains("imgate_store_up 1"));
}

#[tokio::test]
async fn row_43_without_descriptors_the_gateway_rests_and_recovers() {
    let w = world().await;
    let mut kept = Client::connect(w.gateway.address).await;
    assert_eq!(kept.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    limit_descriptors(&w.gateway, 60);
    let mut crowd = Vec::new();
    for _ in 0..120 {
        crowd.push(TcpStream::connect(w.gateway.address).await.unwrap());
    }
    let rests = || w.gateway.stderr().matches("accepting rests").count();
    eventually("there are none left", async || rests() > 0).await;
    // Who was there is served, by the connection that is there.
    for _ in 0..5 {
        assert_eq!(kept.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    }
    drop(crowd);
    let served = async || {
        let mut stream = TcpStream::connect(w.gateway.address).await.unwrap();
        stream.write_all(&Sent::new("GET", "/nowhere").wire()).await.unwrap();
        let mut first = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read_exact(&mut first)).await;
        matches!(read, Ok(Ok(_))) && &first == b"HTTP/1.1 404"
    };
    eventually("newcomers are served again", served).await;
    w.serves().await;
    // It tried again and again, and said so once.
    assert_eq!(rests(), 1);
}

#[tokio::test]
async fn row_43_a_taken_port_ends_the_start_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let nobody = "127.0.0.1:9".parse().unwrap();
    let mut setup = Setup::at(nobody, nobody, "");
    setup.store = "memory: {}".to_owned();
    setup.listeners = format!("{{ address: \"{address}\" }}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("imgate.yaml"), setup.yaml()).unwrap();
    let ran = imgate(dir.path(), &["run", "-c", "imgate.yaml"]);
    // 124 is a command that had to be ended.
    assert!(ran.code > 0 && ran.code != 124, "{}", ran.code);
    assert!(ran.stderr.contains(&address.to_string()), "{}", ran.stderr);
    assert!(!ran.stderr.contains("\"listening\""), "{}", ran.stderr);
}

#[tokio::test]
async fn row_49_guesses_cost_redis_one_look_each_at_most() {
    let w = world().await;
    w.serves().await;
    let guess = Person::unknown("eve", &w.openim);
    let mut redis = w.own_redis().await;
    let before = looks(&mut redis).await;
    for _ in 0..50 {
        let reply = w.gateway.send(&guess.post(FRIENDS, BODY)).await;
        assert_eq!(reply.verdict(), (401, 1501));
    }
    let looked = looks(&mut redis).await - before;
    // What is known not to be there is known for two seconds, and a busy machine is slow.
    assert!((1..25).contains(&looked), "{looked} looks for 50 requests");
}

/// How many reads Redis has answered.
async fn looks(redis: &mut MultiplexedConnection) -> u64 {
    let info: String = redis::cmd("INFO").arg("stats").query_async(redis).await.unwrap();
    let count = |name: &str| -> u64 {
        let value = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        value.trim().parse().unwrap()
    };
    count("keyspace_hits:") + count("keyspace_misses:")
}
