//! Two connections and the bytes between them.
//!
//! Nothing is buffered while a tunnel is idle. Bytes that a slow reader cannot take yet are held, up to
//! one read's worth per direction, and nothing more is read for it until they are gone.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::wire::Wire;

/// How much is read at once, and so the most that waits for a slow reader, per direction.
const READ: usize = 16 * 1024;

/// How many reads one direction may do before the other gets its turn.
const TURNS: usize = 4;

/// How long the second direction may go on after the first has ended. An end that has closed reads
/// no more, so what is still under way to it is soon without meaning.
const LINGER: Duration = Duration::from_secs(3);

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client closed first.
    Client,
    /// The upstream closed first.
    Upstream,
    /// No byte passed for too long.
    Idle,
    /// A connection failed.
    Broken,
    /// The gateway stops.
    Stopped,
}

impl Ended {
    /// All causes.
    pub const ALL: [Self; 5] = [Self::Client, Self::Upstream, Self::Idle, Self::Broken, Self::Stopped];

    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client_closed",
            Self::Upstream => "upstream_closed",
            Self::Idle => "idle",
            Self::Broken => "broken",
            Self::Stopped => "stopped",
        }
    }
}

/// How many bytes a tunnel carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the client to the upstream.
    pub up: u64,
    /// From the upstream to the client.
    pub down: u64,
}

/// One direction of a tunnel.
#[derive(Debug, Default)]
struct Way {
    /// Bytes read that the other end could not take yet.
    held: Vec<u8>,
    /// Whether the source has ended.
    ended: bool,
    /// Bytes passed on.
    moved: u64,
    /// Whether bytes that were written may still wait inside TLS.
    unflushed: bool,
}

/// A tunnel about to begin.
pub struct Relay {
    /// The client's connection.
    pub client: Wire,
    /// The upstream's connection.
    pub upstream: Wire,
    /// What the client sent before the upstream switched.
    pub early_up: Vec<u8>,
    /// What the upstream sent so far, its 101 included.
    pub early_down: Vec<u8>,
    /// How long no byte may pass.
    pub idle_timeout: Duration,
    /// Ends the tunnel from outside.
    pub stop: CancellationToken,
}

impl Relay {
    /// Passes bytes both ways until one end closes, then lets the other finish, then closes both.
    pub async fn run(mut self) -> (Ended, Traffic) {
        let mut up = Way { held: std::mem::take(&mut self.early_up), ..Way::default() };
        let mut down = Way { held: std::mem::take(&mut self.early_down), ..Way::default() };
        let ended = self.pass(&mut up, &mut down).await.unwrap_or(Ended::Broken);
        // Both ends hear of it, whatever the cause; a connection that is gone already is no news, and one
        // that takes nothing is not waited for.
        let goodbye = async {
            let _ = self.client.shutdown().await;
            let _ = self.upstream.shutdown().await;
        };
        let _ = timeout(LINGER, goodbye).await;
        (ended, Traffic { up: up.moved, down: down.moved })
    }

    async fn pass(&mut self, up: &mut Way, down: &mut Way) -> io::Result<Ended> {
        let mut first_end: Option<Ended> = None;
        let mut active = Instant::now();
        let mut deadline = active + self.idle_timeout;
        loop {
            let before = up.moved + down.moved;
            tokio::select! {
                done = poll_fn(|cx| poll_both(cx, &mut self.client, &mut self.upstream, up, down)) => done?,
                () = sleep_until(deadline) => {
                    // The timer is not moved with every byte; it looks when it fires.
                    deadline = active + self.idle_timeout;
                    match first_end {
                        Some(ended) => return Ok(ended),
                        None if deadline <= Instant::now() => return Ok(Ended::Idle),
                        None => continue,
                    }
                }
                () = self.stop.cancelled() => return Ok(Ended::Stopped),
            }
            if up.moved + down.moved > before {
                active = Instant::now();
            }
            if first_end.is_none() {
                if up.is_done() {
                    self.upstream.shutdown().await?;
                    first_end = Some(Ended::Client);
                } else if down.is_done() {
                    self.client.shutdown().await?;
                    first_end = Some(Ended::Upstream);
                }
                if first_end.is_some() {
                    deadline = Instant::now() + LINGER;
                }
            }
            if let Some(ended) = first_end
                && up.is_done()
                && down.is_done()
            {
                return Ok(ended);
            }
        }
    }
}

/// Waits until either direction makes progress: bytes move, or its source ends.
fn poll_both(
    cx: &mut Context<'_>,
    client: &mut Wire,
    upstream: &mut Wire,
    up: &mut Way,
    down: &mut Way,
) -> Poll<io::Result<()>> {
    let moved_up = !up.is_done() && up.advance(cx, client, upstream)?;
    let moved_down = !down.is_done() && down.advance(cx, upstream, client)?;
    if moved_up || moved_down { Poll::Ready(Ok(())) } else { Poll::Pending }
}

impl Way {
    fn is_done(&self) -> bool {
        self.ended && self.held.is_empty() && !self.unflushed
    }

    /// Moves what can be moved without waiting, and tells whether anything came of it. If nothing did,
    /// the task is woken once something can. The buffer is on the stack of this call, so an idle tunnel
    /// holds none.
    fn advance(&mut self, cx: &mut Context<'_>, from: &mut Wire, to: &mut Wire) -> io::Result<bool> {
        let before = self.moved;
        if !self.deliver(cx, to)? || self.ended {
            return Ok(self.moved > before || self.is_done());
        }
        let mut buf = [MaybeUninit::uninit(); READ];
        for _ in 0..TURNS {
            let mut read = ReadBuf::uninit(&mut buf);
            if Pin::new(&mut *from).poll_read(cx, &mut read)?.is_pending() {
                break;
            }
            if read.filled().is_empty() {
                self.ended = true;
                break;
            }
            let sent = self.write(cx, to, read.filled())?;
            if sent < read.filled().len() {
                self.held.extend_from_slice(&read.filled()[sent..]);
                break;
            }
        }
        self.flush(cx, to)?;
        Ok(self.moved > before || self.ended)
    }

    /// Writes what is held; true once nothing is.
    fn deliver(&mut self, cx: &mut Context<'_>, to: &mut Wire) -> io::Result<bool> {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let sent = self.write(cx, to, &held)?;
            if sent < held.len() {
                self.held = held;
                self.held.drain(..sent);
            }
            // Otherwise it is given back whole: the next idle hour should not pay for this busy second.
        }
        self.flush(cx, to)?;
        Ok(self.held.is_empty())
    }

    fn write(&mut self, cx: &mut Context<'_>, to: &mut Wire, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match Pin::new(&mut *to).poll_write(cx, &bytes[sent..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => sent += n,
                Poll::Pending => break,
            }
        }
        self.unflushed |= sent > 0;
        self.moved += sent as u64;
        Ok(sent)
    }

    fn flush(&mut self, cx: &mut Context<'_>, to: &mut Wire) -> io::Result<()> {
        if self.unflushed && Pin::new(to).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    struct Ends {
        client: TcpStream,
        upstream: TcpStream,
        stop: CancellationToken,
        done: tokio::task::JoinHandle<(Ended, Traffic)>,
    }

    async fn tunnel(idle_timeout: Duration, early_up: &[u8], early_down: &[u8]) -> Ends {
        let (client, client_far) = pair().await;
        let (upstream, upstream_far) = pair().await;
        let stop = CancellationToken::new();
        let relay = Relay {
            client: client_far.into(),
            upstream: upstream_far.into(),
            early_up: early_up.to_vec(),
            early_down: early_down.to_vec(),
            idle_timeout,
            stop: stop.clone(),
        };
        Ends { client, upstream, stop, done: tokio::spawn(relay.run()) }
    }

    const LONG: Duration = Duration::from_secs(60);

    async fn read(stream: &mut TcpStream, n: usize) -> Vec<u8> {
        let mut buf = vec![0; n];
        stream.read_exact(&mut buf).await.unwrap();
        buf
    }

    #[tokio::test]
    async fn early_bytes_come_first_on_both_sides() {
        let mut t = tunnel(LONG, b"early-up", b"101").await;
        t.client.write_all(b"+up").await.unwrap();
        t.upstream.write_all(b"+down").await.unwrap();
        assert_eq!(read(&mut t.upstream, 11).await, b"early-up+up");
        assert_eq!(read(&mut t.client, 8).await, b"101+down");
    }

    #[tokio::test]
    async fn the_last_bytes_of_an_upstream_that_closes_arrive() {
        let mut t = tunnel(LONG, b"", b"").await;
        let kick = vec![7; 1_000_000];
        t.upstream.write_all(&kick).await.unwrap();
        drop(t.upstream);
        let mut got = Vec::new();
        t.client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, kick);
        drop(t.client);
        let (ended, traffic) = t.done.await.unwrap();
        assert_eq!((ended, traffic), (Ended::Upstream, Traffic { up: 0, down: 1_000_000 }));
    }

    #[tokio::test]
    async fn a_client_that_half_closes_still_hears_the_answer() {
        let mut t = tunnel(LONG, b"", b"").await;
        t.client.write_all(b"question").await.unwrap();
        t.client.shutdown().await.unwrap();
        let mut got = Vec::new();
        t.upstream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"question");
        t.upstream.write_all(b"answer").await.unwrap();
        drop(t.upstream);
        let mut got = Vec::new();
        t.client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"answer");
        assert_eq!(t.done.await.unwrap().0, Ended::Client);
    }

    #[tokio::test]
    async fn a_slow_reader_holds_its_sender_and_loses_nothing() {
        let mut t = tunnel(LONG, b"", b"").await;
        let sent: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 253) as u8).collect();
        let expected = sent.clone();
        let mut upstream = t.upstream;
        let writer = tokio::spawn(async move {
            upstream.write_all(&sent).await.unwrap();
        });
        let mut got = Vec::new();
        let mut buf = vec![0; 1024];
        while got.len() < expected.len() {
            let n = t.client.read(&mut buf).await.unwrap();
            got.extend_from_slice(&buf[..n]);
            tokio::task::yield_now().await;
        }
        writer.await.unwrap();
        assert!(got == expected);
    }

    #[tokio::test]
    async fn silence_ends_a_tunnel_and_bytes_keep_it() {
        let mut t = tunnel(Duration::from_millis(200), b"", b"").await;
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            t.client.write_all(b"x").await.unwrap();
        }
        assert!(!t.done.is_finished());
        assert_eq!(t.done.await.unwrap().0, Ended::Idle);
    }

    #[tokio::test]
    async fn a_stop_closes_both_ends() {
        let mut t = tunnel(LONG, b"", b"").await;
        t.stop.cancel();
        assert_eq!(t.done.await.unwrap().0, Ended::Stopped);
        assert_eq!(t.client.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(t.upstream.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
