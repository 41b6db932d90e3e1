//! An HTTP/1.1 client that sends exactly the bytes it is given and shows exactly what came back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as text.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

impl Sent {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let headers = vec![("Host".to_owned(), super::gateway::HOST.to_owned())];
        Self { method: method.to_owned(), target: target.to_owned(), headers, body: None }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = Some(body.to_vec());
        self
    }

    pub(crate) fn wire(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        [head.into_bytes(), self.body.clone().unwrap_or_default()].concat()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn copies(&self, name: &str) -> usize {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and errCode, which is what most tests ask for.
    pub(crate) fn verdict(&self) -> (u16, i64) {
        (self.status, self.json()["errCode"].as_i64().unwrap_or(-1))
    }
}

/// One connection to the gateway.
pub(crate) struct Client<S = TcpStream> {
    stream: S,
    buf: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Sends on a connection of its own.
    pub(crate) async fn once(address: SocketAddr, sent: &Sent) -> Reply {
        Self::connect(address).await.send(sent).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Speaks on a connection that is there already.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, buf: Vec::new() }
    }

    pub(crate) async fn send(&mut self, sent: &Sent) -> Reply {
        self.write(&sent.wire()).await;
        self.read(&sent.method).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads one answer; panics if none comes whole.
    pub(crate) async fn read(&mut self, method: &str) -> Reply {
        self.try_read(method).await.expect("a whole answer")
    }

    /// Reads one answer; `None` if the connection ended before it was whole.
    pub(crate) async fn try_read(&mut self, method: &str) -> Option<Reply> {
        tokio::time::timeout(PATIENCE, self.read_reply(method)).await.expect("an answer in time")
    }

    async fn read_reply(&mut self, method: &str) -> Option<Reply> {
        let head_end = loop {
            if let Some(at) = self.buf.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.buf[..head_end]).into_owned();
        self.buf.drain(..head_end);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        if method == "HEAD" || matches!(status, 100..200 | 204 | 304) {
            return Some(reply);
        }
        if let Some(length) = reply.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.buf.len() < length {
                self.fill().await?;
            }
            reply.body = self.buf.drain(..length).collect();
        } else if reply.header("transfer-encoding") == Some("chunked") {
            reply.body = self.read_chunks().await?;
        } else {
            while self.fill().await.is_some() {}
            reply.body = std::mem::take(&mut self.buf);
        }
        Some(reply)
    }

    async fn read_chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = self.buf.windows(2).position(|w| w == b"\r\n") {
                    break at;
                }
                self.fill().await?;
            };
            let line: Vec<u8> = self.buf.drain(..line_end + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            while self.buf.len() < size + 2 {
                self.fill().await?;
            }
            body.extend(self.buf.drain(..size));
            self.buf.drain(..2);
            if size == 0 {
                return Some(body);
            }
        }
    }

    async fn fill(&mut self) -> Option<()> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece).await {
            Ok(0) | Err(_) => None,
            Ok(n) => {
                self.buf.extend_from_slice(&piece[..n]);
                Some(())
            }
        }
    }

    /// Whether the gateway closed this connection, waiting for it to do so.
    pub(crate) async fn is_closed(&mut self) -> bool {
        tokio::time::timeout(PATIENCE, self.fill()).await.is_ok_and(|read| read.is_none())
    }

    /// The bare connection and what was read beyond the last answer.
    pub(crate) fn into_stream(self) -> (S, Vec<u8>) {
        (self.stream, self.buf)
    }
}
