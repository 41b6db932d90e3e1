//! An upstream that keeps every byte it was sent, and answers each request it understands to be whole.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 38\r\n\r\n\
    {\"errCode\":0,\"errMsg\":\"\",\"errDlt\":\"\"}\n";

/// What came so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The bytes of all connections, one after the other.
    pub(crate) bytes: Vec<u8>,
    /// How many requests were whole.
    pub(crate) whole: usize,
}

impl Seen {
    /// The bytes as text, in small letters, for names in any case.
    pub(crate) fn text(&self) -> String {
        self.bytes.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect()
    }
}

/// A running recorder. Dropping it ends it.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let notes = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let notes = Arc::clone(&notes);
                connections.spawn(async move {
                    // A gateway that breaks off is what some cases are about.
                    let _ = serve(stream, &notes).await;
                });
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    /// What came since it was last taken.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn serve(mut stream: TcpStream, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let (mut buf, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        buf.extend_from_slice(&piece[..read]);
        seen.lock().unwrap().bytes.extend_from_slice(&piece[..read]);
        while let Some(length) = whole(&buf) {
            buf.drain(..length);
            seen.lock().unwrap().whole += 1;
            stream.write_all(ANSWER).await?;
        }
    }
}

/// The length of the request at the beginning, if it is whole. Its framing is the gateway's own, so it is
/// either a plain length or plain chunks.
fn whole(buf: &[u8]) -> Option<usize> {
    let head = buf.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&buf[..head]).to_ascii_lowercase();
    if text.contains("\r\ntransfer-encoding:") {
        // Trailers stand between the last chunk and the end, should a gateway let any through.
        let find = |from: usize, what: &[u8]| {
            buf[from..].windows(what.len()).position(|w| w == what).map(|at| from + at + what.len())
        };
        let last = find(head - 2, b"\r\n0\r\n")?;
        return find(last - 2, b"\r\n\r\n");
    }
    let length = text.split("\r\ncontent-length:").nth(1).and_then(|rest| rest.lines().next());
    let length: usize = length.map_or(0, |value| value.trim().parse().unwrap_or(usize::MAX / 2));
    (buf.len() >= head + length).then_some(head + length)
}
