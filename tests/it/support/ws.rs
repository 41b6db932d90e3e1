//! A WebSocket client, and an upstream whose socket is held by the test itself.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::Sent;
use super::gateway::HOST;

/// How long a frame, or the end of a socket, may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What an upstream answers a handshake with, byte for byte; the spelling is odd on purpose.
pub(crate) const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUPGRADE: WebSocket\r\n\
    Sec-WebSocket-Accept:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Odd:\t1\r\nconnection: Upgrade\r\n\r\n";

/// A WebSocket to the gateway.
pub(crate) type Ws = WebSocketStream<TcpStream>;

/// Opens a WebSocket.
pub(crate) async fn dial(address: SocketAddr, target: &str) -> Result<Ws, Error> {
    let stream = TcpStream::connect(address).await.unwrap();
    client_async(format!("ws://{HOST}{target}"), stream).await.map(|(socket, _)| socket)
}

/// The next frame; `None` at the end.
pub(crate) async fn next(socket: &mut Ws) -> Option<Message> {
    tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame in time").and_then(Result::ok)
}

/// What an SDK asks for.
pub(crate) fn target(user: &str, token: &str, platform: u8, extra: &str) -> String {
    format!("/ws?sendID={user}&token={token}&platformID={platform}&operationID=op&isBackground=false{extra}")
}

/// A handshake as bytes.
pub(crate) fn handshake(target: &str) -> Sent {
    Sent::new("GET", target)
        .header("Connection", "keep-alive, Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// Reads as many bytes as are expected.
pub(crate) async fn read_exactly(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("bytes in time").unwrap();
    bytes
}

/// Reads to the end, however it comes.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too; what came before it counts.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an end in time");
    bytes
}

/// An upstream that waits for one connection at a time.
pub(crate) struct Door(TcpListener);

impl Door {
    pub(crate) async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Takes a connection and the request head on it; nothing may come behind the head.
    pub(crate) async fn accept(&self) -> (TcpStream, String) {
        let (mut stream, _) =
            tokio::time::timeout(PATIENCE, self.0.accept()).await.expect("a connection in time").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(read_exactly(&mut stream, 1).await);
        }
        (stream, String::from_utf8(head).unwrap())
    }

    /// Takes a handshake and switches.
    pub(crate) async fn switch(&self) -> (TcpStream, String) {
        let (mut stream, head) = self.accept().await;
        stream.write_all(SWITCH).await.unwrap();
        (stream, head)
    }
}
