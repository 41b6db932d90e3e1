//! A client's connection, as Pingora's HTTP session reads and writes it.
//!
//! It hands out the bytes of one request and no more: what a client sends ahead stays for the next one,
//! and chunks are checked on their way. What is written is gathered until it is flushed, so that head and
//! body of a small answer leave in one `send`. Whoever drops it gives the connection back to the loop that
//! made it, so that it can be closed with care; a tunnel takes the bare [`Wire`] out of it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use super::frame::Frame;
use crate::wire::Wire;

/// How much is gathered before it is written without waiting for a flush.
const GATHER: usize = 16 * 1024;

/// What an idle connection may keep of its write buffer.
const KEEP: usize = 2 * 1024;

/// How much is read at once where nobody says how much is wanted.
const READ: usize = 4 * 1024;

/// Where a connection is left by whoever is done with it.
pub(super) type Home = Arc<Mutex<Option<Left>>>;

/// A connection that was left.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) wire: Wire,
    /// Whether its client closed its side.
    pub(super) ended: bool,
}

/// A client's connection.
#[derive(Debug)]
pub struct Socket {
    /// None once a tunnel took it.
    wire: Option<Wire>,
    /// What of the request under way is still to come.
    frame: Frame,
    /// What was read and is not handed out yet.
    ahead: BytesMut,
    /// Whether the client closed its side.
    ended: bool,
    gathered: Vec<u8>,
    digest: Arc<SocketDigest>,
    /// How long a write may make no progress.
    patience: Duration,
    /// Ends the wait of a write that makes none.
    stalled: Option<Pin<Box<Sleep>>>,
    home: Home,
}

impl Socket {
    /// Takes a connection of `peer`, and gives it up when a write makes no progress for `patience`.
    /// Whatever comes on it is handed out until a request begins.
    pub fn new(wire: impl Into<Wire>, peer: SocketAddr, patience: Duration) -> Self {
        let wire = wire.into();
        let digest = SocketDigest::from_raw_fd(wire.as_raw_fd());
        // The address is known; without this Pingora would ask the kernel for it.
        let _ = digest.peer_addr.set(Some(peer.into()));
        Self {
            wire: Some(wire),
            frame: Frame::Open,
            ahead: BytesMut::new(),
            ended: false,
            gathered: Vec::new(),
            digest: Arc::new(digest),
            patience,
            stalled: None,
            home: Home::default(),
        }
    }

    /// The protocol that was agreed on while shaking hands, if one was.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.wire.as_ref()?.alpn()
    }

    /// Where the connection goes when this is dropped.
    pub(super) fn home(&self) -> Home {
        Arc::clone(&self.home)
    }

    /// Hands out, from now on, what of a request is still to come, `ahead` first; then no more.
    pub(super) fn begin(&mut self, frame: Frame, ahead: BytesMut) {
        self.frame = frame;
        self.ahead = ahead;
    }

    /// What was read beyond the request that has ended.
    pub(super) fn take_ahead(&mut self) -> BytesMut {
        std::mem::take(&mut self.ahead)
    }

    /// Waits for bytes and appends them; 0 at the end. The buffer they are read to is on the stack of the
    /// call that finds some, so an idle connection holds none.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) async fn read_more(&mut self, buf: &mut BytesMut) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_more(cx, buf)).await
    }

    fn poll_more(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        let mut space = [std::mem::MaybeUninit::uninit(); READ];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(wire(&mut self.wire)?).poll_read(cx, &mut read))?;
        buf.extend_from_slice(read.filled());
        self.ended |= read.filled().is_empty();
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Gives up the connection and what was read of it, flushed or not: a tunnel takes over before anything
    /// was written.
    ///
    /// # Errors
    /// Somebody took it before.
    pub fn into_wire(mut self) -> io::Result<(Wire, BytesMut)> {
        let wire = self.wire.take().ok_or(io::ErrorKind::NotConnected)?;
        Ok((wire, self.take_ahead()))
    }

    /// Hands out bytes of the request that were read already.
    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let most = self.ahead.len().min(buf.remaining());
        let taken = self.frame.take(&self.ahead[..most]).map_err(io::Error::other)?;
        buf.put_slice(&self.ahead[..taken]);
        self.ahead.advance(taken);
        Ok(())
    }

    /// Nothing more belongs to this request, so a reader can only learn that the client is gone. What it
    /// sends ahead waits here; then nothing more is read, and nobody is woken.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            return Poll::Pending;
        }
        let mut ahead = BytesMut::new();
        let read = ready!(self.poll_more(cx, &mut ahead))?;
        self.ahead = ahead;
        if read == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Writes to the network, but waits no longer than the client's share of patience.
    fn poll_network(&mut self, cx: &mut Context<'_>, bytes: Bytes<'_>) -> Poll<io::Result<usize>> {
        let bytes = match bytes {
            Bytes::Gathered { sent } => &self.gathered[sent..],
            Bytes::These(bytes) => bytes,
        };
        if let Poll::Ready(written) = Pin::new(wire(&mut self.wire)?).poll_write(cx, bytes) {
            self.stalled = None;
            return Poll::Ready(written);
        }
        ready!(self.poll_patience(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ready once a write has made no progress for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience))).as_mut().poll(cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let result = loop {
            if sent == self.gathered.len() {
                break Ok(());
            }
            match self.poll_network(cx, Bytes::Gathered { sent }) {
                Poll::Ready(Ok(0)) => break Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(e)) => break Err(e),
                Poll::Pending => {
                    self.gathered.drain(..sent);
                    return Poll::Pending;
                }
            }
        };
        self.gathered.clear();
        self.gathered.shrink_to(KEEP);
        Poll::Ready(result)
    }
}

/// What is to be written.
#[derive(Clone, Copy)]
enum Bytes<'a> {
    /// What was gathered, from this place on.
    Gathered { sent: usize },
    /// These, as they are.
    These(&'a [u8]),
}

/// The connection, while it is here.
fn wire(wire: &mut Option<Wire>) -> io::Result<&mut Wire> {
    wire.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(wire) = self.wire.take() {
            *self.home.lock() = Some(Left { wire, ended: self.ended });
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.frame.is_done() {
            return self.poll_end(cx);
        }
        if !self.ahead.is_empty() {
            return Poll::Ready(self.hand_out(buf));
        }
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(wire(&mut this.wire)?).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        this.ended |= read.is_empty();
        let taken = this.frame.take(read);
        this.ahead.extend_from_slice(&read[*taken.as_ref().unwrap_or(&0)..]);
        buf.set_filled(before + *taken.as_ref().unwrap_or(&0));
        Poll::Ready(taken.map(drop).map_err(io::Error::other))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathered.len() + buf.len() > GATHER {
            ready!(self.poll_send(cx))?;
        }
        if buf.len() > GATHER {
            return self.poll_network(cx, Bytes::These(buf));
        }
        self.gathered.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        // TLS may hold bytes of its own.
        if let Poll::Ready(flushed) = Pin::new(wire(&mut self.wire)?).poll_flush(cx) {
            self.stalled = None;
            return Poll::Ready(flushed);
        }
        ready!(self.poll_patience(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(wire(&mut self.wire)?).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {
        // The connection is given up; that the peer was faster is no news.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        self.wire.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Ssl for Socket {}

impl Peek for Socket {}

impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        (Socket::new(stream, peer, Duration::from_millis(300)), client)
    }

    #[tokio::test]
    async fn nothing_leaves_before_the_flush_and_all_of_it_after() {
        let (mut socket, mut client) = pair().await;
        socket.write_all(b"head").await.unwrap();
        socket.write_all(b"body").await.unwrap();
        let mut buf = [0; 64];
        assert_eq!(client.try_read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        socket.flush().await.unwrap();
        let n = client.read(&mut buf).await.unwrap();
        assert_eq!(&buf[..n], b"headbody");
    }

    #[tokio::test]
    async fn a_request_gets_its_own_bytes_and_no_more() {
        let (mut socket, mut client) = pair().await;
        socket.begin(Frame::Length(6), BytesMut::from(&b"abc"[..]));
        client.write_all(b"defNEXT").await.unwrap();
        let mut got = [0; 6];
        socket.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"abcdef");
        // A reader that waits for the client to go does not get the next request.
        let waits = tokio::time::timeout(Duration::from_millis(50), socket.read(&mut got));
        assert!(waits.await.is_err());
        assert_eq!(socket.take_ahead(), "NEXT");
        drop(client);
        assert_eq!(socket.read(&mut got).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn malformed_chunks_are_no_body() {
        let (mut socket, mut client) = pair().await;
        socket.begin(Frame::Chunked(Default::default()), BytesMut::new());
        client.write_all(b"3\r\nabcX").await.unwrap();
        let mut got = Vec::new();
        assert!(socket.read_to_end(&mut got).await.is_err());
    }

    #[tokio::test]
    async fn whoever_drops_it_gives_the_connection_back() {
        let (socket, _client) = pair().await;
        let home = socket.home();
        drop(socket);
        assert!(home.lock().is_some());
        let (socket, _client) = pair().await;
        let home = socket.home();
        socket.into_wire().unwrap();
        assert!(home.lock().is_none());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let (mut socket, _client) = pair().await;
        let error = loop {
            if let Err(error) = socket.write_all(&[0; 60_000]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn large_answers_arrive_whole_and_in_order() {
        let (mut socket, mut client) = pair().await;
        let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            for chunk in sent.chunks(7_001) {
                socket.write_all(chunk).await.unwrap();
            }
            socket.write_all(&[9; 40_000]).await.unwrap();
            Shutdown::shutdown(&mut socket).await;
        });
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert_eq!(&got[..expected.len()], &expected[..]);
        assert_eq!(&got[expected.len()..], &[9; 40_000][..]);
    }
}
