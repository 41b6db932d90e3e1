//! The one place that knows how to talk to a stand-in.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use flate2::read::GzDecoder;
use openim_standin::{Line, Options, Standin};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// The longest any wait of a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn start(line: Line) -> Standin {
    Standin::start(Options { line, ..Options::default() }).await.unwrap()
}

/// A response, with its body unchunked.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub(crate) fn code(&self) -> i64 {
        self.json()["errCode"].as_i64().unwrap()
    }

    pub(crate) fn gunzip(&self) -> String {
        let mut plain = String::new();
        GzDecoder::new(&self.body[..]).read_to_string(&mut plain).unwrap();
        plain
    }
}

/// A POST in the making.
pub(crate) struct Post {
    path: String,
    headers: String,
    body: String,
}

pub(crate) fn post(path: &str) -> Post {
    Post { path: path.to_owned(), headers: String::new(), body: "{}".to_owned() }
}

impl Post {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    /// Adds the two headers every authenticated call needs.
    pub(crate) fn token(self, token: &str) -> Self {
        self.header("operationID", "op").header("token", token)
    }

    pub(crate) fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn wire(&self) -> String {
        let (path, headers, length) = (&self.path, &self.headers, self.body.len());
        format!("POST {path} HTTP/1.1\r\nHost: im\r\n{headers}Content-Length: {length}\r\n\r\n{}", self.body)
    }

    pub(crate) async fn send(self, standin: &Standin) -> Reply {
        exchange(standin.api(), &self.wire()).await
    }
}

pub(crate) async fn get(address: SocketAddr, target: &str) -> Reply {
    exchange(address, &format!("GET {target} HTTP/1.1\r\nHost: im\r\n\r\n")).await
}

/// Sends bytes on a new connection and reads one response.
pub(crate) async fn exchange(address: SocketAddr, request: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_reply(&mut stream).await
}

pub(crate) async fn read_reply(stream: &mut TcpStream) -> Reply {
    timeout(PATIENCE, read_reply_unbounded(stream)).await.expect("a response in time")
}

async fn read_reply_unbounded(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let mut reply = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            bytes.drain(..end + 4);
            break parse_head(&head);
        }
        fill(stream, &mut bytes).await;
    };
    if reply.header("transfer-encoding").is_some() {
        while !bytes.ends_with(b"0\r\n\r\n") {
            fill(stream, &mut bytes).await;
        }
        reply.body = unchunk(&bytes);
        return reply;
    }
    let length = reply.header("content-length").map_or(0, |value| value.parse().unwrap());
    while bytes.len() < length {
        fill(stream, &mut bytes).await;
    }
    reply.body = bytes;
    reply
}

async fn fill(stream: &mut TcpStream, bytes: &mut Vec<u8>) {
    let count = stream.read_buf(bytes).await.unwrap();
    assert!(count > 0, "closed early after {}", String::from_utf8_lossy(bytes));
}

fn parse_head(head: &str) -> Reply {
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    });
    Reply { status, headers: headers.collect(), body: Vec::new() }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    body
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never happened: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
