//! A TCP proxy between a store and Redis that can be told to misbehave.
//!
//! It tells the store's two links apart by what they say: the one that asks for `CLIENT TRACKING` is
//! the tracking link, the other carries commands.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What happens to the bytes of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They pass.
    Pass,
    /// They are held back; the connection stays open.
    Hold,
    /// The connection is closed, and so is every new one.
    Cut,
    /// They pass after a random time of up to this many microseconds.
    Jitter(u64),
    /// They pass, but for announcements of changes, which are swallowed as some proxies do.
    Mute,
}

/// A link of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has not said yet what it is for.
    Unknown = 0,
    /// It asked for `CLIENT TRACKING`.
    Tracking = 1,
    /// It sent something else.
    Commands = 2,
}

#[derive(Clone, Copy)]
struct Modes([Mode; 3]);

/// The proxy. Dropping it closes everything.
pub(crate) struct Proxy {
    address: String,
    modes: watch::Sender<Modes>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port in front of `upstream`.
    pub(crate) async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let modes = watch::Sender::new(Modes([Mode::Pass; 3]));
        let task = tokio::spawn(accept(listener, upstream, modes.subscribe()));
        Self { address, modes, task }
    }

    /// The URL to reach Redis by, through the proxy.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Treats the bytes of one link as `mode` says, from now on.
    pub(crate) fn set(&self, role: Role, mode: Mode) {
        self.modes.send_modify(|modes| modes.0[role as usize] = mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, upstream: String, modes: watch::Receiver<Modes>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(&upstream).await else { continue };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        connections.spawn(join(client, server, modes.clone()));
    }
}

async fn join(client: TcpStream, server: TcpStream, modes: watch::Receiver<Modes>) {
    let role = Arc::new(AtomicU8::new(Role::Unknown as u8));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = pump(from_client, to_server, Arc::clone(&role), modes.clone(), true);
    let down = pump(from_server, to_client, role, modes, false);
    // Either side's end is the end of both.
    tokio::select! { () = up => {}, () = down => {} }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    role: Arc<AtomicU8>,
    mut modes: watch::Receiver<Modes>,
    from_client: bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = cut(&role, &mut modes) => return,
        };
        let Ok(1..) = read else { return };
        let bytes = &buffer[..read.unwrap_or(0)];
        if from_client && role.load(Ordering::SeqCst) == Role::Unknown as u8 {
            role.store(classify(bytes) as u8, Ordering::SeqCst);
        }
        let muted = mode(&role, &modes) == Mode::Mute && !from_client;
        let bytes = if muted { without_announcements(bytes) } else { bytes.to_vec() };
        if !pass(&role, &mut modes).await || to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn classify(bytes: &[u8]) -> Role {
    let says = |word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    match () {
        () if says("TRACKING") => Role::Tracking,
        () if says("HELLO") || says("SETINFO") => Role::Unknown,
        () => Role::Commands,
    }
}

/// Leaves announcements out. On loopback they come whole: Redis writes each answer at once.
fn without_announcements(bytes: &[u8]) -> Vec<u8> {
    const HEAD: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*";
    let mut kept = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(HEAD.len()).position(|window| window == HEAD) {
        kept.extend_from_slice(&rest[..at]);
        rest = &rest[at + HEAD.len()..];
        let mut line = || {
            let end = rest.windows(2).position(|window| window == b"\r\n").unwrap();
            let line = std::str::from_utf8(&rest[..end]).unwrap().to_owned();
            rest = &rest[end + 2..];
            line
        };
        let keys: usize = line().parse().unwrap();
        (0..2 * keys).for_each(|_| drop(line()));
    }
    kept.extend_from_slice(rest);
    kept
}

fn mode(role: &AtomicU8, modes: &watch::Receiver<Modes>) -> Mode {
    modes.borrow().0[usize::from(role.load(Ordering::SeqCst))]
}

/// Returns once the link is to be cut.
async fn cut(role: &AtomicU8, modes: &mut watch::Receiver<Modes>) {
    while mode(role, modes) != Mode::Cut {
        if modes.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until bytes may pass; false if the link is to be cut.
async fn pass(role: &AtomicU8, modes: &mut watch::Receiver<Modes>) -> bool {
    loop {
        match mode(role, modes) {
            Mode::Pass | Mode::Mute => return true,
            Mode::Cut => return false,
            Mode::Jitter(micros) => {
                let micros = u64::from(getrandom::u32().unwrap()) % micros.max(1);
                tokio::time::sleep(Duration::from_micros(micros)).await;
                return true;
            }
            Mode::Hold => {
                if modes.changed().await.is_err() {
                    return false;
                }
            }
        }
    }
}
