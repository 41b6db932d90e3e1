//! The register of live WebSockets: who is connected, and how to reach them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

/// How many frames may wait for one socket before it is cut.
///
/// Source: open-im-server `internal/msggateway`, 256 messages per connection.
const QUEUE: usize = 256;

/// What the server sends a socket on its own account.
#[derive(Clone, Debug)]
pub(crate) enum Outbound {
    /// A binary frame with this payload.
    Push(Bytes),
    /// The kick frame, then the end.
    Kick,
}

struct Entry {
    id: u64,
    platform: i64,
    token: String,
    queue: mpsc::Sender<Outbound>,
    cut: Arc<Notify>,
}

impl Entry {
    /// Queues a frame; a socket whose queue is full is cut.
    fn send(&self, item: Outbound) {
        if self.queue.try_send(item).is_err() {
            self.cut.notify_one();
        }
    }
}

/// All live sockets, by user.
#[derive(Default)]
pub(crate) struct Sockets {
    live: Mutex<HashMap<String, Vec<Entry>>>,
    issued: AtomicU64,
    total: AtomicUsize,
}

/// A socket's place in the register, given up when dropped.
pub(crate) struct Seat<'a> {
    sockets: &'a Sockets,
    user: String,
    id: u64,
    pub(crate) queue: mpsc::Receiver<Outbound>,
    pub(crate) cut: Arc<Notify>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.sockets.total.fetch_sub(1, Ordering::Relaxed);
        let mut live = self.sockets.live.lock();
        if let Some(entries) = live.get_mut(&self.user) {
            entries.retain(|entry| entry.id != self.id);
            if entries.is_empty() {
                live.remove(&self.user);
            }
        }
    }
}

impl Sockets {
    /// Registers a socket.
    pub(crate) fn enter(&self, user: &str, platform: i64, token: &str) -> Seat<'_> {
        let id = self.issued.fetch_add(1, Ordering::Relaxed);
        let (sender, queue) = mpsc::channel(QUEUE);
        let cut = Arc::new(Notify::new());
        let entry = Entry { id, platform, token: token.to_owned(), queue: sender, cut: Arc::clone(&cut) };
        self.total.fetch_add(1, Ordering::Relaxed);
        self.live.lock().entry(user.to_owned()).or_default().push(entry);
        Seat { sockets: self, user: user.to_owned(), id, queue, cut }
    }

    /// Counts a user's sockets.
    pub(crate) fn count(&self, user: &str) -> usize {
        self.live.lock().get(user).map_or(0, Vec::len)
    }

    /// Counts all sockets.
    pub(crate) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Lists the platforms a user is connected from.
    pub(crate) fn platforms(&self, user: &str) -> Vec<i64> {
        self.live
            .lock()
            .get(user)
            .map_or_else(Vec::new, |entries| entries.iter().map(|one| one.platform).collect())
    }

    /// Sends a binary frame to all of a user's sockets and says to how many.
    pub(crate) fn push(&self, user: &str, payload: &Bytes) -> usize {
        let live = self.live.lock();
        let entries = live.get(user).map_or(&[][..], Vec::as_slice);
        for entry in entries {
            entry.send(Outbound::Push(payload.clone()));
        }
        entries.len()
    }

    /// Kicks a user's sockets on a platform, sparing those of one token, and says how many.
    pub(crate) fn kick(&self, user: &str, platform: i64, spare: Option<&str>) -> usize {
        let live = self.live.lock();
        let entries = live.get(user).map_or(&[][..], Vec::as_slice);
        let hit = entries.iter().filter(|one| one.platform == platform && Some(one.token.as_str()) != spare);
        hit.inspect(|entry| entry.send(Outbound::Kick)).count()
    }
}
