//! An upstream that does what a test says, byte for byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A request as the upstream got it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, value) = line.split_once(": ")?;
            n.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// One thing to do with a connection.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Send these bytes at once.
    Send(Vec<u8>),
    /// Let other tasks run before going on, so that the bytes before arrive alone.
    Pause,
    /// Wait for a word before going on.
    Wait(Arc<Notify>),
    /// Say that all before was done.
    Tell(Arc<Notify>),
    /// Close our side. What the gateway does with the other is its own affair.
    Close,
    /// Close with a reset.
    Reset,
}

/// An answer of 200 with this body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A port on which nobody listens. It is held, so that no other test gets it meanwhile.
pub(crate) struct Closed(TcpSocket);

impl Closed {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

/// A running upstream. Dropping it ends it.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// Serves every request by what `act` says; a connection stays open unless told otherwise.
    pub(crate) async fn start<F, R>(act: F) -> Self
    where
        F: Fn(Got) -> R + Send + Sync + 'static,
        R: Future<Output = Vec<Act>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let act = Arc::new(act);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let act = Arc::clone(&act);
                connections.spawn(async move {
                    let _ = serve(stream, connection, &*act).await;
                });
            }
        });
        Self { address, _tasks: tasks }
    }
}

async fn serve<F, R>(mut stream: TcpStream, connection: usize, act: &F) -> std::io::Result<()>
where
    F: Fn(Got) -> R,
    R: Future<Output = Vec<Act>>,
{
    stream.set_nodelay(true)?;
    let mut buf = Vec::new();
    while let Some(got) = read_request(&mut stream, &mut buf).await? {
        let got = Got { connection, ..got };
        for step in act(got).await {
            match step {
                Act::Send(bytes) => stream.write_all(&bytes).await?,
                Act::Pause => tokio::time::sleep(Duration::from_millis(2)).await,
                Act::Wait(word) => word.notified().await,
                Act::Tell(word) => word.notify_one(),
                Act::Reset => return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
                Act::Close => stream.shutdown().await?,
            }
        }
    }
    Ok(())
}

async fn read_request(stream: &mut TcpStream, buf: &mut Vec<u8>) -> std::io::Result<Option<Got>> {
    let mut piece = [0; 16 * 1024];
    loop {
        if let Some(end) = buf.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buf[..end]).into_owned();
            let got = Got { connection: 0, head, body: Vec::new() };
            let length: usize = got.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
            if buf.len() >= end + 4 + length {
                let rest = buf.split_off(end + 4 + length);
                let body = buf.split_off(end + 4);
                *buf = rest;
                return Ok(Some(Got { body, ..got }));
            }
        }
        match stream.read(&mut piece).await? {
            0 => return Ok(None),
            n => buf.extend_from_slice(&piece[..n]),
        }
    }
}
