//! The message gateway: handshakes, frames, heartbeats, deadlines, kicks.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt, StreamExt};
use openim_standin::{GO_KICK, Line, Options, Server, Standin};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::{PATIENCE, Reply, get, post, start, until};

type Client = WebSocketStream<TcpStream>;

fn query(token: &str, extra: &str) -> String {
    format!("/?sendID=u1&token={token}&platformID=5&operationID=op&isBackground=false{extra}")
}

async fn dial(standin: &Standin, target: &str) -> Result<Client, Error> {
    let stream = TcpStream::connect(standin.ws()).await.unwrap();
    client_async(format!("ws://im{target}"), stream).await.map(|(client, _)| client)
}

async fn connect(standin: &Standin, extra: &str) -> Client {
    let token = standin.mint("u1", 5);
    let client = dial(standin, &query(&token, extra)).await.unwrap();
    until("the socket is registered", || standin.sockets("u1") > 0).await;
    client
}

async fn next(client: &mut Client) -> Option<Message> {
    timeout(PATIENCE, client.next()).await.expect("a frame in time").and_then(Result::ok)
}

/// Asserts that the server closes TCP without a Close frame.
async fn assert_cut(client: &mut Client) {
    let end = timeout(PATIENCE, client.next()).await.expect("an end in time");
    assert!(matches!(end, None | Some(Err(Error::Protocol(_) | Error::Io(_)))), "{end:?}");
}

fn request(identifier: i64, sender: &str) -> Message {
    let request = json!({
        "reqIdentifier": identifier, "sendID": sender, "operationID": "op1", "msgIncr": "7", "data": "aGk=",
    });
    Message::binary(request.to_string())
}

fn json_of(message: Option<Message>) -> Value {
    serde_json::from_slice(&message.expect("a frame").into_data()).unwrap()
}

#[tokio::test]
async fn refusals_are_envelopes_with_status_200() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let ok = query(&token, "");
    let packed = |value: Value| format!("{ok}&v={}", URL_SAFE_NO_PAD.encode(value.to_string()));
    let cases = [
        ("plain probe", "/".to_owned(), 1602),
        ("no token", ok.replace("token=", "t="), 1602),
        ("no sendID", ok.replace("sendID", "x"), 1602),
        ("platform no int", ok.replace("=5", "=web"), 1602),
        ("no operationID", ok.replace("operationID", "x"), 1602),
        ("unknown sdk", format!("{ok}&sdkType=rust"), 1602),
        ("no isBackground", ok.replace("isBackground", "x"), 500),
        ("bad isBackground", ok.replace("false", "no"), 500),
        ("args precede isMsgResp", format!("{}&isMsgResp=true", ok.replace("sendID", "x")), 1602),
        ("garbage token", query("garbage", ""), 1503),
        ("other user", ok.replace("u1", "u2"), 1502),
        ("other platform", ok.replace("=5", "=1"), 1502),
        ("first duplicate wins", format!("/?sendID=u2&{}", &ok[2..]), 1502),
        (
            "v overrides all",
            packed(json!({ "token": "garbage", "userID": "u1", "platformID": 5, "operationID": "o" })),
            1503,
        ),
        ("v is no base64", format!("{ok}&v=!!"), 1602),
    ];
    for (name, target, code) in cases {
        let Err(Error::Http(response)) = dial(&standin, &target).await else { panic!("{name}: upgraded") };
        assert_eq!(response.status(), 200, "{name}");
        let body: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
        assert_eq!(body["errCode"], code, "{name}");
        let probe: Reply = get(standin.ws(), &target).await;
        assert_eq!(probe.code(), code, "probe: {name}");
    }
}

#[tokio::test]
async fn a_full_gateway_refuses_with_1601() {
    let standin = Standin::start(Options { max_connections: 0, ..Options::default() }).await.unwrap();
    assert_eq!(get(standin.ws(), "/").await.code(), 1601);
}

#[tokio::test]
async fn packed_arguments_alone_suffice() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let packed =
        json!({ "token": token, "userID": "u1", "platformID": 5, "operationID": "o", "sendResponse": true });
    let target = format!("/any/path?v={}", URL_SAFE_NO_PAD.encode(packed.to_string()));
    let mut client = dial(&standin, &target).await.unwrap();
    assert_eq!(json_of(next(&mut client).await), json!({ "errCode": 0, "errMsg": "", "errDlt": "" }));
}

#[tokio::test]
async fn unclean_paths_are_redirected() {
    let standin = start(Line::Head).await;
    for (path, location) in [("//ws?a=b", "/ws?a=b"), ("/a/../ws", "/ws")] {
        let reply = get(standin.ws(), path).await;
        assert_eq!((reply.status, reply.header("location")), (301, Some(location)));
    }
}

#[tokio::test]
async fn valid_arguments_without_an_upgrade_are_a_bad_request() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let reply = get(standin.ws(), &query(&token, "")).await;
    assert_eq!((reply.status, reply.text().as_str()), (400, "Bad Request\n"));
}

#[tokio::test]
async fn the_outcome_comes_as_a_text_frame_when_asked_for() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let mut client = dial(&standin, &query(&token, "&isMsgResp=true")).await.unwrap();
    let first = next(&mut client).await.unwrap();
    assert_eq!(first, Message::text(r#"{"errCode":0,"errMsg":"","errDlt":""}"#));

    let mut refused = dial(&standin, &query("garbage", "&isMsgResp=true")).await.unwrap();
    let only = next(&mut refused).await.unwrap();
    assert!(only.is_text());
    assert_eq!(json_of(Some(only))["errCode"], 1503);
    assert_cut(&mut refused).await;
}

#[tokio::test]
async fn subprotocols_and_extensions_are_ignored() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: im\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        query(&token, "")
    );
    let reply = crate::support::exchange(standin.ws(), &request).await;
    assert_eq!(reply.status, 101);
    assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(
        (reply.header("sec-websocket-protocol"), reply.header("sec-websocket-extensions")),
        (None, None)
    );
}

#[tokio::test]
async fn json_requests_are_echoed_and_recorded() {
    let standin = start(Line::Head).await;
    let mut client = connect(&standin, "&sdkType=js").await;
    client.send(request(1003, "u1")).await.unwrap();
    let answer = json_of(next(&mut client).await);
    let expected = json!({
        "reqIdentifier": 1003, "msgIncr": "7", "operationID": "op1", "errCode": 0, "errMsg": "", "data": "aGk=",
    });
    assert_eq!(answer, expected);
    let records = standin.records();
    let frame = records.iter().find(|record| record.method == "FRAME").unwrap();
    assert_eq!(
        (frame.server, frame.target.as_str(), frame.operation_id.as_str()),
        (Server::Ws, "1003", "op1")
    );
}

#[tokio::test]
async fn go_frames_are_echoed_unchanged() {
    let standin = start(Line::Head).await;
    let mut client = connect(&standin, "&compression=gzip").await;
    let payload: Vec<u8> = (0..=255).cycle().take(51_200).collect();
    client.send(Message::binary(payload.clone())).await.unwrap();
    assert_eq!(next(&mut client).await.unwrap(), Message::binary(payload));
}

#[tokio::test]
async fn wrong_frames_end_the_socket_without_a_close_frame() {
    let standin = start(Line::Head).await;
    let cases = [
        ("other sender", request(1003, "u2")),
        ("unknown request", request(9, "u1")),
        ("no JSON", Message::binary("{")),
        ("other text", Message::text("hello")),
        ("unknown text type", Message::text(r#"{"type":"x"}"#)),
    ];
    for (name, frame) in cases {
        let mut client = connect(&standin, "&sdkType=js").await;
        client.send(frame).await.unwrap();
        assert_cut(&mut client).await;
        until(name, || standin.sockets("u1") == 0).await;
    }
}

#[tokio::test]
async fn logout_is_answered_and_then_ends_the_socket() {
    let standin = start(Line::Head).await;
    let mut client = connect(&standin, "&sdkType=js").await;
    client.send(request(2003, "u1")).await.unwrap();
    assert_eq!(json_of(next(&mut client).await)["reqIdentifier"], 2003);
    assert_cut(&mut client).await;
}

#[tokio::test]
async fn messages_above_51200_bytes_are_closed_with_1009() {
    let standin = start(Line::Head).await;
    let mut client = connect(&standin, "").await;
    client.send(Message::binary(vec![0; 51_201])).await.unwrap();
    let Some(Message::Close(Some(frame))) = next(&mut client).await else { panic!("no Close frame") };
    assert_eq!(frame.code, CloseCode::Size);
}

#[tokio::test]
async fn text_and_control_pings_are_answered() {
    let standin = start(Line::Head).await;
    let mut client = connect(&standin, "").await;
    client.send(Message::text(r#"{"type":"ping","body":{"a":1}}"#)).await.unwrap();
    assert_eq!(next(&mut client).await.unwrap(), Message::text(r#"{"type":"pong","body":{"a":1}}"#));
    client.send(Message::Ping("hey".into())).await.unwrap();
    assert_eq!(next(&mut client).await.unwrap(), Message::Pong("hey".into()));
}

#[tokio::test]
async fn silence_beyond_the_deadline_ends_the_socket() {
    let options = Options { read_deadline: Duration::from_millis(50), ..Options::default() };
    let standin = Standin::start(options).await.unwrap();
    let token = standin.mint("u1", 5);
    let mut client = dial(&standin, &query(&token, "")).await.unwrap();
    assert_cut(&mut client).await;
}

#[tokio::test]
async fn pongs_keep_a_web_socket_alive_on_the_development_line_only() {
    for (line, outlives) in [(Line::Head, true), (Line::P16, false)] {
        let options = Options {
            line,
            read_deadline: Duration::from_secs(1),
            ping_interval: Duration::from_millis(100),
            ..Options::default()
        };
        let standin = Standin::start(options).await.unwrap();
        let mut client = connect(&standin, "").await;
        // The client answers pings by itself while it reads.
        let mut pings = 0;
        while pings < 20 {
            match next(&mut client).await {
                Some(Message::Ping(_)) => pings += 1,
                _ => break,
            }
        }
        assert_eq!(pings == 20, outlives, "{line:?}");
    }
}

#[tokio::test]
async fn other_platforms_are_not_pinged() {
    let options = Options {
        read_deadline: Duration::from_millis(200),
        ping_interval: Duration::from_millis(20),
        ..Options::default()
    };
    let standin = Standin::start(options).await.unwrap();
    let token = standin.mint("u1", 1);
    let mut client = dial(&standin, &query(&token, "").replace("=5", "=1")).await.unwrap();
    assert_cut(&mut client).await;
}

#[tokio::test]
async fn a_kick_is_a_2002_frame_and_then_the_end() {
    let standin = start(Line::Head).await;
    let admin = standin.mint_admin("imAdmin");
    let mut client = connect(&standin, "&sdkType=js").await;
    let token = standin.mint("u1", 5);
    let logout = post("/auth/force_logout").token(&admin).body(r#"{"userID":"u1","platformID":5}"#);
    assert_eq!(logout.send(&standin).await.text(), r#"{"errCode":0,"errMsg":"","errDlt":""}"#);
    assert_eq!(json_of(next(&mut client).await)["reqIdentifier"], 2002);
    assert_cut(&mut client).await;
    let again = get(standin.ws(), &query(&token, "")).await;
    assert_eq!(again.code(), 1506);
}

#[tokio::test]
async fn a_kicked_go_client_gets_the_documented_bytes() {
    let standin = start(Line::Head).await;
    let mut client = connect(&standin, "").await;
    standin.kick("u1", 1);
    assert_eq!(standin.push("u1", "still here"), 1);
    standin.kick("u1", 5);
    assert_eq!(next(&mut client).await.unwrap(), Message::binary("still here"));
    assert_eq!(next(&mut client).await.unwrap(), Message::binary(GO_KICK));
    assert_cut(&mut client).await;
    until("the socket is gone", || standin.sockets("u1") == 0).await;
}

#[tokio::test]
async fn a_socket_with_a_newer_token_kicks_the_older_but_not_its_twins() {
    let standin = start(Line::Head).await;
    let first = standin.mint("u1", 5);
    let mut older = dial(&standin, &query(&first, "")).await.unwrap();
    let mut twin = dial(&standin, &query(&first, "")).await.unwrap();
    until("both twins stay", || standin.sockets("u1") == 2).await;
    until("a new second", || standin.mint("u1", 5) != first).await;
    let _newer = dial(&standin, &query(&standin.mint("u1", 5), "")).await.unwrap();
    for client in [&mut older, &mut twin] {
        assert_eq!(next(client).await.unwrap(), Message::binary(GO_KICK));
        assert_cut(client).await;
    }
    until("only the newer stays", || standin.sockets("u1") == 1).await;
}

#[tokio::test]
async fn a_client_close_is_echoed() {
    let standin = start(Line::Head).await;
    let mut client = connect(&standin, "").await;
    client.close(None).await.unwrap();
    assert!(matches!(next(&mut client).await, Some(Message::Close(_)) | None));
    until("the socket is gone", || standin.sockets("u1") == 0).await;
}

#[tokio::test]
async fn frames_sent_before_the_handshake_is_answered_end_the_connection() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: im\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\u{1}",
        query(&token, "")
    );
    let mut stream = TcpStream::connect(standin.ws()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end in time").unwrap();
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let standin = start(Line::Head).await;
    let _client = connect(&standin, "").await;
    until("the socket is cut", || standin.push("u1", vec![0; 1 << 20]) == 0).await;
}
