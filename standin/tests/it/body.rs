//! Bodies as Go reads them: keys, duplicates, the end of the value, the size.

use openim_standin::Line;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{PATIENCE, exchange, post, read_reply, start, until};

#[tokio::test]
async fn owner_check_sees_what_go_would_see() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let cases = [
        (r#"{"userID":"u1"}"#, 0),
        (r#"{"USERID":"u1"}"#, 0),
        (r#"{"userID":"u2","UserID":"u1"}"#, 0),
        (r#"{"userID":"u1","userid":"u2"}"#, 1002),
        (r#"{"userID":"u1"}{"userID":"u2"}"#, 0),
        (r#"{"userID":5}"#, 1001),
        (r#"{"userID":""}"#, 1001),
        ("", 1001),
        ("[]", 1001),
    ];
    for (body, expected) in cases {
        let reply = post("/msg/newest_seq").token(&token).body(body).send(&standin).await;
        assert_eq!(reply.code(), expected, "{body}");
    }
}

#[tokio::test]
async fn the_call_is_acted_on_before_the_body_has_ended() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let json = r#"{"ownerUserID":"u1","groupInfo":{"groupID":"g1"}}"#;
    let head =
        format!("POST /group/create_group HTTP/1.1\r\nHost: im\r\noperationID: op\r\ntoken: {token}\r\n");
    let mut stream = TcpStream::connect(standin.api()).await.unwrap();
    stream
        .write_all(format!("{head}Content-Length: {}\r\n\r\n{json}", json.len() + 3).as_bytes())
        .await
        .unwrap();

    let query = post("/group/get_groups_info").token(&token).body(r#"{"groupIDs":["g1"]}"#).wire();
    let created = async {
        while exchange(standin.api(), &query).await.json()["data"]["groupInfos"][0]["groupID"] != "g1" {}
    };
    timeout(PATIENCE, created).await.expect("the group exists in time");
    assert!(!standin.records().iter().any(|record| record.target == "/group/create_group"));

    stream.write_all(b"   ").await.unwrap();
    assert_eq!(read_reply(&mut stream).await.code(), 0);
    until("the record", || standin.records().iter().any(|record| record.body.ends_with(b"}   "))).await;
}

#[tokio::test]
async fn chunked_bodies_are_joined() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let request = format!(
        "POST /msg/newest_seq HTTP/1.1\r\nHost: im\r\noperationID: op\r\ntoken: {token}\r\n\
         Transfer-Encoding: chunked\r\n\r\na\r\n{{\"userID\":\r\n5;x=y\r\n\"u1\"}}\r\n0\r\nTrailer: t\r\n\r\n"
    );
    assert_eq!(exchange(standin.api(), &request).await.code(), 0);
    assert_eq!(&standin.records()[0].body[..], br#"{"userID":"u1"}"#);
}

#[tokio::test]
async fn eight_mebibytes_are_the_limit() {
    let pad = |size: usize| format!(r#"{{"p":"{}"}}"#, "x".repeat(size - r#"{"p":""}"#.len()));
    for (line, refusal) in [(Line::Head, 500), (Line::P16, 8)] {
        let standin = start(line).await;
        let token = standin.mint("u1", 5);
        for (size, expected) in [(8 << 20, 0), ((8 << 20) + 1, refusal)] {
            let reply = post("/third/logs/upload").token(&token).body(pad(size)).send(&standin).await;
            assert_eq!((reply.status, reply.code()), (200, expected), "{size} on {line:?}");
        }
    }
}

#[tokio::test]
async fn jssdk_looks_at_the_content_type() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    for (kind, expected) in [("application/json", 0), ("application/x-protobuf", 0), ("text/plain", 1001)] {
        let request = post("/jssdk/get_conversations").token(&token).header("Content-Type", kind);
        assert_eq!(request.send(&standin).await.code(), expected, "{kind}");
    }
}

#[tokio::test]
async fn what_go_refuses_never_reaches_a_handler() {
    let standin = start(Line::Head).await;
    let cases = [
        ("no host", "GET / HTTP/1.1\r\n\r\n", "400 Bad Request: missing required Host header"),
        (
            "two hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "400 Bad Request: too many Host headers",
        ),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "400 Bad Request",
        ),
        ("bad escape", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
    ];
    for (name, request, text) in cases {
        let mut stream = TcpStream::connect(standin.api()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
        assert!(answer.ends_with(&format!("\r\n\r\n{text}")), "{name}: {answer}");
    }
    assert!(standin.records().is_empty());
}
