//! A client's TCP connection, as Pingora's HTTP session reads and writes it.
//!
//! Unlike Pingora's own stream it holds no read buffer (the session has one), and gathers what is
//! written until it is flushed, so that head and body of a small answer leave in one `send`. A tunnel
//! takes the bare [`TcpStream`] out of it and is left with nothing of the HTTP machinery.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How much is gathered before it is written without waiting for a flush.
const GATHER: usize = 16 * 1024;

/// What an idle connection may keep of its write buffer.
const KEEP: usize = 2 * 1024;

/// A client's connection.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    gathered: Vec<u8>,
    digest: Arc<SocketDigest>,
    /// How long a write may make no progress.
    patience: Duration,
    /// Ends the wait of a write that makes none.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Takes a connection that was accepted from `peer`, and gives it up when a write makes no progress
    /// for `patience`.
    ///
    /// # Errors
    /// The kernel refuses TCP_NODELAY, as it does for a connection that is gone already.
    pub fn new(stream: TcpStream, peer: SocketAddr, patience: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // The address is known; without this Pingora would ask the kernel for it.
        let _ = digest.peer_addr.set(Some(peer.into()));
        Ok(Self { stream, gathered: Vec::new(), digest: Arc::new(digest), patience, stalled: None })
    }

    /// Gives up the connection, flushed or not: a tunnel takes over before anything was written.
    pub fn into_tcp(self) -> TcpStream {
        self.stream
    }

    /// Writes to the network, but waits no longer than the client's share of patience.
    fn poll_network(&mut self, cx: &mut Context<'_>, bytes: Bytes<'_>) -> Poll<io::Result<usize>> {
        let bytes = match bytes {
            Bytes::Gathered { sent } => &self.gathered[sent..],
            Bytes::These(bytes) => bytes,
        };
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, bytes) {
            self.stalled = None;
            return Poll::Ready(written);
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
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
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
        self.stream.as_raw_fd()
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
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        (Socket::new(stream, peer, Duration::from_millis(300)).unwrap(), client)
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
