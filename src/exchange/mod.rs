//! A small request and its answer, whole: one write up, one write down.
//!
//! OpenIM acts as soon as the JSON value closes and hides its errors in HTTP 200, so the gateway must
//! have the whole request before a byte leaves and the whole answer before a byte returns. An answer
//! larger than the bound flows on in pieces. The worst bug possible here is one caller's answer sent
//! to another: a connection is kept only after an answer that ended exactly.

mod decode;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method};
use imgate_filters::reject::{Cause, Hint, RETRY_AFTER, Reject};
use pingora_http::ResponseHeader;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};

use self::decode::{Framing, Garbled, Step};
use crate::upstream::{Asker, ConnectError, Connection, Upstream};
use crate::{answer, envelope};

/// The most an answer's head may measure.
const MAX_HEAD: usize = 64 * 1024;

/// The most headers an answer may have.
const MAX_HEADERS: usize = 128;

/// How many interim (1xx) answers are passed over before the real one.
const MAX_INTERIM: usize = 8;

/// How much is read at once.
const READ: usize = 8 * 1024;

/// Whether a request may be sent a second time when its connection broke before a byte of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It may: the method is safe, or the route says so.
    Allow,
    /// It may not: the upstream might act twice.
    Refuse,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No server accepted a connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The upstream closed before it answered.
    #[error("upstream closed the connection before it answered")]
    Closed,
    /// The upstream was silent for too long before its answer began.
    #[error("upstream did not answer in time")]
    Timeout,
    /// The upstream was silent for too long within its answer.
    #[error("upstream stalled within its answer")]
    Stalled,
    /// The answer is not HTTP, or broke off.
    #[error("upstream answer is unusable: {0}")]
    Garbled(&'static str),
    /// The connection failed.
    #[error("connection to upstream failed: {0}")]
    Io(#[source] io::Error),
}

impl From<Garbled> for ExchangeError {
    fn from(Garbled(what): Garbled) -> Self {
        Self::Garbled(what)
    }
}

impl From<ExchangeError> for Reject {
    fn from(error: ExchangeError) -> Self {
        let (cause, reason) = match error {
            ExchangeError::Connect(error) => return error.into(),
            ExchangeError::Closed => (Cause::UpstreamUnreachable, "upstream_closed"),
            ExchangeError::Timeout => (Cause::UpstreamTimeout, "upstream_silent"),
            ExchangeError::Stalled => (Cause::UpstreamTimeout, "upstream_stalled"),
            ExchangeError::Garbled(what) => (Cause::UpstreamUnreachable, what),
            ExchangeError::Io(_) => (Cause::UpstreamUnreachable, "upstream_broken"),
        };
        Self::new(cause, reason).with(Hint::RetryAfter(RETRY_AFTER))
    }
}

impl From<ConnectError> for Reject {
    fn from(error: ConnectError) -> Self {
        let (cause, reason) = match error {
            ConnectError::Refused(_) => (Cause::UpstreamUnreachable, "connect_refused"),
            ConnectError::Tls(_) => (Cause::UpstreamUnreachable, "tls_failed"),
            ConnectError::Timeout => (Cause::UpstreamTimeout, "connect_timeout"),
            ConnectError::BreakerOpen => (Cause::UpstreamUnreachable, "breaker_open"),
            ConnectError::NoServer => (Cause::UpstreamUnreachable, "no_server_known"),
            // Nothing is wrong with the upstream: this gateway is full.
            ConnectError::Exhausted(_) => (Cause::Overloaded, "no_socket_left"),
        };
        Self::new(cause, reason).with(Hint::RetryAfter(RETRY_AFTER))
    }
}

/// An answer, and how its body continues.
pub struct Answer {
    /// Status and headers, less those that do not go on to the client.
    pub head: ResponseHeader,
    /// The body.
    pub body: Body,
    err_code: Option<i64>,
}

impl Answer {
    /// OpenIM's `errCode`, if the answer is an envelope. The code stands at its front, so the beginning
    /// of a large answer tells it, too.
    pub fn err_code(&self) -> Option<i64> {
        self.err_code
    }
}

/// The body of an answer.
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// More than is held in memory: what came so far, and the rest to come.
    Flowing {
        /// The beginning.
        first: Bytes,
        /// The rest.
        rest: Box<Rest>,
    },
}

/// A request, written.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Head and body.
    pub wire: &'a [u8],
    /// Its method.
    pub method: &'a Method,
    /// Whether it may be sent a second time.
    pub repeat: Repeat,
    /// The most of the answer's body that is held in memory, in bytes.
    pub hold: usize,
    /// Whose it is.
    pub asker: Asker,
}

/// Sends a written request and reads its answer.
///
/// # Errors
/// No connection could be had, or the answer did not come whole, in time and well formed.
pub async fn exchange(upstream: &Upstream, request: Request<'_>) -> Result<Answer, ExchangeError> {
    let options = &upstream.options;
    let max_idle = match request.repeat {
        Repeat::Allow => options.idle_timeout,
        Repeat::Refuse => options.idle_timeout_unsafe,
    };
    let connection = upstream.connect(request.asker, max_idle).await?;
    match send_and_read(connection, request).await {
        // The server closed a connection it had kept, before it saw the request.
        Err(Failed { is_stale: true, .. }) if request.repeat == Repeat::Allow && upstream.may_repeat() => {
            let connection = upstream.connect_anew(request.asker).await?;
            send_and_read(connection, request).await.map_err(|failed| failed.error)
        }
        other => other.map_err(|failed| failed.error),
    }
}

/// Sends a written request on this connection alone, and reads its answer.
///
/// # Errors
/// The answer did not come whole, in time and well formed.
pub async fn examine(
    connection: Connection,
    wire: &[u8],
    method: &Method,
    hold: usize,
) -> Result<Answer, ExchangeError> {
    let request = Request { wire, method, repeat: Repeat::Refuse, hold, asker: Asker::default() };
    send_and_read(connection, request).await.map_err(|failed| failed.error)
}

/// What became of a request to switch protocols.
pub enum Upgrade {
    /// The upstream switched; the connection is the client's from now on.
    Switched {
        /// The connection, with its place in the load of its server.
        connection: Connection,
        /// Everything read from it: the head of the 101 and what came after it.
        read: BytesMut,
    },
    /// The upstream answered in plain HTTP.
    Answered(Answer),
}

/// Sends a written WebSocket handshake on a connection of its own and reads what comes back, up to `hold`
/// bytes of body in memory.
///
/// # Errors
/// As [`exchange`]; also if the upstream switches to something that is not a WebSocket.
pub async fn upgrade(
    upstream: &Upstream,
    wire: &[u8],
    hold: usize,
    asker: Asker,
) -> Result<Upgrade, ExchangeError> {
    let connection = upstream.connect_anew(asker).await?;
    let mut rest = Rest::begin(connection);
    let switched = match rest.shake_hands(wire).await {
        Ok(switched) => switched,
        Err(error) => return Err(rest.fail(error).error),
    };
    if switched {
        rest.connection.lease().good();
        return Ok(Upgrade::Switched { connection: rest.connection, read: rest.buf });
    }
    rest.take_answer(&Method::GET, hold).await.map(Upgrade::Answered).map_err(|failed| failed.error)
}

/// Whether the head in `buf` switches to WebSocket; `None` while it is incomplete.
fn switches(buf: &[u8]) -> Result<Option<bool>, ExchangeError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(buf) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ExchangeError::Garbled("answer_head_invalid")),
    }
    if parsed.code != Some(101) {
        return Ok(Some(false));
    }
    let has = |name: &str| parsed.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
    let to_websocket = has("upgrade").is_some_and(|h| h.value.eq_ignore_ascii_case(b"websocket"));
    if !to_websocket || has("sec-websocket-accept").is_none() {
        return Err(ExchangeError::Garbled("answer_switches_to_what"));
    }
    Ok(Some(true))
}

struct Failed {
    error: ExchangeError,
    /// A kept connection ended and nothing was read from it.
    is_stale: bool,
}

async fn send_and_read(connection: Connection, request: Request<'_>) -> Result<Answer, Failed> {
    let mut rest = Rest::begin(connection);
    rest.keep = rest.write_unless_answered(request.wire).await;
    rest.take_answer(request.method, request.hold).await
}

/// The part of an answer that is still on its connection.
pub struct Rest {
    connection: Connection,
    buf: BytesMut,
    framing: Framing,
    keep: bool,
    has_read: bool,
}

impl Rest {
    fn begin(mut connection: Connection) -> Self {
        connection.lease().waits();
        Self {
            connection,
            buf: BytesMut::with_capacity(READ),
            framing: Framing::Length(0),
            keep: false,
            has_read: false,
        }
    }

    /// Reads an answer to the end, or to the bound, and tells the server how it did.
    async fn take_answer(mut self, method: &Method, hold: usize) -> Result<Answer, Failed> {
        let (head, held, is_whole) = match self.read_answer(method, hold).await {
            Ok(read) => read,
            Err(error) => return Err(self.fail(error)),
        };
        let err_code = envelope::err_code(&held);
        self.connection.judge(head.status, err_code);
        let body = if is_whole {
            self.finish();
            Body::Whole(held)
        } else {
            Body::Flowing { first: held, rest: Box::new(self) }
        };
        Ok(Answer { head, body, err_code })
    }

    async fn read_answer(
        &mut self,
        method: &Method,
        hold: usize,
    ) -> Result<(ResponseHeader, Bytes, bool), ExchangeError> {
        let head = self.read_head(method).await?;
        let mut held = Held::default();
        while held.len() <= hold {
            match self.next().await? {
                Some(piece) => held.push(piece),
                None => return Ok((head, held.into_bytes(), true)),
            }
        }
        Ok((head, held.into_bytes(), false))
    }

    /// Tells the server that there is no answer, unless it had closed the connection before.
    fn fail(mut self, error: ExchangeError) -> Failed {
        let has_ended = matches!(error, ExchangeError::Closed | ExchangeError::Io(_));
        let is_stale = has_ended && !self.has_read && self.connection.is_reused();
        let lease = self.connection.lease();
        if is_stale {
            lease.stale();
        } else {
            lease.bad();
        }
        Failed { error, is_stale }
    }

    /// Sends a handshake, and tells whether the upstream switches.
    async fn shake_hands(&mut self, wire: &[u8]) -> Result<bool, ExchangeError> {
        self.connection.stream.write_all(wire).await.map_err(ExchangeError::Io)?;
        self.connection.stream.flush().await.map_err(ExchangeError::Io)?;
        loop {
            if let Some(switched) = switches(&self.buf)? {
                return Ok(switched);
            }
            if self.buf.len() > MAX_HEAD {
                return Err(ExchangeError::Garbled("answer_head_too_large"));
            }
            if self.fill().await? == 0 {
                return Err(ExchangeError::Closed);
            }
        }
    }

    /// Writes a request, and tells whether it was written whole. A server may answer before it has read
    /// everything, and read no more; then, as when writing fails, the answer is looked for all the same,
    /// but the connection is never kept.
    async fn write_unless_answered(&mut self, wire: &[u8]) -> bool {
        let mut sent = 0;
        poll_fn(|cx| {
            while sent < wire.len() {
                match self.poll_write(cx, &wire[sent..]) {
                    Poll::Ready(0) => return Poll::Ready(false),
                    Poll::Ready(n) => sent += n,
                    Poll::Pending => return self.poll_early_answer(cx).map(|()| false),
                }
            }
            Pin::new(&mut self.connection.stream).poll_flush(cx).map(|flushed| flushed.is_ok())
        })
        .await
    }

    /// Writes some of it; 0 if the connection takes nothing any more.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<usize> {
        Pin::new(&mut self.connection.stream).poll_write(cx, bytes).map(|written| written.unwrap_or(0))
    }

    /// Ready once the server says something, or nothing any more, while it is still being written to.
    fn poll_early_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [MaybeUninit::uninit(); READ];
        let mut read = ReadBuf::uninit(&mut space);
        let _ = ready!(Pin::new(&mut self.connection.stream).poll_read(cx, &mut read));
        self.buf.extend_from_slice(read.filled());
        self.has_read |= !self.buf.is_empty();
        Poll::Ready(())
    }

    async fn read_head(&mut self, method: &Method) -> Result<ResponseHeader, ExchangeError> {
        for _ in 0..=MAX_INTERIM {
            let head = self.read_one_head(method).await?;
            if !head.status.is_informational() {
                return Ok(head);
            }
            if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
                return Err(ExchangeError::Garbled("answer_switches_protocols"));
            }
        }
        Err(ExchangeError::Garbled("answer_interim_endless"))
    }

    async fn read_one_head(&mut self, method: &Method) -> Result<ResponseHeader, ExchangeError> {
        loop {
            if let Some(head) = self.parse_head(method)? {
                return Ok(head);
            }
            if self.buf.len() > MAX_HEAD {
                return Err(ExchangeError::Garbled("answer_head_too_large"));
            }
            if self.fill().await? == 0 {
                let nothing = self.buf.is_empty();
                return Err(if nothing { ExchangeError::Closed } else { Garbled("answer_truncated").into() });
            }
        }
    }

    fn parse_head(&mut self, method: &Method) -> Result<Option<ResponseHeader>, ExchangeError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let used = match parsed.parse(&self.buf) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(ExchangeError::Garbled("answer_head_invalid")),
        };
        let head = build_head(&parsed)?;
        if !head.status.is_informational() {
            self.framing = Framing::of(&parsed, method)?;
            let ends = self.framing != Framing::UntilClose && !owes_body(&parsed, &self.framing);
            self.keep &= may_keep(&parsed) && ends;
        }
        let _ = self.buf.split_to(used);
        Ok(Some(head))
    }

    /// The next piece of the body; `None` is its end.
    ///
    /// # Errors
    /// The body broke off, broke its framing, or stood still for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        loop {
            match self.framing.step(&mut self.buf)? {
                Step::Data(data) => return Ok(Some(data)),
                Step::End => return Ok(None),
                Step::More => {}
            }
            if self.fill().await? == 0 {
                self.framing.at_eof()?;
                return Ok(None);
            }
        }
    }

    /// Keeps the connection if the answer ended exactly; called once [`Rest::next`] said `None`.
    pub fn finish(self) {
        if self.keep && self.buf.is_empty() {
            self.connection.keep();
        }
    }

    async fn fill(&mut self) -> Result<usize, ExchangeError> {
        self.buf.reserve(READ);
        let options = self.connection.options();
        let patience = if self.has_read { options.read_timeout } else { options.first_byte_timeout };
        let read = self.connection.stream.read_buf(&mut self.buf);
        match pingora_timeout::timeout(patience, read).await {
            Ok(Ok(n)) => {
                self.has_read |= n > 0;
                Ok(n)
            }
            Ok(Err(error)) => Err(ExchangeError::Io(error)),
            Err(_) if self.has_read => Err(ExchangeError::Stalled),
            Err(_) => Err(ExchangeError::Timeout),
        }
    }
}

/// Pieces of a body, copied together only if there are several.
#[derive(Default)]
struct Held {
    first: Bytes,
    all: BytesMut,
}

impl Held {
    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&piece);
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

/// The head of an answer without what stays between the upstream and us.
fn build_head(parsed: &httparse::Response<'_, '_>) -> Result<ResponseHeader, ExchangeError> {
    let invalid = || ExchangeError::Garbled("answer_head_invalid");
    let status = parsed.code.ok_or_else(invalid)?;
    let mut head =
        ResponseHeader::build_no_case(status, Some(parsed.headers.len() + 8)).map_err(|_| invalid())?;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| invalid())?;
        if answer::is_dropped(&name) {
            continue;
        }
        let value = HeaderValue::from_bytes(header.value).map_err(|_| invalid())?;
        head.append_header(name, value).map_err(|_| invalid())?;
    }
    Ok(head)
}

/// Whether a body is announced where none can be: to HEAD, or with 204 or 304. A server that sends it all
/// the same does so while the connection may already carry somebody else's request.
fn owes_body(parsed: &httparse::Response<'_, '_>, framing: &Framing) -> bool {
    let announces = |h: &httparse::Header<'_>| {
        h.name.eq_ignore_ascii_case("transfer-encoding")
            || h.name.eq_ignore_ascii_case("content-length") && h.value.trim_ascii() != b"0"
    };
    *framing == Framing::Length(0) && parsed.headers.iter().any(announces)
}

/// Whether the server means to keep the connection open. Source: RFC 9112 section 9.3.
fn may_keep(parsed: &httparse::Response<'_, '_>) -> bool {
    let says = |word: &[u8]| {
        parsed
            .headers
            .iter()
            .filter(|h| h.name.eq_ignore_ascii_case("connection"))
            .flat_map(|h| h.value.split(|b| *b == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(word))
    };
    match parsed.version {
        Some(1) => !says(b"close"),
        _ => says(b"keep-alive") && !says(b"close"),
    }
}
