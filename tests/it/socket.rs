//! Sockets to OpenIM's message gateway: the handshake, what is relayed, and what is refused.

mod ends;
mod refused;

use std::time::Duration;

use futures_util::SinkExt as _;
use openim_standin::{Answer, GO_KICK, Options, Record, Standin, TokenState};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::ws::{Door, SWITCH, Ws, dial, handshake, next, read_exactly, target};
use crate::support::{Client, Gateway, Sent, Setup, eventually, leaks};

/// The envelope of success.
const FINE: &str = r#"{"errCode":0,"errMsg":"","errDlt":""}"#;

struct World {
    openim: Standin,
    gateway: Gateway,
    token: String,
}

async fn world() -> World {
    world_with(Options::default()).await
}

/// A gateway in front of OpenIM, and a user `ann` with a token of platform 2.
async fn world_with(options: Options) -> World {
    let openim = Standin::start(options).await.unwrap();
    let gateway = before(openim.ws()).await;
    let token = openim.mint("ann", 2);
    leaks::secret(&token);
    World { openim, gateway, token }
}

/// A gateway in front of this message gateway.
async fn before(ws: std::net::SocketAddr) -> Gateway {
    let mut setup = Setup::at(ws, ws, "");
    setup.store = "memory: {}".to_owned();
    setup.start().await
}

impl World {
    fn target(&self, extra: &str) -> String {
        target("ann", &self.token, 2, extra)
    }

    async fn dial(&self, extra: &str) -> Ws {
        dial(self.gateway.address, &self.target(extra)).await.unwrap()
    }

    /// What the message gateway saw of a handshake or probe, the last one.
    fn seen(&self) -> Record {
        self.openim.records().into_iter().rfind(|r| r.method == "GET").unwrap()
    }
}

fn json_of(message: Option<Message>) -> Value {
    serde_json::from_slice(&message.expect("a frame").into_data()).unwrap()
}

/// Asserts that TCP closes without a Close frame.
async fn assert_cut(socket: &mut Ws) {
    let end = next(socket).await;
    assert!(end.is_none(), "{end:?}");
}

async fn no_socket_is_left(gateway: &Gateway) {
    eventually("no socket is left", async || gateway.metric("imgate_tunnels").await == 0.0).await;
}

#[tokio::test]
async fn the_query_reaches_openim_byte_for_byte() {
    let w = world().await;
    let odd = r"sendID=ann&token=a.b-c_d~e+f/g%2Bh%zz=:@!$'()*,|&platformID=2&&x&y=&=z&isBackground=f&%41=é";
    let target = format!("/ws?{odd}");
    let reply = w.gateway.send(&handshake(&target)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(w.seen().target, target);
}

#[tokio::test]
async fn only_listed_headers_reach_openim() {
    let w = world().await;
    for sent in [handshake(&w.target("")), Sent::new("GET", &w.target(""))] {
        let sent = sent
            .header("Origin", "https://app.example.com")
            .header("User-Agent", "sdk/1")
            .header("Sec-WebSocket-Protocol", "app-session, chat")
            .header("Sec-WebSocket-Extensions", "permessage-deflate")
            .header("Cookie", "app=session")
            .header("Authorization", "Bearer app-credential")
            .header("compression", "gzip")
            .header("token", "another")
            .header("X-App", "1")
            .header("X-Imgate-Assertion", "forged")
            .header("Forwarded", "for=6.6.6.6")
            .header("X-Forwarded-For", "6.6.6.6")
            .header("X-Forwarded-Host", "evil.example");
        let status = Client::once(w.gateway.address, &sent).await.status;
        assert!(matches!(status, 101 | 400), "{status}");
        let seen = w.seen();
        for gone in [
            "sec-websocket-protocol",
            "sec-websocket-extensions",
            "cookie",
            "authorization",
            "compression",
            "token",
            "x-app",
            "x-imgate-assertion",
            "forwarded",
            "x-forwarded-host",
        ] {
            assert_eq!(seen.copies(gone), 0, "{gone} at {status}");
        }
        assert_eq!((seen.copies("x-forwarded-for"), seen.header("x-forwarded-for")), (1, Some("127.0.0.1")));
        assert_eq!(seen.header("origin"), Some("https://app.example.com"));
        assert_eq!(seen.header("user-agent"), Some("sdk/1"));
        assert_eq!(seen.header("host"), Some("im.example.com"));
    }
}

#[tokio::test]
async fn the_101_and_all_that_follows_pass_byte_for_byte() {
    let door = Door::open().await;
    let gateway = before(door.address()).await;
    let mut client = Client::connect(gateway.address).await;
    client.write(&handshake("/ws").wire()).await;
    let (mut client, _) = client.into_stream();
    let (mut upstream, head) = door.switch().await;
    assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
    assert_eq!(read_exactly(&mut client, SWITCH.len()).await, SWITCH);

    // No frame is parsed: neither masks nor reserved bits nor lengths matter.
    let noise: Vec<u8> = (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    client.write_all(&noise).await.unwrap();
    assert!(read_exactly(&mut upstream, noise.len()).await == noise);
    upstream.write_all(&noise).await.unwrap();
    assert!(read_exactly(&mut client, noise.len()).await == noise);
}

#[tokio::test]
async fn frames_sent_early_arrive_after_the_handshake() {
    let door = Door::open().await;
    let gateway = before(door.address()).await;
    let mut client = Client::connect(gateway.address).await;
    let early = b"\x82\x85mask\x01\x02\x03\x04\x05 and more";
    client.write(&[handshake("/ws").wire(), early.to_vec()].concat()).await;
    let (mut upstream, _) = door.accept().await;
    // Not before: an upstream that has not switched would read them as a request.
    let too_soon = tokio::time::timeout(Duration::from_millis(100), upstream.read_u8()).await;
    assert!(too_soon.is_err());
    upstream.write_all(SWITCH).await.unwrap();
    assert_eq!(read_exactly(&mut upstream, early.len()).await, early);
    let (mut client, rest) = client.into_stream();
    assert!(rest.is_empty());
    assert_eq!(read_exactly(&mut client, SWITCH.len()).await, SWITCH);
}

#[tokio::test]
async fn messages_are_echoed_both_ways() {
    let w = world().await;
    let mut go = w.dial("").await;
    for size in [0, 1, 125, 126, 65_535 / 2, 51_200] {
        let payload: Vec<u8> = (0..=255).cycle().take(size).collect();
        go.send(Message::binary(payload.clone())).await.unwrap();
        assert_eq!(next(&mut go).await, Some(Message::binary(payload)), "{size}");
    }
    let mut js = w.dial("&sdkType=js&compression=").await;
    let request = json!({
        "reqIdentifier": 1003, "sendID": "ann", "operationID": "op", "msgIncr": "7", "data": "aGk=",
    });
    js.send(Message::binary(request.to_string())).await.unwrap();
    assert_eq!(json_of(next(&mut js).await)["data"], "aGk=");
}

#[tokio::test]
async fn too_large_a_message_is_openims_to_refuse_and_a_large_push_arrives() {
    let w = world().await;
    let mut socket = w.dial("").await;
    eventually("the socket is registered", async || w.openim.sockets("ann") == 1).await;
    let push: Vec<u8> = (0..=254).cycle().take(1 << 20).collect();
    assert_eq!(w.openim.push("ann", push.clone()), 1);
    assert!(next(&mut socket).await == Some(Message::binary(push)));

    socket.send(Message::binary(vec![0; 51_201])).await.unwrap();
    let Some(Message::Close(Some(close))) = next(&mut socket).await else { panic!("no Close frame") };
    assert_eq!(close.code, CloseCode::Size);
}

#[tokio::test]
async fn success_comes_as_the_first_frame_if_asked_for() {
    let w = world().await;
    let mut socket = w.dial("&isMsgResp=true").await;
    assert_eq!(next(&mut socket).await, Some(Message::text(FINE)));
    socket.send(Message::binary("x")).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::binary("x")));
}

#[tokio::test]
async fn refusals_of_openim_are_relayed_as_they_are() {
    let w = world().await;
    for code in [1501, 1502, 1503, 1504, 1505, 1506, 1507, 1601, 1602, 500] {
        let answer = Answer::error(code, "TokenError", "a detail of OpenIM's own");
        let Answer::Reply { body, .. } = &answer else { unreachable!("an error is a reply") };
        let body = body.clone();
        w.openim.answer_next("/ws", answer);
        let reply = w.gateway.send(&handshake(&w.target(""))).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{code}");
        assert_eq!(reply.body, body, "{code}");
        assert_eq!(reply.header("content-encoding"), None, "{code}");
    }
}

#[tokio::test]
async fn genuine_refusals_reach_sockets_and_probes_alike() {
    let w = world().await;
    let other = |from: &str, to: &str| w.target("").replace(from, to);
    let kicked = w.openim.mint("bob", 2);
    w.openim.assign(&kicked, TokenState::Kicked);
    let cases = [
        (other("sendID=ann", "sendID=bob"), 1502),
        (other("platformID=2", "platformID=1"), 1502),
        (target("ann", "garbage", 2, ""), 1503),
        (target("bob", &kicked, 2, ""), 1506),
        (w.target("&sdkType=rust"), 1602),
        (other("&operationID=op", ""), 1602),
        (other("&isBackground=false", ""), 500),
    ];
    for (target, code) in cases {
        let Err(Error::Http(refusal)) = dial(w.gateway.address, &target).await else { panic!("{code}") };
        let body: Value = serde_json::from_slice(refusal.body().as_ref().unwrap()).unwrap();
        assert_eq!((refusal.status().as_u16(), &body["errCode"]), (200, &json!(code)));
        let probe = w.gateway.send(&Sent::new("GET", &target)).await;
        assert_eq!((probe.status, probe.json()), (200, body), "{code}");
    }
    no_socket_is_left(&w.gateway).await;
}

#[tokio::test]
async fn a_refusal_comes_as_the_only_frame_if_asked_for() {
    let w = world().await;
    let target = target("ann", "garbage", 2, "&isMsgResp=true");
    let mut socket = dial(w.gateway.address, &target).await.unwrap();
    assert_eq!(json_of(next(&mut socket).await)["errCode"], 1503);
    assert_cut(&mut socket).await;
}

#[tokio::test]
async fn a_kick_arrives_before_the_end() {
    let w = world().await;
    let (mut js, mut go) = (w.dial("&sdkType=js").await, w.dial("&sdkType=go").await);
    eventually("both sockets are registered", async || w.openim.sockets("ann") == 2).await;
    w.openim.kick("ann", 2);
    assert_eq!(json_of(next(&mut js).await)["reqIdentifier"], 2002);
    assert_cut(&mut js).await;
    assert_eq!(next(&mut go).await, Some(Message::binary(GO_KICK)));
    assert_cut(&mut go).await;
    no_socket_is_left(&w.gateway).await;
}

#[tokio::test]
async fn pings_and_pongs_belong_to_the_two_ends() {
    let w = world_with(Options { ping_interval: Duration::from_millis(50), ..Options::default() }).await;
    // Platform 5, a browser, is pinged by the server.
    let token = w.openim.mint("ann", 5);
    let mut web = dial(w.gateway.address, &target("ann", &token, 5, "")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(next(&mut web).await, Some(Message::Ping("".into())));
    }
    // Others ping the server, in a control frame or, as browsers must, in a text.
    let mut native = w.dial("").await;
    native.send(Message::Ping("an odd payload".into())).await.unwrap();
    assert_eq!(next(&mut native).await, Some(Message::Pong("an odd payload".into())));
    native.send(Message::text(r#"{"type":"ping","body":{"a":1}}"#)).await.unwrap();
    assert_eq!(next(&mut native).await, Some(Message::text(r#"{"type":"pong","body":{"a":1}}"#)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_five_hundred_handshakes_at_once_is_lost() {
    let w = world().await;
    let crowd: Vec<_> = (0..500)
        .map(|i| {
            let (address, target) = (w.gateway.address, w.target(""));
            tokio::spawn(async move {
                let mut socket = dial(address, &target).await.unwrap();
                socket.send(Message::binary(format!("hello {i}"))).await.unwrap();
                assert_eq!(next(&mut socket).await, Some(Message::binary(format!("hello {i}"))));
                socket
            })
        })
        .collect();
    let mut sockets = Vec::new();
    for one in crowd {
        sockets.push(one.await.unwrap());
    }
    assert_eq!(w.gateway.metric("imgate_tunnels").await, 500.0);
    assert_eq!(w.openim.sockets_total(), 500);
    drop(sockets);
    no_socket_is_left(&w.gateway).await;
    assert_eq!(w.gateway.metric("imgate_tunnels_ended_total{cause=\"client_closed\"}").await, 500.0);
}
