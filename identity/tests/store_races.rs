//! Writes raced against loads: once Redis is left alone, the cache holds what Redis holds.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

mod support {
    pub(crate) mod proxy;
    pub(crate) mod redis_server;
    pub(crate) mod rig;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imgate_identity::store::{CacheConfig, Store};
use imgate_identity::user::UserId;
use redis::aio::MultiplexedConnection;
use support::proxy::{Mode, Proxy, Role};
use support::redis_server::RedisServer;
use support::rig::{Rig, client, eventually, fresh_token, known_token, run, user};

const USERS: u8 = 4;
const WRITERS: u64 = 2;
const READERS: u64 = 4;
const ROUNDS: u64 = 30;
const WRITES: u64 = 40;

fn id(number: u8) -> UserId {
    user(&format!("u{number}"))
}

/// Sets and deletes tokens as fast as Redis takes them.
async fn write(mut redis: MultiplexedConnection, writer: u64, round: u64) {
    for step in 0..WRITES {
        let name = format!("u{}", (step + writer) % u64::from(USERS));
        let key = format!("im:token:{name}");
        if step % 3 == 2 {
            run(&mut redis, &["DEL", &key]).await;
        } else {
            let serial = (round * WRITES + step) * WRITERS + writer;
            run(&mut redis, &["SET", &key, &fresh_token(&name, 2, serial)]).await;
        }
    }
}

/// Looks users up until told to stop.
async fn read(store: Arc<Store>, reader: u64, stop: Arc<AtomicBool>) -> u64 {
    let mut looked = 0;
    while !stop.load(Ordering::SeqCst) {
        for number in 0..USERS {
            if reader == 0 && looked % 16 == 0 {
                store.reread_user(&id(number)).await.unwrap();
            } else {
                store.user(&id(number)).await.unwrap();
            }
            looked += 1;
        }
        tokio::task::yield_now().await;
    }
    looked
}

/// Checks that what the store says settles on what Redis says, for every user.
async fn settled(store: &Store, redis: &mut MultiplexedConnection) {
    for number in 0..USERS {
        let stored: Option<String> =
            redis::cmd("GET").arg(format!("im:token:u{number}")).query_async(redis).await.unwrap();
        eventually("the cache agrees with Redis", async || known_token(store, &id(number)).await == stored)
            .await;
    }
}

async fn race(tracking: Mode, commands: Mode) {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await;
    let mut rig = Rig::on(server, &proxy.url(), CacheConfig::default()).await;
    proxy.set(Role::Tracking, tracking);
    proxy.set(Role::Commands, commands);
    for round in 0..ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..READERS)
            .map(|reader| tokio::spawn(read(Arc::clone(&rig.store), reader, Arc::clone(&stop))))
            .collect();
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            writers.push(tokio::spawn(write(client(&rig.server).await, writer, round)));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        for reader in readers {
            assert!(reader.await.unwrap() > 0);
        }
        settled(&rig.store, &mut rig.redis).await;
    }
    let stats = rig.store.stats();
    assert!(stats.hits > 0 && stats.loads > ROUNDS && stats.link_losses == 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn loads_raced_against_writes_leave_nothing_stale() {
    race(Mode::Pass, Mode::Pass).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_that_come_after_the_announcement_leave_nothing_stale() {
    race(Mode::Pass, Mode::Jitter(2000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn announcements_that_come_after_the_answer_leave_nothing_stale() {
    race(Mode::Jitter(2000), Mode::Pass).await;
}
