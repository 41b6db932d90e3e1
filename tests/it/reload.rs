//! SIGHUP: what a new configuration changes, what a broken one does not, and what outlives both.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::SinkExt as _;
use openim_standin::{Options, Standin};
use tokio_tungstenite::tungstenite::Message;

use crate::support::ws::{dial, next, target};
use crate::support::{Client, Gateway, Person, RedisServer, Sent, Setup, eventually};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

/// What the gateway says when a reload took effect, and when it did not.
const OK: &str = "configuration reloaded";
const REFUSED: &str = "configuration refused";

struct World {
    openim: Standin,
    redis: RedisServer,
    gateway: Gateway,
    ann: Person,
    /// The configuration that the gateway started with.
    yaml: String,
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
    let yaml = setup.yaml();
    World { gateway: setup.start().await, openim, redis, ann, yaml }
}

/// How often the gateway has said this.
fn said(gateway: &Gateway, message: &str) -> usize {
    gateway.stderr().matches(message).count()
}

impl World {
    /// Reloads, waiting for the word that it is done.
    async fn reload(&self, message: &str) {
        let before = said(&self.gateway, message);
        self.gateway.signal("-HUP");
        eventually(message, async || said(&self.gateway, message) > before).await;
    }

    async fn reload_with(&self, yaml: &str, message: &str) {
        std::fs::write(self.gateway.config(), yaml).unwrap();
        self.reload(message).await;
    }

    /// The configuration with one more public route, `/<name>/`.
    fn with_route(&self, name: &str) -> String {
        let route = format!("routes:\n  - {{ prefix: /{name}/, upstream: openim_api, public: true }}");
        self.yaml.replacen("routes:", &route, 1)
    }

    /// Whether the route `/<name>/` is in force.
    async fn has_route(&self, name: &str) -> bool {
        let reply = self.gateway.send(&Sent::new("GET", &format!("/{name}/x"))).await;
        // OpenIM knows no such path either, but says so in its own words.
        assert_eq!(reply.status, 404);
        reply.json()["errCode"] != 20201
    }

    async fn serves(&self) {
        assert_eq!(self.gateway.send(&self.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    }

    async fn reloads(&self, result: &str) -> f64 {
        self.gateway.metric(&format!("imgate_config_reloads_total{{result=\"{result}\"}}")).await
    }
}

#[tokio::test]
async fn a_changed_route_takes_effect() {
    let w = world().await;
    assert!(!w.has_route("new").await);
    let loaded = w.gateway.metric("imgate_config_loaded_timestamp_seconds").await;
    w.reload_with(&w.with_route("new"), OK).await;
    assert!(w.has_route("new").await);
    w.reload_with(&w.yaml, OK).await;
    assert!(!w.has_route("new").await);
    assert_eq!((w.reloads("ok").await, w.reloads("refused").await), (2.0, 0.0));
    assert!(w.gateway.metric("imgate_config_loaded_timestamp_seconds").await >= loaded);
    w.serves().await;
}

#[tokio::test]
async fn a_changed_table_takes_effect() {
    let table = |paths: &str| format!("post: [{paths}]\n");
    let w = world_with(|s| {
        s.files = vec![("jobs.yaml".to_owned(), table("/user/get_self_info"))];
        s.routes = "  - { table: jobs.yaml, at: /jobs, upstream: openim_api, public: true }".to_owned();
    })
    .await;
    let status = async || w.gateway.send(&Sent::new("POST", "/jobs/friend/x").body(b"{}")).await.verdict();
    assert_eq!(status().await, (404, 20201));
    let file = w.gateway.config().with_file_name("jobs.yaml");
    std::fs::write(&file, table("/user/get_self_info, /friend/x")).unwrap();
    w.reload(OK).await;
    assert_ne!(status().await, (404, 20201));
    // A table is as much a part of the configuration as the file that names it.
    std::fs::write(&file, "post: [/friend/x, /friend/x]\n").unwrap();
    w.reload(REFUSED).await;
    assert!(w.gateway.stderr().contains("jobs.yaml:1:19: post[1]: POST /jobs/friend/x is taken"));
    assert_ne!(status().await, (404, 20201));
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_explained() {
    let w = world().await;
    w.reload_with(&w.with_route("kept"), OK).await;
    let line_of = |text: &str, found: &str| text[..text.find(found).unwrap()].matches('\n').count() + 1;
    let broken = |from: &str, to: &str| w.yaml.replacen(from, to, 1);
    let unknown_key = broken("public: true }", "public: true, pubic: true }");
    let line = line_of(&unknown_key, "pubic");
    let cases = [
        (broken("routes:", "routes: ]"), "imgate.yaml:".to_owned(), ""),
        (unknown_key.clone(), format!("imgate.yaml:{line}:"), "hint: did you mean `public`?"),
        (
            broken("chain: user", "chain: usr"),
            "no chain named `usr`".to_owned(),
            "hint: did you mean `user`?",
        ),
        (
            broken("public_url:", "public_url: x\npublic_url:"),
            "`public_url` stands here twice".to_owned(),
            "",
        ),
        (broken("    - inject_token: {}", "\t- inject_token: {}"), "imgate.yaml:".to_owned(), ""),
        (broken("    - resolve_token: {}\n", ""), "chains.user[".to_owned(), ""),
        (broken("chain: user }", "public: false }"), "neither a chain nor".to_owned(), "hint: name a chain"),
        (w.yaml[..w.yaml.len() / 2].to_owned(), "imgate.yaml".to_owned(), ""),
        (String::new(), "imgate.yaml:1:1".to_owned(), ""),
        ("x".repeat(2 * 1024 * 1024), "larger than 1 MiB".to_owned(), ""),
    ];
    let count = cases.len();
    for (yaml, expected, hint) in cases {
        let said_before = w.gateway.stderr().len();
        w.reload_with(&yaml, REFUSED).await;
        let message = w.gateway.stderr()[said_before..].to_owned();
        assert!(message.contains(&expected) && message.contains(hint), "{expected}, {hint} in {message}");
        assert!(message.contains("\"level\":\"ERROR\""), "{message}");
        assert!(w.has_route("kept").await, "{expected}");
    }
    std::fs::remove_file(w.gateway.config()).unwrap();
    w.reload(REFUSED).await;
    assert!(w.gateway.stderr().contains("imgate.yaml: cannot be read"));
    w.serves().await;
    assert!(w.has_route("kept").await);
    assert_eq!(w.reloads("refused").await, (count + 1) as f64);
    // It is only the file that is broken: a good one is taken again.
    w.reload_with(&w.yaml, OK).await;
    assert!(!w.has_route("kept").await);
}

#[tokio::test]
async fn a_file_may_be_renamed_into_place_or_swapped_behind_a_link() {
    let w = world().await;
    let file = w.gateway.config();
    let beside = |name: &str| file.with_file_name(name);
    std::fs::write(beside("renamed.yaml"), w.with_route("renamed")).unwrap();
    std::fs::rename(beside("renamed.yaml"), &file).unwrap();
    w.reload(OK).await;
    assert!(w.has_route("renamed").await);

    // As a mounted Kubernetes ConfigMap is: the file leads through a link to a folder, which is swapped.
    let publish = |generation: &str, name: &str| {
        std::fs::create_dir(beside(generation)).unwrap();
        std::fs::write(beside(generation).join("imgate.yaml"), w.with_route(name)).unwrap();
        std::os::unix::fs::symlink(generation, beside("..data_tmp")).unwrap();
        std::fs::rename(beside("..data_tmp"), beside("..data")).unwrap();
    };
    publish("first", "linked");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(Path::new("..data/imgate.yaml"), &file).unwrap();
    w.reload(OK).await;
    assert!(w.has_route("linked").await);
    publish("second", "swapped");
    w.reload(OK).await;
    assert!(w.has_route("swapped").await && !w.has_route("linked").await);
}

#[tokio::test]
async fn what_only_a_restart_can_change_is_said() {
    let w = world().await;
    let yaml = w
        .with_route("new")
        .replace("listeners: [{ address: \"127.0.0.1:0\" }]", "listeners: [{ address: \"127.0.0.2:0\" }]")
        .replace("file: access.log", "file: another.log");
    w.reload_with(&format!("threads: 7\n{yaml}"), OK).await;
    for what in ["listeners", "threads", "access_log"] {
        // It is said right after the word that the reload is done.
        let once = async || said(&w.gateway, &format!("\"what\":\"{what}\"")) == 1;
        eventually(what, once).await;
    }
    assert_eq!(said(&w.gateway, "\"what\":\"admin\""), 0);
    // The rest of it is in force, on the listener there was.
    assert!(w.has_route("new").await);
    w.serves().await;
}

#[tokio::test]
async fn a_replay_is_still_one_after_a_reload() {
    let w = world().await;
    let sent = w.ann.post(FRIENDS, BODY);
    assert_eq!(w.gateway.send(&sent).await.verdict(), (200, 0));
    for yaml in [w.yaml.clone(), w.with_route("new")] {
        w.reload_with(&yaml, OK).await;
        assert_eq!(w.gateway.send(&sent).await.verdict(), (401, 20105));
    }
}

/// How many commands Redis got that are not about the connection itself.
async fn commands(redis: &RedisServer) -> Vec<String> {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let text: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let quiet = ["ping", "info", "hello", "client", "config", "select"];
    let stats = text.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(','));
    let kept = stats.filter(|(name, _)| !quiet.iter().any(|q| name.starts_with(q)));
    kept.map(|(name_and_calls, _)| name_and_calls.to_owned()).collect()
}

#[tokio::test]
async fn the_cache_survives_a_reload() {
    let w = world().await;
    w.serves().await;
    let before = commands(&w.redis).await;
    assert!(!before.is_empty());
    for _ in 0..5 {
        w.reload_with(&w.with_route("new"), OK).await;
        w.serves().await;
    }
    assert_eq!(commands(&w.redis).await, before);
    // With another store there is nothing to survive.
    let other = w.with_route("new").replace("ttl: 60s", "ttl: 59s");
    w.reload_with(&other, OK).await;
    eventually("the new store answers", async || {
        w.gateway.send(&w.ann.post(FRIENDS, BODY)).await.verdict() == (200, 0)
    })
    .await;
    assert_ne!(commands(&w.redis).await, before);
}

/// Sends signed requests on one connection until told to stop; each must go well.
async fn keep_asking(
    address: std::net::SocketAddr,
    ann: Person,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) {
    let mut client = Client::connect(address).await;
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(client.send(&ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_load_cost_no_request_and_no_socket() {
    // A machine that is too slow for the load would shed some of it, which is no loss of a reload.
    let w = world_with(|s| s.more = "limits: { shed: { target: 0s } }".to_owned()).await;
    w.serves().await;
    let token = w.openim.mint("bob", 2);
    let mut socket = dial(w.gateway.address, &target("bob", &token, 2, "")).await.unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(keep_asking(w.gateway.address, w.ann.clone(), stop, done))
        })
        .collect();
    let other = w.with_route("other");
    for i in 0..200 {
        w.reload_with(if i % 2 == 0 { &other } else { &w.yaml }, OK).await;
        if i % 20 == 0 {
            socket.send(Message::binary("still here")).await.unwrap();
            assert_eq!(next(&mut socket).await, Some(Message::binary("still here")));
        }
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(done.load(Ordering::Relaxed) > 200, "{done:?} requests");
    assert_eq!((w.reloads("ok").await, w.reloads("refused").await), (200.0, 0.0));
    assert_eq!(w.gateway.metric("imgate_tunnels").await, 1.0);
    assert_eq!(w.gateway.metric("imgate_refusals_total{cause=\"upstream_unreachable\"}").await, 0.0);
}
