//! SIGUSR2: the binary on disk takes over the sockets that listen, or does not and nothing is lost.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use openim_standin::{Options, Standin};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use crate::support::ws::{dial, next, target};
use crate::support::{Client, Gateway, Person, RedisServer, Sent, Setup, within};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

/// What the old process says when it gave way, and when it did not.
const DONE: &str = "upgrade: the successor serves";
const FAILED: &str = "upgrade failed, this process goes on";

/// How long one process may take to follow another on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

struct World {
    openim: Standin,
    redis: RedisServer,
    gateway: Gateway,
    ann: Person,
    yaml: String,
    /// Where the binary is, by the name that the gateway was started with.
    bin: TempDir,
}

async fn world_with(change: impl FnOnce(&mut Setup)) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let bin = tempfile::tempdir().unwrap();
    release(&bin, Path::new(env!("CARGO_BIN_EXE_imgate")));
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.program = bin.path().join("imgate");
    change(&mut setup);
    let yaml = setup.yaml();
    World { gateway: setup.start().await, openim, redis, ann, yaml, bin }
}

/// Makes this the binary, the way a deployment moves its link.
fn release(bin: &TempDir, program: &Path) {
    let (link, name) = (bin.path().join("next"), bin.path().join("imgate"));
    std::os::unix::fs::symlink(program, &link).unwrap();
    std::fs::rename(link, name).unwrap();
}

/// Whether a process runs; one that has ended and was not asked for its end does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

impl World {
    fn said(&self, message: &str) -> usize {
        self.gateway.stderr().matches(message).count()
    }

    /// The processes that took over, in order.
    fn successors(&self) -> Vec<u32> {
        let text = self.gateway.stderr();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let done = lines.filter(|line| line["message"] == DONE);
        done.map(|line| u32::try_from(line["pid"].as_u64().unwrap()).unwrap()).collect()
    }

    /// The process that serves now.
    fn serving(&self) -> u32 {
        self.successors().last().copied().unwrap_or(self.gateway.pid())
    }

    /// Asks the one that serves to give way, and waits for what it says of that.
    async fn upgrade(&self, message: &str) {
        let before = self.said(message);
        signal("-USR2", self.serving());
        within(PATIENCE, message, async || self.said(message) > before).await;
    }

    async fn serves(&self) {
        assert_eq!(self.gateway.send(&self.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    }

    async fn upgrades(&self, result: &str) -> f64 {
        self.gateway.metric(&format!("imgate_upgrades_total{{result=\"{result}\"}}")).await
    }

    /// Makes a script the binary.
    fn release_script(&self, text: &str) {
        let script = self.bin.path().join("script");
        std::fs::write(&script, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        release(&self.bin, &script);
    }
}

/// Nobody else knows the processes that took over.
impl Drop for World {
    fn drop(&mut self) {
        let lives = |pid: &u32| runs(*pid);
        for pid in self.successors().into_iter().filter(lives) {
            signal("-TERM", pid);
        }
        let give_up = Instant::now() + PATIENCE;
        while self.successors().iter().any(lives) && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(5));
        }
        for pid in self.successors().into_iter().filter(lives) {
            signal("-KILL", pid);
        }
    }
}

/// What a client under load keeps to itself.
#[derive(Clone)]
struct Load {
    address: SocketAddr,
    ann: Person,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

impl Load {
    /// Sends until told to stop; each request must go well. With `keep` a connection is used until an
    /// answer says that it ends, as any HTTP/1.1 client does.
    async fn run(self, keep: bool) {
        let mut kept: Option<Client> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let mut client = match kept.take() {
                Some(client) => client,
                None => Client::connect(self.address).await,
            };
            let reply = client.send(&self.ann.post(FRIENDS, BODY)).await;
            assert_eq!(reply.verdict(), (200, 0));
            self.done.fetch_add(1, Ordering::Relaxed);
            let ends = reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            kept = Some(client).filter(|_| keep && !ends);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_under_load_cost_no_request() {
    // A machine that is too slow for the load would shed some of it, which is no loss of a hand-over.
    let w = world_with(|s| s.more = "limits: { shed: { target: 0s } }".to_owned()).await;
    let load =
        Load { address: w.gateway.address, ann: w.ann.clone(), stop: Arc::default(), done: Arc::default() };
    let clients: Vec<_> = (0..6).map(|i| tokio::spawn(load.clone().run(i % 2 == 0))).collect();
    for i in 1..=5 {
        w.upgrade(DONE).await;
        let before = load.done.load(Ordering::Relaxed);
        within(PATIENCE, "the successor answers", async || load.done.load(Ordering::Relaxed) > before + 20)
            .await;
        assert_eq!(w.successors().iter().collect::<HashSet<_>>().len(), i);
    }
    load.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    // Each of the old ones has ended; the last one serves.
    let last = w.serving();
    let old = w.successors().into_iter().chain([w.gateway.pid()]).filter(|pid| *pid != last);
    for pid in old.collect::<Vec<_>>() {
        within(PATIENCE, "the old process ends", async || !runs(pid)).await;
    }
    assert!(runs(last));
}

#[tokio::test]
async fn an_old_socket_lives_on_beside_new_ones() {
    let mut w = world_with(|s| s.more = "limits: { drain_timeout: 60s }".to_owned()).await;
    let token = w.openim.mint("bob", 2);
    let mut old = dial(w.gateway.address, &target("bob", &token, 2, "")).await.unwrap();
    w.upgrade(DONE).await;
    let mut new = dial(w.gateway.address, &target("bob", &token, 2, "")).await.unwrap();
    for socket in [&mut old, &mut new] {
        socket.send(Message::binary("hello")).await.unwrap();
        assert_eq!(next(socket).await, Some(Message::binary("hello")));
    }
    assert_eq!(w.gateway.metric("imgate_tunnels").await, 1.0);
    assert!(runs(w.gateway.pid()));
    // The old process waits for its socket, and for nothing else.
    drop(old);
    assert_eq!(w.gateway.ended().await.code(), Some(0));
    new.send(Message::binary("still here")).await.unwrap();
    assert_eq!(next(&mut new).await, Some(Message::binary("still here")));
}

#[tokio::test]
async fn an_old_socket_ends_with_the_drain_timeout() {
    let mut w = world_with(|s| s.more = "limits: { drain_timeout: 200ms }".to_owned()).await;
    let token = w.openim.mint("bob", 2);
    let mut old = dial(w.gateway.address, &target("bob", &token, 2, "")).await.unwrap();
    w.upgrade(DONE).await;
    let ended = next(&mut old).await;
    assert!(ended.as_ref().is_none_or(Message::is_close), "{ended:?}");
    assert_eq!(w.gateway.ended().await.code(), Some(0));
    w.serves().await;
}

#[tokio::test]
async fn a_successor_that_does_not_come_about_leaves_the_old_one_serving() {
    let w = world_with(|s| s.more = "limits: { upgrade_timeout: 2s }".to_owned()).await;
    let imgate = PathBuf::from(env!("CARGO_BIN_EXE_imgate"));
    let cases: [(&str, &str); 4] = [
        ("exit 3", "ended before it was ready: exit status: 3"),
        ("kill -SEGV $$", "ended before it was ready: signal: 11"),
        ("exec sleep 600", "was not ready within 2s"),
        // It closes the socket without a word, and lives.
        ("exec sleep 600 <&-", "ready"),
    ];
    let mut failures = 0.0;
    for (script, why) in cases {
        w.release_script(script);
        let before = w.gateway.stderr().len();
        w.upgrade(FAILED).await;
        let message = w.gateway.stderr()[before..].to_owned();
        assert!(message.contains(why), "{script}: {message}");
        failures += 1.0;
        assert_eq!((w.upgrades("failed").await, w.upgrades("ok").await), (failures, 0.0), "{script}");
        w.serves().await;
    }
    std::fs::remove_file(w.bin.path().join("imgate")).unwrap();
    w.upgrade(FAILED).await;
    assert!(w.gateway.stderr().contains("cannot be started: No such file"));
    w.serves().await;

    // A configuration that is refused: the successor itself says what is wrong with it.
    release(&w.bin, &imgate);
    std::fs::write(w.gateway.config(), w.yaml.replace("chain: user", "chain: usr")).unwrap();
    w.upgrade(FAILED).await;
    let text = w.gateway.stderr();
    assert!(text.contains("no chain named `usr`") && text.contains("exit status: 78"), "{text}");
    // An address that somebody else has.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(w.gateway.config(), w.yaml.replacen("127.0.0.1:0", &address, 1)).unwrap();
    w.upgrade(FAILED).await;
    assert!(w.gateway.stderr().contains(&format!("cannot listen on {address}")));
    w.serves().await;

    // None of that stands in the way of one that is good.
    std::fs::write(w.gateway.config(), &w.yaml).unwrap();
    w.upgrade(DONE).await;
    w.serves().await;
}

#[tokio::test]
async fn a_successor_without_a_store_does_not_replace_one_with_a_cache() {
    let w = world_with(|s| s.store = s.store.replace("10s", "2s")).await;
    w.serves().await;
    w.redis.pause();
    w.upgrade(FAILED).await;
    assert!(w.gateway.stderr().contains("the store is not ready, and the process before"));
    w.redis.resume();
    w.serves().await;
}

#[tokio::test]
async fn one_successor_at_a_time() {
    let w = world_with(|s| s.more = "limits: { upgrade_timeout: 60s }".to_owned()).await;
    let started = w.bin.path().join("started");
    w.release_script(&format!("touch {}; exec sleep 600", started.display()));
    signal("-USR2", w.gateway.pid());
    within(PATIENCE, "a successor was started", async || started.exists()).await;
    w.upgrade("upgrade refused: a successor is on its way already").await;
    assert_eq!(w.upgrades("refused").await, 1.0);
    // A reload is not held up by it.
    signal("-HUP", w.gateway.pid());
    within(PATIENCE, "the reload is done", async || w.said("configuration reloaded") > 0).await;
    w.serves().await;
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .flatten()
        .map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    text.collect::<String>().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_stop_ends_the_successor_that_was_on_its_way() {
    let mut w = world_with(|s| s.more = "limits: { upgrade_timeout: 600s }".to_owned()).await;
    let started = w.bin.path().join("started");
    w.release_script(&format!("touch {}; exec sleep 600", started.display()));
    signal("-USR2", w.gateway.pid());
    within(PATIENCE, "a successor was started", async || started.exists()).await;
    let successors = children(w.gateway.pid());
    assert_eq!(successors.len(), 1);
    w.gateway.signal("-TERM");
    assert_eq!(w.gateway.ended().await.code(), Some(0));
    assert!(!runs(successors[0]));
}

/// The sockets that a process has open, by their numbers in the kernel.
fn sockets(pid: u32) -> HashSet<String> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = open.filter_map(|fd| std::fs::read_link(fd.path()).ok()?.into_os_string().into_string().ok());
    links.filter(|link| link.starts_with("socket:")).collect()
}

#[tokio::test]
async fn nothing_but_listening_sockets_is_handed_over() {
    let w = world_with(|s| s.more = "limits: { drain_timeout: 60s }".to_owned()).await;
    let token = w.openim.mint("bob", 2);
    let _socket = dial(w.gateway.address, &target("bob", &token, 2, "")).await.unwrap();
    w.serves().await;
    let old = sockets(w.gateway.pid());
    w.upgrade(DONE).await;
    let shared: HashSet<_> = old.intersection(&sockets(w.serving())).cloned().collect();
    // The one for clients, and the admin's.
    assert_eq!(shared.len(), 2, "{shared:?}");
}

#[tokio::test]
async fn a_successor_takes_what_it_knows_binds_what_is_new_and_leaves_the_rest() {
    let w =
        world_with(|s| s.listeners = "{ address: \"127.0.0.1:0\" }, { address: \"127.0.0.2:0\" }".to_owned())
            .await;
    let listening = w.gateway.listening();
    let yaml = w.yaml.replace("127.0.0.2:0", "127.0.0.3:0");
    std::fs::write(w.gateway.config(), format!("threads: 3\n{yaml}")).unwrap();
    w.upgrade(DONE).await;
    w.serves().await;
    let new = w.gateway.listening()[listening.len()..].to_vec();
    assert_eq!(new[0], listening[0]);
    assert_eq!(new[1].ip().to_string(), "127.0.0.3");
    assert_eq!(Client::once(new[1], &w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    assert_eq!(w.gateway.metric("imgate_config_needs_restart{key=\"threads\"}").await, 0.0);
    let refused = async || tokio::net::TcpStream::connect(listening[1]).await.is_err();
    within(PATIENCE, "the address that is not in the file is closed", refused).await;
}

#[tokio::test]
async fn the_service_manager_is_told_whom_to_watch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let mut w = world_with(|s| {
        s.environment = vec![("NOTIFY_SOCKET".to_owned(), path.to_str().unwrap().to_owned())];
    })
    .await;
    let heard = std::cell::RefCell::new(String::new());
    let listen = || {
        let mut packet = [0; 4096];
        while let Ok(n) = manager.recv(&mut packet) {
            heard.borrow_mut().push_str(&format!("{}\n", String::from_utf8_lossy(&packet[..n])));
        }
        heard.borrow().clone()
    };
    within(PATIENCE, "it is ready", || std::future::ready(listen().contains("READY=1"))).await;
    w.upgrade(DONE).await;
    let main = format!("MAINPID={}\nREADY=1", w.serving());
    within(PATIENCE, "whom to watch", || std::future::ready(listen().contains(&main))).await;
    assert_eq!(w.gateway.ended().await.code(), Some(0));
    // A word of stopping from the old one would be taken for the whole service's.
    assert!(!listen().contains("STOPPING=1"), "{}", listen());
    assert_eq!(listen().matches("READY=1").count(), 2);
    signal("-TERM", w.serving());
    within(PATIENCE, "the successor stops", || std::future::ready(listen().contains("STOPPING=1"))).await;
}

#[tokio::test]
async fn storms_of_signals_are_weathered() {
    for last in ["-TERM", "-INT", "-QUIT"] {
        let mut w = world_with(|_| {}).await;
        for _ in 0..100 {
            signal("-HUP", w.gateway.pid());
        }
        w.serves().await;
        within(PATIENCE, "a reload is done", async || w.said("configuration reloaded") > 0).await;
        // In the midst of the next ones.
        for _ in 0..10 {
            signal("-HUP", w.gateway.pid());
        }
        w.gateway.signal(last);
        assert_eq!(w.gateway.ended().await.code(), Some(0), "{last}");
        assert_eq!(w.said("configuration refused"), 0);
    }
}

#[tokio::test]
async fn a_process_that_nobody_hands_over_to_says_so() {
    // Standard input is no socket: whoever set the variable did not mean this process.
    let w = world_with(|_| {}).await;
    let ran = Command::new(env!("CARGO_BIN_EXE_imgate"))
        .args(["run", "-c", w.gateway.config().to_str().unwrap()])
        .env("IMGATE_HANDOVER", "1")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(69), "{text}");
    assert!(text.contains("the socket of the process before cannot be used"), "{text}");
    assert_eq!(Client::once(w.gateway.address, &Sent::new("GET", "/x")).await.status, 404);
}
