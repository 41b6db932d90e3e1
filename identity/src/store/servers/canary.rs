//! Proof that a server announces changes on a link: keys written under every prefix come back.
//!
//! Redis from 8.10 on withholds announcements of keys its user may not read, and proxies swallow them,
//! both without a word. So a link is not believed before it has announced a change of ours.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::pipeline;
use super::slots::tag;
use crate::key::Keys;
use crate::store::Unavailable;

/// How long a canary lives, in milliseconds.
const LIFE: u64 = 1000;

/// Keys that nobody else writes, one under each prefix.
pub(super) struct Canary {
    keys: Vec<String>,
    seen: Vec<AtomicBool>,
    all: AtomicBool,
    heard: Notify,
}

impl Canary {
    /// Keys for the server that owns `slot`, or holds everything.
    pub(super) fn new(keys: &Keys, slot: Option<u16>) -> Result<Self, Unavailable> {
        let serial = getrandom::u64().map_err(|_| Unavailable::Silent)?;
        let keys = keys.canaries(serial, slot.map(tag));
        let seen = keys.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Self { keys: keys.to_vec(), seen, all: AtomicBool::new(false), heard: Notify::new() })
    }

    /// Whether an announced key is one of these.
    pub(super) fn heard(&self, key: &[u8]) -> bool {
        if self.all.load(Ordering::Relaxed) {
            return false;
        }
        let Some(at) = self.keys.iter().position(|canary| canary.as_bytes() == key) else { return false };
        self.seen[at].store(true, Ordering::SeqCst);
        if self.seen.iter().all(|seen| seen.load(Ordering::SeqCst)) {
            self.all.store(true, Ordering::SeqCst);
            self.heard.notify_one();
        }
        true
    }

    /// Writes the keys and waits until all of them were announced.
    pub(super) async fn fly(
        &self,
        connection: &mut MultiplexedConnection,
        patience: Duration,
    ) -> Result<(), Unavailable> {
        let writes = self.keys.iter().map(|key| {
            let mut set = redis::cmd("SET");
            set.arg(key).arg(1).arg("PX").arg(LIFE);
            set
        });
        let mut writes = pipeline(writes);
        let answers: Vec<Value> = writes
            .ignore_errors()
            .query_async(connection)
            .await
            .map_err(|error| Unavailable::from(&error))?;
        for answer in &answers {
            if let Value::ServerError(error) = answer {
                return Err(Unavailable::from(error));
            }
        }
        timeout(patience, self.heard.notified()).await.map_err(|_| Unavailable::Silent)
    }
}
