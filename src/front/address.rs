//! Where clients connect: an IP address and a port, or a Unix socket.
//!
//! What listens on a Unix socket owns its file: the file is made with its mode before anybody can
//! connect, and removed at the end. One that a dead process left is replaced, one that somebody still
//! listens on is not.

use std::fmt;
use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

/// How many connections may wait to be accepted; the kernel lowers it to `somaxconn`.
const BACKLOG: i32 = 65_535;

/// The longest path of a Unix socket, in bytes. Source: unix(7), "Address format".
pub const MAX_PATH: usize = 107;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix(Arc<Path>),
}

impl Address {
    /// The IP address and port, if it is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

/// As it is written in the configuration.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

/// What may be done with the file of a Unix socket, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Default for FileMode {
    /// Owner and group may connect.
    fn default() -> Self {
        Self(0o660)
    }
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// On an IP address and a port.
    Ip(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener, SocketFile),
}

/// A connection that was accepted.
pub enum Accepted {
    /// On an IP address, from this one.
    Ip(TcpStream, SocketAddr),
    /// On a Unix socket.
    Unix(UnixStream),
}

impl Listener {
    /// Opens a listening socket; `mode` is that of a Unix socket's file.
    ///
    /// # Errors
    /// The address is taken, not ours, or needs privileges; or a file stands there that is no socket.
    pub fn bind(address: &Address, mode: FileMode) -> io::Result<Self> {
        match address {
            Address::Ip(address) => bind_ip(*address).map(Self::Ip),
            Address::Unix(path) => bind_unix(path, mode),
        }
    }

    /// Takes a socket that listens on this address already.
    ///
    /// # Errors
    /// It is no such socket, or the file of a Unix socket is gone.
    pub fn inherit(address: &Address, socket: OwnedFd) -> io::Result<Self> {
        match address {
            Address::Ip(_) => TcpListener::from_std(socket.into()).map(Self::Ip),
            Address::Unix(path) => {
                Ok(Self::Unix(UnixListener::from_std(socket.into())?, SocketFile::at(path)?))
            }
        }
    }

    /// For the file of a Unix socket: when true, it stays where it is, for a successor that listens there.
    pub fn left(&self) -> Option<Arc<AtomicBool>> {
        match self {
            Self::Ip(_) => None,
            Self::Unix(_, file) => Some(Arc::clone(&file.left)),
        }
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// See accept(2).
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Ip(listener) => listener.accept().await.map(|(stream, peer)| Accepted::Ip(stream, peer)),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }

    /// The address as bound, with the port that the kernel chose for 0.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Ip(listener) => listener.local_addr().map(Address::Ip),
            Self::Unix(_, file) => Ok(Address::Unix(Arc::clone(&file.path))),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Ip(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

fn bind_ip(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted gateway takes its port back though old connections linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG.unsigned_abs())
}

fn bind_unix(path: &Arc<Path>, mode: FileMode) -> io::Result<Listener> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::at(path)?;
    // Nobody can connect before the next call, so nobody finds the file with another mode.
    std::fs::set_permissions(path, Permissions::from_mode(mode.0))?;
    socket.listen(BACKLOG)?;
    Ok(Listener::Unix(UnixListener::from_std(socket.into())?, file))
}

/// Removes the file of a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket has this name",
            ));
        }
        Ok(_) => {}
    }
    let asked = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match asked.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // A queue that is full has somebody who empties it.
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

/// The file of a socket of ours, removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: Arc<Path>,
    /// By device and number: another file may have the name by then.
    id: (u64, u64),
    /// Whether a successor listens on the same socket.
    left: Arc<AtomicBool>,
}

impl SocketFile {
    fn at(path: &Arc<Path>) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self { path: Arc::clone(path), id: (found.dev(), found.ino()), left: Arc::default() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = std::fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if !self.left.load(Ordering::Acquire) && now.is_ok_and(|now| now == self.id) {
            // The folder may be read-only by now; the next start copes with a file that is left.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path) -> io::Result<Listener> {
        Listener::bind(&Address::Unix(path.into()), FileMode(0o600))
    }

    #[tokio::test]
    async fn a_taken_address_is_refused_at_once() {
        let any = Address::Ip("127.0.0.1:0".parse().unwrap());
        let first = Listener::bind(&any, FileMode::default()).unwrap();
        let second = Listener::bind(&first.address().unwrap(), FileMode::default());
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_unix_socket_has_its_mode_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("http.sock");
        let listener = bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(matches!(listener.accept().await, Ok(Accepted::Unix(_))));
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("http.sock");
        let listener = bind(&path).unwrap();
        listener.left().unwrap().store(true, Ordering::Release);
        drop(listener);
        assert!(path.exists());
        let living = bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
        drop(living);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_file_that_took_the_name_meanwhile_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("http.sock");
        let first = bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
    }
}
