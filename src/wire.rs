//! A byte stream to or from somebody: TCP or a Unix socket, in the clear or under TLS.
//!
//! One type for clients and upstreams, so that what passes bytes (the exchange, the tunnel, the front
//! door) is written once. It holds no buffer of its own.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use crate::front::caps::Seat;

/// A connection as the kernel gives it, with the place it takes among those of clients, if it is one.
#[derive(Debug)]
pub struct Plain {
    kind: Kind,
    /// Given free when the connection is dropped.
    _seat: Option<Seat>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Plain {
    /// Holds this place for as long as it lives.
    #[must_use]
    pub fn seated(self, seat: Seat) -> Self {
        Self { _seat: Some(seat), ..self }
    }

    /// Has the connection reset when it is dropped: nothing stays behind, not even in the kernel.
    pub fn reset_when_dropped(&self) {
        if let Kind::Tcp(stream) = &self.kind {
            // It is gone already if the kernel refuses.
            let _ = stream.set_zero_linger();
        }
    }

    #[cfg(test)]
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match &self.kind {
            Kind::Tcp(stream) => Some(stream),
            Kind::Unix(_) => None,
        }
    }

    /// Has small writes leave at once.
    ///
    /// # Errors
    /// The kernel refuses, as it does for a connection that is gone already.
    pub fn set_nodelay(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(stream) => stream.set_nodelay(true),
            Kind::Unix(_) => Ok(()),
        }
    }

    /// Whether nothing waits to be read: no byte, no end, no error.
    ///
    /// It asks the kernel rather than tokio, which knows only what its poller has seen so far.
    fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let looked = match &self.kind {
            Kind::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Kind::Unix(stream) => SockRef::from(stream).peek(&mut byte),
        };
        matches!(looked, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }
}

impl From<TcpStream> for Plain {
    fn from(stream: TcpStream) -> Self {
        Self { kind: Kind::Tcp(stream), _seat: None }
    }
}

impl From<UnixStream> for Plain {
    fn from(stream: UnixStream) -> Self {
        Self { kind: Kind::Unix(stream), _seat: None }
    }
}

impl AsRawFd for Plain {
    fn as_raw_fd(&self) -> RawFd {
        match &self.kind {
            Kind::Tcp(stream) => stream.as_raw_fd(),
            Kind::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A byte stream to or from somebody.
#[derive(Debug)]
pub enum Wire {
    /// In the clear.
    Plain(Plain),
    /// Under TLS. On the heap: its state is a kilobyte that connections in the clear should not pay for.
    Tls(Box<TlsStream<Plain>>),
}

impl Wire {
    /// Whether the connection can carry another request: nothing waits to be read on it.
    ///
    /// Records that are no data, such as the session tickets of TLS 1.3, are read on the way.
    pub fn is_quiet(&mut self) -> bool {
        let stream = match self {
            Self::Plain(stream) => return stream.is_quiet(),
            Self::Tls(stream) => stream,
        };
        let mut byte = [0];
        let looked =
            Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte));
        looked.is_pending()
    }

    /// The protocol that both ends agreed on while shaking hands, if they did.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }
}

impl<T: Into<Plain>> From<T> for Wire {
    fn from(stream: T) -> Self {
        Self::Plain(stream.into())
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Plain(stream) => stream.as_raw_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_raw_fd(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
