//! How many may come in, and by which doors: caps, Unix sockets, and what happens when descriptors run out.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::support::command::imgate;
use crate::support::ws::{Door, SWITCH, handshake, read_exactly, target};
use crate::support::{Client, Gateway, Sent, Setup, eventually, within};

/// What any request for nothing gets.
const NOWHERE: (u16, i64) = (404, 20201);

/// A gateway that needs no store, on these listeners and with these keys at the top.
fn setup(listeners: &str, top: &str) -> Setup {
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let mut setup = Setup::at(nobody, nobody, "");
    setup.store = "memory: {}".to_owned();
    setup.listeners = listeners.to_owned();
    setup.more = top.to_owned();
    setup
}

const ONE: &str = r#"{ address: "127.0.0.1:0" }"#;

fn get() -> Sent {
    Sent::new("GET", "/nowhere")
}

/// A connection from this address of our own.
async fn from(source: &str, gateway: &Gateway) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    Client::over(socket.connect(gateway.address).await.unwrap())
}

/// Whether a connection is served; one that is refused is reset, perhaps before the request is sent.
async fn is_served(mut client: Client) -> Option<Client> {
    let (mut stream, _) = client.into_stream();
    let sent = tokio::io::AsyncWriteExt::write_all(&mut stream, &get().wire()).await;
    client = Client::over(stream);
    sent.ok()?;
    let reply = client.try_read("GET").await?;
    assert_eq!(reply.verdict(), NOWHERE);
    Some(client)
}

async fn refusals(gateway: &Gateway, reason: &str, at_least: f64) {
    let metric = format!("imgate_connections_refused_total{{reason=\"{reason}\"}}");
    eventually(&metric, async || gateway.metric(&metric).await >= at_least).await;
}

#[tokio::test]
async fn an_address_has_its_share_of_connections() {
    let gateway = setup(ONE, "limits: { connections_per_address: 2 }").start().await;
    let first = is_served(from("127.0.0.2", &gateway).await).await.unwrap();
    let _second = is_served(from("127.0.0.2", &gateway).await).await.unwrap();
    assert!(is_served(from("127.0.0.2", &gateway).await).await.is_none());
    refusals(&gateway, "connections_per_address", 1.0).await;
    assert!(is_served(from("127.0.0.3", &gateway).await).await.is_some());
    drop(first);
    eventually("the place is free again", async || {
        is_served(from("127.0.0.2", &gateway).await).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn all_connections_together_have_a_bound_and_sockets_count() {
    let door = Door::open().await;
    let mut setup = setup(ONE, "limits: { connections: 2 }");
    setup.ws = door.address();
    let gateway = setup.start().await;
    let client = is_served(from("127.0.0.2", &gateway).await).await.unwrap();
    let mut socket = Client::connect(gateway.address).await;
    socket.write(&handshake(&target("ann", "token", 2, "")).wire()).await;
    let (mut upstream, _) = door.accept().await;
    tokio::io::AsyncWriteExt::write_all(&mut upstream, SWITCH).await.unwrap();
    let (mut socket, _) = socket.into_stream();
    assert_eq!(read_exactly(&mut socket, SWITCH.len()).await, SWITCH);
    assert!(is_served(from("127.0.0.3", &gateway).await).await.is_none());
    refusals(&gateway, "connections", 1.0).await;
    drop(client);
    eventually("the place is free again", async || {
        is_served(from("127.0.0.3", &gateway).await).await.is_some()
    })
    .await;
    drop(socket);
    drop(upstream);
    eventually("both are free again", async || {
        let one = is_served(from("127.0.0.2", &gateway).await).await;
        let other = is_served(from("127.0.0.3", &gateway).await).await;
        one.is_some() && other.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_trusted_proxy_stands_for_many_and_the_named_client_for_itself() {
    let caps = "limits: { connections_per_address: 1 }";
    let gateway = setup(ONE, &format!("{caps}\ntrusted_proxies: {{ addresses: [127.0.0.2] }}")).start().await;
    let _first = is_served(from("127.0.0.2", &gateway).await).await.unwrap();
    assert!(is_served(from("127.0.0.2", &gateway).await).await.is_some());
    let listener = r#"{ address: "127.0.0.1:0", proxy_protocol: { from: [127.0.0.0/8] } }"#;
    let gateway = setup(listener, caps).start().await;
    let named = async |client: &str| {
        let mut connection = from("127.0.0.2", &gateway).await;
        connection.write(format!("PROXY TCP4 {client} 192.0.2.1 1 2\r\n").as_bytes()).await;
        is_served(connection).await
    };
    let _one = named("203.0.113.7").await.unwrap();
    assert!(named("203.0.113.7").await.is_none());
    assert!(named("203.0.113.8").await.is_some());
}

struct Unix {
    dir: TempDir,
    gateway: Gateway,
}

impl Unix {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Self::setup(&dir).start().await;
        Self { dir, gateway }
    }

    fn setup(dir: &TempDir) -> Setup {
        let path = dir.path().join("http.sock");
        setup(&format!("{ONE}, {{ address: \"unix:{}\", mode: 0600 }}", path.display()), "")
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("http.sock")
    }

    async fn is_served(&self) -> bool {
        let mut client = Client::over(UnixStream::connect(self.path()).await.unwrap());
        client.send(&get().header("operationID", "op-unix")).await.verdict() == NOWHERE
    }
}

#[tokio::test]
async fn a_unix_socket_is_served_and_goes_with_its_gateway() {
    let mut w = Unix::start().await;
    assert!(w.is_served().await);
    assert_eq!(w.gateway.line("op-unix").await["client"], "127.0.0.1");
    let mode = std::fs::metadata(w.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    // Somebody listens there already, so a second gateway does not start.
    let config = w.gateway.config();
    let ran = imgate(config.parent().unwrap(), &["run", "-c", "imgate.yaml"]);
    assert!(ran.code != 0 && ran.stderr.contains("cannot listen on unix:"), "{}", ran.stderr);
    assert!(w.is_served().await);
    w.gateway.signal("-TERM");
    w.gateway.ended().await;
    assert!(!w.path().exists());
}

#[tokio::test]
async fn a_socket_that_a_dead_gateway_left_is_replaced() {
    let mut w = Unix::start().await;
    w.gateway.signal("-KILL");
    w.gateway.ended().await;
    assert!(w.path().exists());
    w.gateway = Unix::setup(&w.dir).start().await;
    assert!(w.is_served().await);
}

/// How many descriptors a gateway that is short of them has.
const FEW: usize = 64;

/// A gateway that may open so few descriptors.
fn short_of_descriptors(dir: &TempDir, top: &str) -> Setup {
    let mut setup = setup(ONE, top);
    let script = dir.path().join("short");
    let imgate = setup.program.display();
    std::fs::write(&script, format!("#!/bin/sh\nulimit -n {FEW}\nexec {imgate} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    setup.program = script;
    setup
}

#[tokio::test]
async fn accepting_rests_when_descriptors_run_out_and_goes_on_after() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = short_of_descriptors(&dir, "limits: { connections: 1000 }").start().await;
    let mut crowd = Vec::new();
    for _ in 0..2 * FEW {
        crowd.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    let rests = "accepting rests";
    eventually(rests, async || gateway.stderr().contains(rests)).await;
    assert!(gateway.stderr().contains(&FEW.to_string()), "{}", gateway.stderr());
    drop(crowd);
    eventually("accepting goes on", async || {
        let served = is_served(Client::connect(gateway.address).await).await.is_some();
        served && gateway.stderr().contains("accepting goes on")
    })
    .await;
    assert_eq!(gateway.stderr().matches(rests).count(), 1, "{}", gateway.stderr());
}

#[tokio::test]
async fn without_a_cap_half_of_the_descriptors_are_for_clients() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = short_of_descriptors(&dir, "").start().await;
    let mut crowd = Vec::new();
    for _ in 0..2 * FEW {
        // The reset of one that finds no place may come before it is connected.
        crowd.extend(TcpStream::connect(gateway.address).await);
    }
    // The admin listener has descriptors left to say so.
    refusals(&gateway, "connections", FEW as f64).await;
    assert!(!gateway.stderr().contains("accepting rests"), "{}", gateway.stderr());
}

#[tokio::test]
async fn the_limit_of_descriptors_is_raised_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut setup = setup(ONE, "");
    let script = dir.path().join("soft");
    let imgate = setup.program.display();
    std::fs::write(&script, format!("#!/bin/sh\nulimit -S -n 256\nexec {imgate} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    setup.program = script;
    let gateway = setup.start().await;
    let said = Command::new("cat").arg(format!("/proc/{}/limits", gateway.pid())).output().unwrap();
    let limits = String::from_utf8(said.stdout).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
    within(std::time::Duration::from_secs(15), "it is told", async || {
        gateway.stderr().contains("more descriptors may be open")
    })
    .await;
}
