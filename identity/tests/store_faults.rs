//! The store when Redis or the way to it fails: deadlines are kept, nothing stale outlives its bound,
//! and no failure becomes a verdict.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

mod support {
    pub(crate) mod proxy;
    pub(crate) mod redis_server;
    pub(crate) mod rig;
}

use std::sync::Arc;
use std::time::Duration;

use imgate_identity::store::{CacheConfig, Health, Store, Unavailable};
use imgate_identity::user::UserId;
use support::proxy::{Mode, Proxy, Role};
use support::redis_server::RedisServer;
use support::rig::{
    PATIENCE, Rig, TIMEOUT, eventually, fresh_token, known_token, live, record, run, session_id, user,
};
use tokio::time::Instant;

/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_millis(400);

/// How old the proof that the tracking link works may get, as the store promises.
const MAX_SILENCE: Duration = Duration::from_millis(1200);

fn graced(stale_grace: Duration) -> CacheConfig {
    CacheConfig { stale_grace, ..CacheConfig::default() }
}

async fn proxied(cache: CacheConfig) -> (Rig, Proxy) {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await;
    let rig = Rig::on(server, &proxy.url(), cache).await;
    (rig, proxy)
}

/// Stores a token for `u1` and waits until it is cached.
async fn cached(rig: &mut Rig, serial: u64) -> (UserId, String) {
    let (id, token) = (user("u1"), fresh_token("u1", 2, serial));
    rig.run(&["SET", "im:token:u1", &token]).await;
    eventually("the token is cached", async || {
        let before = rig.store.stats().hits;
        known_token(&rig.store, &id).await == Some(token.clone()) && rig.store.stats().hits > before
    })
    .await;
    (id, token)
}

async fn down(store: &Store) {
    eventually("the store is down", async || store.health() == Health::Down).await;
}

#[tokio::test]
async fn after_a_lost_tracking_link_entries_serve_for_the_grace_and_are_dropped_when_it_is_back() {
    let (mut rig, proxy) = proxied(graced(Duration::from_secs(2))).await;
    let (id, old) = cached(&mut rig, 1).await;
    let new = fresh_token("u1", 2, 2);

    let cut = Instant::now();
    proxy.set(Role::Tracking, Mode::Cut);
    down(&rig.store).await;
    rig.run(&["SET", "im:token:u1", &new]).await;
    let loads = rig.store.stats().loads;
    assert_eq!(known_token(&rig.store, &id).await, Some(old.clone()), "within the grace");
    for _ in 0..2 {
        assert_eq!(known_token(&rig.store, &user("u2")).await, None);
    }
    assert_eq!(rig.store.stats().loads, loads + 2, "what is loaded during an outage is not kept");
    eventually("the grace is over", async || known_token(&rig.store, &id).await == Some(new.clone())).await;
    assert!(cut.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", cut.elapsed());

    // Down, every lookup reads through and nothing is kept.
    let loads = rig.store.stats().loads;
    for _ in 0..3 {
        assert_eq!(known_token(&rig.store, &id).await, Some(new.clone()));
    }
    assert_eq!(rig.store.stats().loads, loads + 3);
    assert_eq!(rig.store.stats().link_losses, 1);

    proxy.set(Role::Tracking, Mode::Pass);
    live(&rig.store).await;
    rig.run(&["DEL", "im:token:u1"]).await;
    eventually("the link announces again", async || known_token(&rig.store, &id).await.is_none()).await;
}

#[tokio::test]
async fn what_was_loaded_before_an_outage_of_the_link_is_not_served_after_it() {
    let (mut rig, proxy) = proxied(graced(Duration::from_secs(60))).await;
    let (id, old) = cached(&mut rig, 1).await;
    proxy.set(Role::Tracking, Mode::Cut);
    down(&rig.store).await;
    let new = fresh_token("u1", 2, 2);
    rig.run(&["SET", "im:token:u1", &new]).await;
    assert_eq!(known_token(&rig.store, &id).await, Some(old));
    proxy.set(Role::Tracking, Mode::Pass);
    live(&rig.store).await;
    assert_eq!(known_token(&rig.store, &id).await, Some(new));
}

#[tokio::test]
async fn a_silent_tracking_link_serves_old_values_no_longer_than_the_bound() {
    for grace in [Duration::ZERO, Duration::from_secs(2)] {
        let (mut rig, proxy) = proxied(graced(grace)).await;
        let (id, old) = cached(&mut rig, 1).await;
        let new = fresh_token("u1", 2, 2);

        proxy.set(Role::Tracking, Mode::Hold);
        let held = Instant::now();
        rig.run(&["SET", "im:token:u1", &new]).await;
        assert_eq!(known_token(&rig.store, &id).await, Some(old), "the test means to hold the link in time");
        eventually("the new token is seen", async || known_token(&rig.store, &id).await == Some(new.clone()))
            .await;
        let bound = grace.max(MAX_SILENCE);
        assert!(held.elapsed() <= bound + SLACK, "{:?} with a grace of {grace:?}", held.elapsed());
        assert_eq!(rig.store.health(), Health::Down);

        proxy.set(Role::Tracking, Mode::Pass);
        live(&rig.store).await;
    }
}

#[tokio::test]
async fn a_reread_sees_the_new_value_while_the_tracking_link_is_silent() {
    let (mut rig, proxy) = proxied(graced(Duration::from_secs(60))).await;
    let (id, old) = cached(&mut rig, 1).await;
    let new = fresh_token("u1", 2, 2);
    proxy.set(Role::Tracking, Mode::Hold);
    rig.run(&["SET", "im:token:u1", &new]).await;
    assert_eq!(known_token(&rig.store, &id).await, Some(old));
    rig.store.reread_user(&id).await.unwrap();
    assert_eq!(known_token(&rig.store, &id).await, Some(new));
}

#[tokio::test]
async fn without_redis_cached_callers_go_on_for_the_grace_and_others_fail_in_time() {
    let mut rig = Rig::with(graced(Duration::from_secs(60))).await;
    let (id, token) = cached(&mut rig, 1).await;
    rig.server.kill();
    let killed = Instant::now();
    eventually("a miss fails", async || {
        let asked = Instant::now();
        let answer = rig.store.session(&session_id(9)).await.map(|_| ());
        assert!(asked.elapsed() < TIMEOUT + SLACK);
        answer.is_err()
    })
    .await;
    assert!(killed.elapsed() < TIMEOUT + SLACK);
    eventually("misses fail at once", async || {
        let asked = Instant::now();
        assert_ne!(rig.store.session(&session_id(9)).await.map(|_| ()), Ok(()));
        asked.elapsed() < TIMEOUT / 4
    })
    .await;
    assert_eq!(rig.store.session(&session_id(9)).await.map(|_| ()), Err(Unavailable::Down));
    assert_eq!(rig.store.probe().await, Err(Unavailable::Down));
    assert_eq!(known_token(&rig.store, &id).await, Some(token));
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_not_trusted() {
    let mut rig = Rig::with(graced(Duration::ZERO)).await;
    let (id, token) = cached(&mut rig, 1).await;
    rig.server.restart();
    let back = Instant::now();
    eventually("Redis is asked again", async || {
        let answer = rig.store.session(&session_id(9)).await.map(|_| ());
        assert_ne!(answer, Ok(()), "an empty store must not say that there is no such session");
        answer == Err(Unavailable::Unmarked)
    })
    .await;
    assert!(back.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", back.elapsed());
    assert_eq!(rig.store.user(&id).await.map(|_| ()), Err(Unavailable::Unmarked));

    live(&rig.store).await;
    let mut redis = support::rig::client(&rig.server).await;
    run(&mut redis, &["SET", "im:token:u1", &token]).await;
    run(&mut redis, &["SET", "imgate:store", "1"]).await;
    assert_eq!(known_token(&rig.store, &id).await, Some(token));
}

#[tokio::test]
async fn a_redis_that_hangs_costs_one_deadline_and_then_nothing() {
    let mut rig = Rig::with(graced(Duration::from_secs(60))).await;
    let (id, token) = cached(&mut rig, 1).await;
    rig.server.pause();
    let asked = Instant::now();
    let answer = rig.store.session(&session_id(9)).await.map(|_| ());
    assert!(matches!(answer, Err(Unavailable::Deadline | Unavailable::Down)), "{answer:?}");
    assert!(asked.elapsed() < TIMEOUT + SLACK, "{:?}", asked.elapsed());
    eventually("misses fail at once", async || {
        let asked = Instant::now();
        assert_ne!(rig.store.session(&session_id(9)).await.map(|_| ()), Ok(()));
        asked.elapsed() < TIMEOUT / 4
    })
    .await;
    // A crowd of misses is turned away without waiting in line.
    let asked = Instant::now();
    let crowd: Vec<_> = (0..100)
        .map(|number| {
            let store = Arc::clone(&rig.store);
            tokio::spawn(async move { store.session(&session_id(number)).await.map(|_| ()) })
        })
        .collect();
    for caller in crowd {
        assert_eq!(caller.await.unwrap(), Err(Unavailable::Down));
    }
    assert!(asked.elapsed() < TIMEOUT, "{:?}", asked.elapsed());
    assert_eq!(known_token(&rig.store, &id).await, Some(token));

    rig.server.resume();
    let back = Instant::now();
    eventually("Redis is used again", async || matches!(rig.store.session(&session_id(9)).await, Ok(None)))
        .await;
    assert!(back.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", back.elapsed());
    live(&rig.store).await;
}

#[tokio::test]
async fn a_silent_command_link_turns_misses_away_until_it_is_healed() {
    let (mut rig, proxy) = proxied(graced(Duration::from_secs(60))).await;
    let (id, token) = cached(&mut rig, 1).await;
    proxy.set(Role::Commands, Mode::Hold);
    let asked = Instant::now();
    let answer = rig.store.session(&session_id(9)).await.map(|_| ());
    assert!(matches!(answer, Err(Unavailable::Deadline | Unavailable::Down)), "{answer:?}");
    assert!(asked.elapsed() < TIMEOUT + SLACK, "{:?}", asked.elapsed());
    let hits = rig.store.stats().hits;
    assert_eq!(known_token(&rig.store, &id).await, Some(token));
    assert_eq!(rig.store.stats().hits, hits + 1);

    proxy.set(Role::Commands, Mode::Pass);
    let healed = Instant::now();
    eventually("misses are answered", async || matches!(rig.store.session(&session_id(9)).await, Ok(None)))
        .await;
    assert!(healed.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", healed.elapsed());
    assert_eq!(rig.store.stats().link_losses, 0);
}

#[tokio::test]
async fn a_cut_command_link_is_replaced_without_anybody_waiting_long() {
    let (mut rig, proxy) = proxied(CacheConfig::default()).await;
    rig.writer.put_session(&session_id(1), &record(&user("u1"))).await.unwrap();
    assert!(rig.store.session(&session_id(9)).await.unwrap().is_none());
    proxy.set(Role::Commands, Mode::Cut);
    eventually("the link is seen to be cut", async || rig.store.session(&session_id(1)).await.is_err()).await;
    proxy.set(Role::Commands, Mode::Pass);
    let healed = Instant::now();
    eventually("the session is found", async || {
        matches!(rig.store.session(&session_id(1)).await, Ok(Some(_)))
    })
    .await;
    assert!(healed.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", healed.elapsed());
    rig.run(&["PING"]).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_nobody_with_it() {
    let (rig, proxy) = proxied(CacheConfig::default()).await;
    rig.writer.put_session(&session_id(1), &record(&user("u1"))).await.unwrap();
    for _ in 0..20 {
        proxy.set(Role::Commands, Mode::Jitter(3000));
        let callers: Vec<_> = (0..10)
            .map(|_| {
                let store = Arc::clone(&rig.store);
                tokio::spawn(async move { store.session(&session_id(1)).await })
            })
            .collect();
        callers[0].abort();
        for caller in callers.into_iter().skip(1) {
            assert!(caller.await.unwrap().unwrap().is_some());
        }
        rig.writer.put_session(&session_id(1), &record(&user("u1"))).await.unwrap();
    }
    assert!(tokio::time::timeout(PATIENCE, rig.store.session(&session_id(1))).await.is_ok());
}
