//! HTTP/1.1 as Go's server speaks it, down to the framing: what it accepts, when it chunks, when it closes.
//!
//! Headers are kept in the order and spelling of the wire, because tests of a gateway must see exactly that.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::date;

/// The largest request head.
///
/// Source: Go `net/http` DefaultMaxHeaderBytes plus its slack of 4096.
const MAX_HEAD: usize = (1 << 20) + 4096;

/// The longest answer that still gets a `Content-Length`.
///
/// Source: Go `net/http` bufferBeforeChunkingSize.
const MAX_COUNTED: usize = 2048;

/// How long a closing connection waits for the peer, so that what it wrote last is not lost to a reset.
const LINGER: Duration = Duration::from_millis(200);

/// The head of a request as it came over the wire.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) minor: u8,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// Returns the first copy of a header, empty when there is none.
    pub(crate) fn first(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// Returns every copy of a header.
    pub(crate) fn copies<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let of_name = self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str())
    }

    /// Tells whether any copy of a header lists a token.
    pub(crate) fn lists(&self, name: &str, token: &str) -> bool {
        self.copies(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    /// Returns the query without its question mark.
    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Returns the path still encoded; an absolute target loses its authority.
    pub(crate) fn raw_path(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        match path.split_once("://") {
            Some((_, rest)) if !path.starts_with('/') => rest.find('/').map_or("/", |start| &rest[start..]),
            _ => path,
        }
    }

    pub(crate) fn version(&self) -> String {
        format!("HTTP/1.{}", self.minor)
    }

    fn keeps_alive(&self) -> bool {
        match self.minor {
            0 => self.lists("connection", "keep-alive"),
            _ => !self.lists("connection", "close"),
        }
    }
}

/// A request Go refuses before any handler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRequest {
    Syntax,
    NoHost,
    TwoHosts,
    Length,
    Coding,
    HeadTooLarge,
}

impl BadRequest {
    /// Writes Go's answer; the connection closes after it.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let status = match self {
            Self::Syntax | Self::Length => "400 Bad Request",
            Self::NoHost => "400 Bad Request: missing required Host header",
            Self::TwoHosts => "400 Bad Request: too many Host headers",
            Self::Coding => "501 Not Implemented: unsupported transfer encoding",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
        };
        let line = status.split(':').next().unwrap_or(status);
        let kind = "Content-Type: text/plain; charset=utf-8\r\nConnection: close";
        format!("HTTP/1.1 {line}\r\n{kind}\r\n\r\n{status}").into_bytes()
    }
}

/// A connection with what was read from it ahead of need.
pub(crate) struct Wire {
    stream: TcpStream,
    pub(crate) inbound: BytesMut,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, inbound: BytesMut::with_capacity(4096) }
    }

    /// Reads more bytes and says how many; safe to cancel.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.inbound).await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads a request head; none when the client has left.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Result<Head, BadRequest>>> {
        loop {
            match parse_head(&self.inbound) {
                Ok(Some((head, length))) => {
                    self.inbound.advance(length);
                    return Ok(Some(check_host(head)));
                }
                Err(bad) => return Ok(Some(Err(bad))),
                Ok(None) if self.inbound.len() > MAX_HEAD => return Ok(Some(Err(BadRequest::HeadTooLarge))),
                Ok(None) => {}
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Closes the connection, waiting shortly for the peer to take the last bytes.
    pub(crate) async fn close(mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let drained = async {
            let mut sink = [0; 4096];
            while self.stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
        };
        // A peer that keeps its side open is closed on all the same.
        let _elapsed = timeout(LINGER, drained).await;
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, BadRequest> {
    let mut slots = vec![httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut slots);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(BadRequest::HeadTooLarge),
        Err(_) => return Err(BadRequest::Syntax),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = request.headers.iter().map(|field| (field.name.to_owned(), text(field.value))).collect();
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(BadRequest::Syntax);
    };
    Ok(Some((Head { method: method.to_owned(), target: target.to_owned(), minor, headers }, length)))
}

fn check_host(head: Head) -> Result<Head, BadRequest> {
    match head.copies("host").count() {
        0 if head.minor > 0 => Err(BadRequest::NoHost),
        0 | 1 => Ok(head),
        _ => Err(BadRequest::TwoHosts),
    }
}

/// A response before framing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Response {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Builds the answer of Go's `http.Redirect` to a client that sent no content type.
    pub(crate) fn moved(status: u16, location: &str) -> Self {
        let reason = StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
        let escaped =
            location.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
        let body = format!("<a href=\"{escaped}\">{}</a>.\n\n", reason.unwrap_or_default());
        Self::new(status, body).with("Content-Type", "text/html; charset=utf-8").with("Location", location)
    }

    fn framing(&self, head: &Head) -> Framing {
        let given = ["content-length", "transfer-encoding"];
        let is_given = |name: &String| given.iter().any(|known| name.eq_ignore_ascii_case(known));
        match self.body.len() <= MAX_COUNTED {
            _ if self.headers.iter().any(|(name, _)| is_given(name)) => Framing::Given,
            true => Framing::Counted,
            false if head.minor == 0 => Framing::UntilClose,
            false => Framing::Chunked,
        }
    }

    /// Tells whether the connection must close after this response whatever the server wished.
    pub(crate) fn ends_connection(&self, head: &Head) -> bool {
        self.framing(head) == Framing::UntilClose || !head.keeps_alive()
    }

    /// Writes the response for a request, framed as Go would.
    pub(crate) fn to_bytes(&self, head: &Head, ending: Ending) -> Vec<u8> {
        let reason = StatusCode::from_u16(self.status).ok().and_then(|code| code.canonical_reason());
        let framing = self.framing(head);
        let mut out = Vec::with_capacity(512 + self.body.len());
        line(&mut out, &format!("HTTP/1.1 {} {}", self.status, reason.unwrap_or("Unknown")));
        for (name, value) in &self.headers {
            line(&mut out, &format!("{name}: {value}"));
        }
        line(&mut out, &format!("Date: {}", date::now()));
        match framing {
            Framing::Chunked => line(&mut out, "Transfer-Encoding: chunked"),
            Framing::Counted => line(&mut out, &format!("Content-Length: {}", self.body.len())),
            Framing::Given | Framing::UntilClose => {}
        }
        match (ending, head.minor) {
            (Ending::Close, _) => line(&mut out, "Connection: close"),
            (Ending::Keep, 0) => line(&mut out, "Connection: keep-alive"),
            (Ending::Keep, _) => {}
        }
        line(&mut out, "");
        if head.method != "HEAD" {
            write_body(&mut out, &self.body, framing);
        }
        out
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Given,
    Counted,
    Chunked,
    UntilClose,
}

fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_body(out: &mut Vec<u8>, body: &[u8], framing: Framing) {
    if framing != Framing::Chunked {
        out.extend_from_slice(body);
        return;
    }
    line(out, &format!("{:x}", body.len()));
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n0\r\n\r\n");
}

/// Whether the connection outlives a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Keep,
    Close,
}
