//! How answers are framed: chunked above 2 KB, compressed on request, on a connection that stays.

use openim_standin::{Answer, Line, Options, Standin};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{exchange, post, read_reply, start};

/// Registers enough users to make the list long, and asks for it.
async fn long_list(standin: &Standin, headers: &[(&str, &str)]) -> crate::support::Reply {
    for number in 0..100 {
        standin.register(&format!("user-{number:04}-with-a-long-name"));
    }
    let token = standin.mint("u1", 5);
    let request =
        headers.iter().fold(post("/user/get_users"), |request, (name, value)| request.header(name, value));
    request.token(&token).send(standin).await
}

#[tokio::test]
async fn short_answers_are_counted_and_long_ones_chunked() {
    let standin = start(Line::Head).await;
    let short = post("/x").send(&standin).await;
    assert_eq!(short.header("transfer-encoding"), None);
    assert_eq!(short.header("content-length"), Some(short.body.len().to_string().as_str()));

    let long = long_list(&standin, &[]).await;
    assert_eq!((long.header("content-length"), long.header("transfer-encoding")), (None, Some("chunked")));
    assert_eq!(long.json()["data"]["total"], 102);
}

#[tokio::test]
async fn two_kilobytes_are_the_border() {
    let standin = start(Line::Head).await;
    for (size, chunked) in [(2048, false), (2049, true)] {
        standin.answer_next("/any", Answer::json(200, vec![b'x'; size]));
        let reply = post("/any").send(&standin).await;
        assert_eq!((reply.body.len(), reply.header("transfer-encoding").is_some()), (size, chunked));
    }
}

#[tokio::test]
async fn gzip_is_given_to_those_who_accept_it() {
    let standin = start(Line::Head).await;
    let reply = long_list(&standin, &[("Accept-Encoding", "gzip, br")]).await;
    assert_eq!(
        (reply.header("content-encoding"), reply.header("vary")),
        (Some("gzip"), Some("Accept-Encoding"))
    );
    assert!(reply.gunzip().starts_with(r#"{"errCode":0"#));

    let quiet = Standin::start(Options { gzip: false, ..Options::default() }).await.unwrap();
    assert_eq!(long_list(&quiet, &[("Accept-Encoding", "gzip")]).await.header("content-encoding"), None);
}

#[tokio::test]
async fn connections_stay_until_the_client_says_close() {
    let standin = start(Line::Head).await;
    let mut stream = TcpStream::connect(standin.api()).await.unwrap();
    for connection in ["keep-alive", "close"] {
        stream.write_all(post("/x").header("Connection", connection).wire().as_bytes()).await.unwrap();
        let reply = read_reply(&mut stream).await;
        let says_close = reply.header("connection") == Some("close");
        assert_eq!(says_close, connection == "close");
    }
    assert_eq!(tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await.unwrap(), 0);
    let connections: Vec<u64> = standin.records().iter().map(|record| record.connection).collect();
    assert_eq!(connections, [0, 0]);
}

#[tokio::test]
async fn continue_is_sent_only_when_the_body_is_wanted() {
    let standin = start(Line::Head).await;
    let token = standin.mint("u1", 5);
    let request = |token: &str| {
        post("/msg/get_server_time")
            .token(token)
            .header("Expect", "100-continue")
            .body("")
            .header("X", "y")
            .wire()
    };
    let wanted = request(&token).replace("Content-Length: 0", "Content-Length: 2");
    assert_eq!(exchange(standin.api(), &wanted).await.status, 100);
    let refused = request("garbage").replace("Content-Length: 0", "Content-Length: 2");
    let reply = exchange(standin.api(), &refused).await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
}
