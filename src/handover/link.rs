//! The socket between the two: words, each with at most one descriptor beside it.
//!
//! A packet is a word, so nothing has to be framed; the library makes descriptors that arrive close
//! themselves, so none is lost or leaks to a child.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The longest word, in bytes: an address, which may be the path of a Unix socket.
const MAX_WORD: usize = 512;

/// One end of the socket.
///
/// To tokio it is a stream, as far as waiting goes; what it carries are packets.
pub(super) struct Link(UnixStream);

/// What came over it.
pub(super) struct Packet {
    pub(super) word: String,
    pub(super) descriptor: Option<OwnedFd>,
}

impl Link {
    /// A socket's two ends: ours, and a child's.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        // Both are closed in whatever is executed; the child's end is given to it as its standard input.
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::over(ours)?, theirs))
    }

    /// Takes one end.
    pub(super) fn over(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(descriptor);
        socket.set_nonblocking(true)?;
        UnixStream::from_std(socket).map(Self)
    }

    /// Sends a word, and a copy of a descriptor.
    pub(super) async fn send(&self, word: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if let Some(descriptor) = &descriptor {
                beside.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
            }
            sendmsg(&self.0, &[IoSlice::new(word.as_bytes())], &mut beside, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// Receives a packet; `None` once the other end is closed.
    pub(super) async fn receive(&self) -> io::Result<Option<Packet>> {
        self.0.async_io(Interest::READABLE, || receive(self.0.as_fd())).await
    }
}

fn receive(fd: BorrowedFd<'_>) -> io::Result<Option<Packet>> {
    let mut bytes = [0; MAX_WORD];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut bytes)];
    let length = recvmsg(fd, into, &mut beside, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let descriptor = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if length == 0 {
        return Ok(None);
    }
    let word = String::from_utf8_lossy(&bytes[..length]).into_owned();
    Ok(Some(Packet { word, descriptor }))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_listening_socket_arrives_with_its_word() {
        let (ours, theirs) = Link::pair().unwrap();
        let theirs = Link::over(theirs).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        ours.send("here", Some(listener.as_fd())).await.unwrap();
        ours.send("end", None).await.unwrap();
        let packet = theirs.receive().await.unwrap().unwrap();
        let arrived = TcpListener::from(packet.descriptor.unwrap());
        assert_eq!(
            (packet.word.as_str(), arrived.local_addr().unwrap()),
            ("here", listener.local_addr().unwrap())
        );
        let flags = rustix::io::fcntl_getfd(&arrived).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let packet = theirs.receive().await.unwrap().unwrap();
        assert!(packet.word == "end" && packet.descriptor.is_none());
        drop(ours);
        assert!(theirs.receive().await.unwrap().is_none());
    }
}
