//! Handshakes that the gateway itself refuses, and upstreams that cannot be spoken to.

use tokio::io::AsyncWriteExt as _;

use super::{before, no_socket_is_left, world};
use crate::support::ws::{Door, handshake};
use crate::support::{Client, Closed, Sent};

#[tokio::test]
async fn doubtful_queries_are_refused_and_reach_nobody() {
    let w = world().await;
    let cases = [
        ("&v=eyJ0b2tlbiI6IngifQ", (400, 20202)),
        ("&v=", (400, 20202)),
        ("&v", (400, 20202)),
        ("&token=other", (400, 20202)),
        ("&token", (400, 20202)),
        ("&TOKEN=other", (400, 20202)),
        ("&Token=other", (400, 20202)),
        ("&%74oken=other", (400, 20202)),
        ("&toke%6E=other", (400, 20202)),
        ("&sendID=bob", (400, 20202)),
        ("&sendid=bob", (400, 20202)),
        ("&platformID=2", (400, 20202)),
        ("&a;b", (400, 20202)),
    ];
    let refused = cases.map(|(extra, verdict)| (w.target(extra), verdict)).into_iter().chain([
        (w.target("").replace("sendID=ann", "sendID=imAdmin"), (403, 1002)),
        (w.target("").replace("sendID=ann", "sendID=im%41dmin"), (403, 1002)),
        (w.target("").replace("platformID=2", "platformID=10"), (403, 1002)),
        (w.target("").replace("platformID=2", "platformID=010"), (400, 20202)),
        (w.target("").replace("platformID=2", "platformID=%310"), (400, 20202)),
        (w.target("").replace("platformID=2", "platformID="), (400, 20202)),
    ]);
    for (i, (target, verdict)) in refused.enumerate() {
        for sent in [handshake(&target), Sent::new("GET", &target)] {
            let reply = w.gateway.send(&sent).await;
            // The target holds a token, so the case is named by its number.
            assert_eq!(reply.verdict(), verdict, "case {i}: {}", reply.text());
            assert_eq!(reply.header("content-type"), Some("application/json"), "case {i}");
            assert!(reply.body.len() <= 1024, "case {i}");
        }
    }
    assert!(w.openim.records().is_empty(), "something reached OpenIM");
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_and_reaches_nobody() {
    let w = world().await;
    let good = || handshake(&w.target(""));
    let with = |name: &str, value: &str| good().without(name).header(name, value);
    let cases = [
        ("h2c", with("Upgrade", "h2c"), (400, 20202)),
        ("two protocols", with("Upgrade", "websocket, h2c"), (400, 20202)),
        ("two upgrades", good().header("Upgrade", "websocket"), (400, 20202)),
        ("not nominated", with("Connection", "keep-alive"), (400, 20202)),
        ("old version", with("Sec-WebSocket-Version", "8"), (400, 20202)),
        ("no version", good().without("Sec-WebSocket-Version"), (400, 20202)),
        ("no key", good().without("Sec-WebSocket-Key"), (400, 20202)),
        ("two keys", good().header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), (400, 20202)),
        ("a body", good().body(b"hello"), (400, 20202)),
        ("a chunked body", good().header("Transfer-Encoding", "chunked"), (400, 20202)),
        ("a probe with a body", Sent::new("GET", &w.target("")).body(b"hello"), (400, 20202)),
        ("POST", Sent { method: "POST".to_owned(), ..good() }, (405, 20201)),
        ("a probe by POST", Sent::new("POST", &w.target("")).body(b"{}"), (405, 20201)),
        ("a path below", handshake(&w.target("").replace("/ws", "/ws/")), (404, 20201)),
        ("a path that is cleaned", handshake(&w.target("").replace("/ws", "//ws")), (400, 20202)),
    ];
    for (name, sent, verdict) in cases {
        let reply = w.gateway.send(&sent).await;
        assert_eq!(reply.verdict(), verdict, "{name}: {}", reply.text());
    }
    assert!(w.openim.records().is_empty(), "something reached OpenIM");
    no_socket_is_left(&w.gateway).await;
}

#[tokio::test]
async fn an_old_http_version_cannot_switch() {
    let w = world().await;
    let wire = String::from_utf8(handshake(&w.target("")).wire()).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    let mut client = Client::connect(w.gateway.address).await;
    client.write(wire.as_bytes()).await;
    assert_eq!(client.read("GET").await.status, 400);
    assert!(w.openim.records().is_empty());
}

#[tokio::test]
async fn bytes_behind_a_handshake_that_fails_are_no_request() {
    let w = world().await;
    let mut client = Client::connect(w.gateway.address).await;
    let smuggled = Sent::new("GET", "/object/imAdmin/known.txt").wire();
    let garbage = w.target("").replace(&w.token, "garbage");
    client.write(&[handshake(&garbage).wire(), smuggled].concat()).await;
    assert_eq!(client.read("GET").await.json()["errCode"], 1503);
    assert!(client.is_closed().await);
    // Nor is what comes after the answer.
    let mut client = Client::connect(w.gateway.address).await;
    client.write(&handshake(&garbage).wire()).await;
    assert_eq!(client.read("GET").await.json()["errCode"], 1503);
    assert!(client.is_closed().await);
    let seen: Vec<String> = w.openim.records().iter().map(|r| r.path().to_owned()).collect();
    assert_eq!(seen, ["/ws", "/ws"]);
}

#[tokio::test]
async fn an_upstream_that_is_away_is_a_502() {
    let gone = Closed::new();
    let gateway = before(gone.address()).await;
    for sent in [handshake("/ws?sendID=ann"), Sent::new("GET", "/ws?sendID=ann")] {
        let reply = gateway.send(&sent).await;
        assert_eq!(reply.verdict(), (502, 20402), "{}", reply.text());
        assert!(reply.header("operationID").is_some());
    }
}

#[tokio::test]
async fn an_upstream_that_switches_to_something_else_is_a_502() {
    let door = Door::open().await;
    let gateway = before(door.address()).await;
    let answers = [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: x\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "",
    ];
    for answer in answers {
        let mut client = Client::connect(gateway.address).await;
        client.write(&handshake("/ws?sendID=ann").wire()).await;
        let (mut upstream, _) = door.accept().await;
        upstream.write_all(answer.as_bytes()).await.unwrap();
        drop(upstream);
        assert_eq!(client.read("GET").await.verdict(), (502, 20402), "{answer}");
    }
    // A probe did not ask to switch, so a 101 is no answer to it.
    let mut client = Client::connect(gateway.address).await;
    client.write(&Sent::new("GET", "/ws?sendID=ann").wire()).await;
    let (mut upstream, _) = door.accept().await;
    upstream.write_all(crate::support::ws::SWITCH).await.unwrap();
    assert_eq!(client.read("GET").await.verdict(), (502, 20402));
    no_socket_is_left(&gateway).await;
}
