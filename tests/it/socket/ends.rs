//! How sockets end: by either side, by silence, by the gateway; and what is written when they do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt as _;
use imgate::config::{Config, Mode, Route};
use imgate::gateway::Shared;
use imgate::server::Server;
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::{assert_cut, before, no_socket_is_left, world};
use crate::support::ws::{Door, SWITCH, handshake, next, read_exactly, read_to_end};
use crate::support::{Client, Gateway, Setup, eventually};

/// Both ends of an open socket, and the gateway between them.
struct Ends {
    gateway: Gateway,
    client: TcpStream,
    upstream: TcpStream,
}

/// Opens a socket; `operation_id` names its access line.
async fn open(operation_id: &str) -> Ends {
    let door = Door::open().await;
    let gateway = before(door.address()).await;
    let (client, upstream) = through(gateway.address, &door, operation_id).await;
    Ends { gateway, client, upstream }
}

async fn through(address: std::net::SocketAddr, door: &Door, operation_id: &str) -> (TcpStream, TcpStream) {
    let mut client = Client::connect(address).await;
    client.write(&handshake("/ws?sendID=ann").header("operationID", operation_id).wire()).await;
    let (upstream, _) = door.switch().await;
    let (mut client, _) = client.into_stream();
    assert_eq!(read_exactly(&mut client, SWITCH.len()).await, SWITCH);
    (client, upstream)
}

/// Closes a connection with a reset.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

async fn ended(gateway: &Gateway, cause: &str) {
    no_socket_is_left(gateway).await;
    assert_eq!(gateway.metric(&format!("imgate_tunnels_ended_total{{cause=\"{cause}\"}}")).await, 1.0);
}

#[tokio::test]
async fn the_last_bytes_of_an_upstream_that_closes_arrive() {
    let Ends { gateway, mut client, mut upstream } = open("op-1").await;
    let last = vec![7; 300_000];
    upstream.write_all(&last).await.unwrap();
    drop(upstream);
    assert!(read_to_end(&mut client).await == last);
    drop(client);
    ended(&gateway, "upstream_closed").await;
}

#[tokio::test]
async fn the_last_bytes_of_a_client_that_closes_arrive() {
    let Ends { gateway, mut client, mut upstream } = open("op-1").await;
    let last = vec![7; 300_000];
    client.write_all(&last).await.unwrap();
    drop(client);
    assert!(read_to_end(&mut upstream).await == last);
    drop(upstream);
    ended(&gateway, "client_closed").await;
}

#[tokio::test]
async fn a_client_that_half_closes_still_hears_the_rest() {
    let Ends { gateway, mut client, mut upstream } = open("op-1").await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut upstream).await, b"question");
    upstream.write_all(b"answer").await.unwrap();
    drop(upstream);
    assert_eq!(read_to_end(&mut client).await, b"answer");
    ended(&gateway, "client_closed").await;
}

#[tokio::test]
async fn a_reset_of_either_end_ends_the_other() {
    let Ends { gateway, mut client, upstream } = open("op-1").await;
    reset(upstream);
    assert!(read_to_end(&mut client).await.is_empty());
    ended(&gateway, "broken").await;

    let Ends { gateway, client, mut upstream } = open("op-1").await;
    reset(client);
    assert!(read_to_end(&mut upstream).await.is_empty());
    ended(&gateway, "broken").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_else() {
    let door = Door::open().await;
    let gateway = before(door.address()).await;
    let (slow, mut flooding) = through(gateway.address, &door, "slow").await;
    let flood = tokio::spawn(async move {
        let piece = vec![1; 64 * 1024];
        while flooding.write_all(&piece).await.is_ok() {}
    });
    for i in 0..20 {
        let (mut client, mut upstream) = through(gateway.address, &door, &format!("op-{i}")).await;
        client.write_all(b"ping").await.unwrap();
        assert_eq!(read_exactly(&mut upstream, 4).await, b"ping");
        upstream.write_all(b"pong").await.unwrap();
        assert_eq!(read_exactly(&mut client, 4).await, b"pong");
    }
    assert!(!flood.is_finished());
    reset(slow);
    flood.await.unwrap();
    no_socket_is_left(&gateway).await;
}

#[tokio::test]
async fn a_socket_is_logged_when_it_ends_and_without_its_token() {
    let Ends { gateway, mut client, mut upstream } = open("op-sock").await;
    client.write_all(&[1; 1000]).await.unwrap();
    read_exactly(&mut upstream, 1000).await;
    upstream.write_all(&[2; 2000]).await.unwrap();
    read_exactly(&mut client, 2000).await;
    assert!(gateway.access_log().is_empty(), "logged before its end");
    drop((client, upstream));
    let line = gateway.line("op-sock").await;
    assert_eq!((&line["status"], &line["path"], &line["route"]), (&101.into(), &"/ws".into(), &"/ws".into()));
    assert_eq!(line["claimed_user"], "ann");
    assert_eq!(line["upstream"], "openim_ws");
    assert_eq!(line["bytes_in"], 1000);
    assert_eq!(line["bytes_out"], 2000 + SWITCH.len());
    assert!(matches!(line["reason"].as_str(), Some("client_closed" | "upstream_closed")), "{line}");
    let counted = |direction: &str| format!("imgate_tunnel_bytes_total{{direction=\"{direction}\"}}");
    assert_eq!(gateway.metric(&counted("up")).await, 1000.0);
    assert_eq!(gateway.metric(&counted("down")).await, (2000 + SWITCH.len()) as f64);
    let requests = gateway.metric("imgate_requests_total{class=\"1xx\",route=\"/ws\"}").await;
    assert_eq!(requests, 1.0);
}

#[tokio::test]
async fn a_refused_handshake_is_logged_without_its_query() {
    let w = world().await;
    let sent = handshake(&w.target("&v=")).header("operationID", "op-v");
    assert_eq!(w.gateway.send(&sent).await.status, 400);
    let line = w.gateway.line("op-v").await;
    assert_eq!((&line["path"], &line["reason"]), (&"/ws".into(), &"query_v".into()));
    assert_eq!(line["filter"], "verify_socket");
}

#[tokio::test]
async fn a_gateway_that_stops_ends_its_sockets_and_exits_well() {
    let mut w = world().await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(w.dial("").await);
    }
    w.gateway.signal("-TERM");
    for socket in &mut sockets {
        assert_cut(socket).await;
    }
    assert_eq!(w.gateway.ended().await.code(), Some(0));
    let lines = w.gateway.access_log();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["reason"] == "stopped"), "{lines:?}");
    eventually("OpenIM's sockets are closed", async || w.openim.sockets_total() == 0).await;
}

/// The configuration takes no such silence, because OpenIM's clients are silent for longer.
fn impatient(config: Config, idle_timeout: Duration) -> Config {
    let routes = config.routes.try_map(|route: &Arc<Route>| {
        let mode = match route.mode {
            Mode::Tunnel { .. } => Mode::Tunnel { idle_timeout },
            mode => mode,
        };
        Ok::<_, std::convert::Infallible>(Arc::new(Route { mode, ..Route::clone(route) }))
    });
    let Ok(routes) = routes;
    Config { routes, ..config }
}

#[tokio::test]
async fn silence_ends_a_socket_and_bytes_of_either_side_keep_it() {
    let door = Door::open().await;
    let mut setup = Setup::at(door.address(), door.address(), "");
    setup.store = "memory: {}".to_owned();
    let dir = tempfile::tempdir().unwrap();
    let config = Config::parse(&setup.yaml(), "imgate.yaml", Path::new(dir.path())).unwrap();
    let idle_timeout = Duration::from_millis(400);
    let server = Server::start(impatient(config, idle_timeout), Shared::default()).await.unwrap();
    let address = server.listeners()[0].ip().unwrap();

    let (mut idle, mut idle_upstream) = through(address, &door, "idle").await;
    let (mut up, mut up_upstream) = through(address, &door, "up").await;
    let (mut down, mut down_upstream) = through(address, &door, "down").await;
    // Three times as long as silence may last.
    for _ in 0..24 {
        tokio::time::sleep(idle_timeout / 8).await;
        up.write_all(b"x").await.unwrap();
        down_upstream.write_all(b"x").await.unwrap();
        read_exactly(&mut up_upstream, 1).await;
        read_exactly(&mut down, 1).await;
    }
    assert!(read_to_end(&mut idle).await.is_empty());
    assert!(read_to_end(&mut idle_upstream).await.is_empty());
    // Both ends of a socket that fell silent are told.
    assert!(read_to_end(&mut up).await.is_empty());
    assert!(read_to_end(&mut down_upstream).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_reload_or_a_refused_neighbour_does_not_end_a_socket() {
    let w = world().await;
    let mut socket = w.dial("").await;
    for _ in 0..20 {
        assert_eq!(w.gateway.send(&handshake(&w.target("&v="))).await.status, 400);
    }
    w.gateway.signal("-HUP");
    eventually("the reload took effect", async || w.gateway.stderr().contains("configuration reloaded"))
        .await;
    socket.send(Message::binary("still here")).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::binary("still here")));
}
