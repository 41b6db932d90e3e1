//! Stores on more than one server, and servers that ask more of a client: TLS, permissions.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

mod access;
mod cluster;
mod proof;
mod sentinel;
mod tls;

#[path = "../support/sentinel.rs"]
mod group;
#[path = "../support/cluster.rs"]
mod nodes;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis_server.rs"]
mod redis_server;
#[path = "../support/rig.rs"]
mod rig;

use std::sync::Arc;
use std::time::Duration;

use imgate_identity::store::{Store, Unavailable};
use imgate_identity::user::UserId;
use tokio::time::Instant;

/// How long a group of servers may take to get over the loss of one, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(90);

/// Polls until `happened`, or fails naming `what`.
async fn in_time(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + RECOVERY;
    while !happened().await {
        assert!(Instant::now() < give_up, "it took too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The text of the one token that the store knows of a user, or why it does not say.
async fn token_of(store: &Store, id: &UserId) -> Result<Option<String>, Unavailable> {
    let user = store.user(id).await?;
    Ok(user.token(rig::platform(2)).map(|token| token.expose().to_owned()))
}

/// Asks for tokens all the time. A user with a token must never be told to have none.
struct Witness {
    stop: Arc<std::sync::atomic::AtomicBool>,
    task: tokio::task::JoinHandle<(u64, u64)>,
}

impl Witness {
    fn new(store: &Arc<Store>, ids: Vec<UserId>) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (store, until) = (Arc::clone(store), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let (mut served, mut unknown) = (0, 0);
            while !until.load(std::sync::atomic::Ordering::SeqCst) {
                for id in &ids {
                    // Past the cache, which must not hide what servers say.
                    match store.refresh_user(id).await {
                        Ok(user) if user.token(rig::platform(2)).is_some() => served += 1,
                        Ok(_) => panic!("{id} has a token and was told to have none"),
                        Err(_) => unknown += 1,
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (served, unknown)
        });
        Self { stop, task }
    }

    /// How often it was answered, and how often it was told that the store does not know.
    async fn tells(self) -> (u64, u64) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        self.task.await.unwrap()
    }
}
