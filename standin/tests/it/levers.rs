//! The recorder, the injected answers, and the end.

use openim_standin::{Answer, Line, Options, Server, Standin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{exchange, post, start};

#[tokio::test]
async fn requests_are_recorded_as_they_came() {
    let standin = start(Line::Head).await;
    let request = "POST /a%62c?x=%7a HTTP/1.1\r\nhOsT: im\r\noperationid: first\r\nX-Two: 1\r\n\
                   OperationID: second\r\nx-two: 2\r\nContent-Length: 2\r\n\r\n{}";
    exchange(standin.api(), request).await;
    let record = &standin.records()[0];
    let names: Vec<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["hOsT", "operationid", "X-Two", "OperationID", "x-two", "Content-Length"]);
    assert_eq!(
        (record.server, record.method.as_str(), record.target.as_str()),
        (Server::Api, "POST", "/a%62c?x=%7a")
    );
    assert_eq!(
        (record.operation_id.as_str(), record.err_code, &record.body[..]),
        ("first", Some(1001), &b"{}"[..])
    );
    assert_eq!(
        (record.copies("X-TWO"), record.header("x-TWO"), record.version.as_str()),
        (2, Some("1"), "HTTP/1.1")
    );
}

#[tokio::test]
async fn the_recorder_is_bounded_and_can_be_off() {
    for (record, record_limit, expected) in [(true, 2, 2), (false, 2, 0)] {
        let options = Options { record, record_limit, ..Options::default() };
        let standin = Standin::start(options).await.unwrap();
        for _ in 0..3 {
            post("/x").send(&standin).await;
        }
        assert_eq!(standin.records().len(), expected);
        standin.clear_records();
        assert!(standin.records().is_empty());
    }
}

#[tokio::test]
async fn debug_output_shows_no_token() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    exchange(standin.ws(), &format!("GET /?token={token} HTTP/1.1\r\nHost: im\r\n\r\n")).await;
    post("/x").token(&token).body(format!(r#"{{"token":"{token}"}}"#)).send(&standin).await;
    let shown = format!("{:?} {standin:?} {:?}", standin.records(), Options::default());
    assert!(!shown.contains(&token) && !shown.contains("openIM123"), "{shown}");
}

#[tokio::test]
async fn injected_answers_are_used_once_in_order() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    standin.answer_next("/msg/get_server_time", Answer::error(1506, "TokenKickedError", ""));
    standin.answer_next("/msg/get_server_time", Answer::json(502, "bad gateway"));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(post("/msg/get_server_time").token(&token).send(&standin).await);
    }
    assert_eq!((seen[0].status, seen[0].code()), (200, 1506));
    assert_eq!((seen[1].status, seen[1].text().as_str()), (502, "bad gateway"));
    assert_eq!((seen[2].status, seen[2].code()), (200, 0));
    let codes: Vec<Option<u32>> = standin.records().iter().map(|record| record.err_code).collect();
    assert_eq!(codes, [Some(1506), None, Some(0)]);
}

#[tokio::test]
async fn injected_bytes_and_hangups_end_the_connection() {
    let standin = start(Line::Head).await;
    for (answer, expected) in [(Answer::Verbatim("nonsense".into()), "nonsense"), (Answer::Hangup, "")] {
        standin.answer_next("/x", answer);
        let mut stream = TcpStream::connect(standin.api()).await.unwrap();
        stream.write_all(post("/x").wire().as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, expected);
    }
}

#[tokio::test]
async fn stopping_closes_every_connection() {
    let standin = start(Line::Head).await;
    let (api, ws) = (standin.api(), standin.ws());
    let mut streams = [TcpStream::connect(api).await.unwrap(), TcpStream::connect(ws).await.unwrap()];
    for stream in &mut streams {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: im\r\n\r\n").await.unwrap();
        crate::support::read_reply(stream).await;
    }
    standin.stop().await;
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or_default(), 0);
    }
    assert!(TcpStream::connect(api).await.is_err() && TcpStream::connect(ws).await.is_err());
}
