//! What the backend writes, on Redis and on the store inside the process alike.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

mod support {
    pub(crate) mod redis_server;
    pub(crate) mod rig;
}

use std::sync::Arc;
use std::time::Duration;

use imgate_identity::key::Keys;
use imgate_identity::session::{Ban, Record};
use imgate_identity::store::{
    BadRedisConfig, CacheConfig, Claim, Memory, RedisConfig, Revocation, Store, Tokens, Unavailable,
    WriteError, Writer,
};
use imgate_identity::time::UnixTime;
use imgate_identity::token::TokenFault;
use support::redis_server::RedisServer;
use support::rig::{
    client, eventually, fresh_token, known_token, patient, platform, record, run, session_id, token, user,
};

fn embedded(cache: CacheConfig) -> (Arc<Memory>, Writer, Arc<Store>) {
    let memory = Arc::new(Memory::new());
    let writer = Writer::memory(Arc::clone(&memory), Keys::default());
    let store = Store::memory(Arc::clone(&memory), Keys::default(), cache);
    (memory, writer, store)
}

/// Everything a writer does, checked by what it reads back.
async fn writes_are_read_back(writer: &Writer) {
    let (id, u1, admin, now) = (session_id(1), user("u1"), user("imAdmin"), UnixTime::now());
    let written = record(&u1);
    writer.put_mark().await.unwrap();
    assert_eq!(writer.session(&id).await, Ok(None));
    assert_eq!(writer.revoke_session(&id, now).await, Ok(Revocation::Unknown));
    writer.put_session(&id, &written).await.unwrap();
    assert_eq!(writer.session(&id).await, Ok(Some(written.clone())));
    assert_eq!(writer.revoke_session(&id, now).await, Ok(Revocation::Revoked));
    assert_eq!(writer.revoke_session(&id, UnixTime(1)).await, Ok(Revocation::AlreadyRevoked(now)));
    assert_eq!(writer.session(&id).await, Ok(Some(Record { revoked_at: Some(now), ..written })));

    writer.put_token(&u1, &fresh_token("u1", 2, 0)).await.unwrap();
    assert!(matches!(writer.user(&u1).await.unwrap().tokens, Tokens::One(_)));
    writer.delete_token(&u1).await.unwrap();
    writer.put_platform_token(&u1, platform(2), &fresh_token("u1", 2, 0)).await.unwrap();
    writer.put_platform_token(&u1, platform(5), &fresh_token("u1", 5, 0)).await.unwrap();
    writer.delete_platform_token(&u1, platform(2)).await.unwrap();
    let known = writer.user(&u1).await.unwrap();
    assert!(known.token(platform(2)).is_none() && known.token(platform(5)).is_some());
    writer.delete_platform_token(&u1, platform(5)).await.unwrap();
    assert_eq!(writer.user(&u1).await.unwrap().tokens, Tokens::None);

    writer.put_admin_token(&admin, &fresh_token("imAdmin", 10, 0)).await.unwrap();
    assert!(writer.admin_token(&admin).await.unwrap().is_some());
    writer.delete_admin_token(&admin).await.unwrap();
    assert_eq!(writer.admin_token(&admin).await, Ok(None));

    let ban = Ban::new(now.plus(Duration::from_secs(60)), "spam");
    writer.put_ban(&u1, &ban).await.unwrap();
    assert_eq!(writer.user(&u1).await.unwrap().ban, Some(ban));
    writer.delete_ban(&u1).await.unwrap();
    assert_eq!(writer.user(&u1).await.unwrap().ban, None);

    let foreign = WriteError::Token(TokenFault::Foreign);
    assert_eq!(writer.put_token(&u1, &fresh_token("u2", 2, 0)).await, Err(foreign));
    assert_eq!(writer.put_platform_token(&u1, platform(2), &fresh_token("u1", 5, 0)).await, Err(foreign));
    assert_eq!(writer.put_admin_token(&admin, &fresh_token("imAdmin", 2, 0)).await, Err(foreign));
}

#[tokio::test]
async fn a_writer_reads_back_what_it_wrote_to_redis() {
    let server = RedisServer::start();
    let writer = Writer::connect(patient(&server.url()), Keys::default()).await.unwrap();
    writes_are_read_back(&writer).await;
}

#[tokio::test]
async fn a_writer_reads_back_what_it_wrote_to_memory() {
    let (_, writer, _) = embedded(CacheConfig::default());
    writes_are_read_back(&writer).await;
}

#[tokio::test]
async fn records_outlive_their_last_second_and_a_revocation_keeps_that() {
    let server = RedisServer::start();
    let writer = Writer::connect(patient(&server.url()), Keys::default()).await.unwrap();
    let mut redis = client(&server).await;
    let key = Keys::default().session(&session_id(1));
    writer.put_session(&session_id(1), &record(&user("u1"))).await.unwrap();
    run(&mut redis, &["EXPIRE", &key, "5000"]).await;
    writer.revoke_session(&session_id(1), UnixTime::now()).await.unwrap();
    let ttl: u64 = redis::cmd("TTL").arg(&key).query_async(&mut redis).await.unwrap();
    assert!((4900..=5000).contains(&ttl), "{ttl}");

    writer.put_session(&session_id(2), &record(&user("u1"))).await.unwrap();
    let key = Keys::default().session(&session_id(2));
    let ttl: u64 = redis::cmd("TTL").arg(&key).query_async(&mut redis).await.unwrap();
    assert!(ttl >= 3600, "{ttl}");
}

#[tokio::test]
async fn a_revocation_wins_over_writes_that_race_it() {
    let server = RedisServer::start();
    let writer = Arc::new(Writer::connect(patient(&server.url()), Keys::default()).await.unwrap());
    for number in 0..50 {
        let id = session_id(number);
        writer.put_session(&id, &record(&user("u1"))).await.unwrap();
        let revokers: Vec<_> = (0..4)
            .map(|at| {
                let writer = Arc::clone(&writer);
                tokio::spawn(async move { writer.revoke_session(&id, UnixTime(at)).await.unwrap() })
            })
            .collect();
        let mut revoked = 0;
        for revoker in revokers {
            revoked += u32::from(revoker.await.unwrap() == Revocation::Revoked);
        }
        assert_eq!(revoked, 1);
    }
}

#[tokio::test]
async fn a_writer_says_why_it_cannot_connect() {
    let connect = async |url: &str| Writer::connect(RedisConfig::new(url), Keys::default()).await.err();
    assert_eq!(connect("nonsense").await, Some(WriteError::Config(BadRedisConfig::Malformed)));
    for nobody in ["redis://127.0.0.1:1", "rediss://127.0.0.1:1"] {
        assert_eq!(connect(nobody).await, Some(WriteError::Unavailable(Unavailable::Down)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_to_memory_is_seen_at_once() {
    let (memory, writer, store) = embedded(CacheConfig::default());
    let (id, u1) = (session_id(1), user("u1"));
    assert!(matches!(store.session(&id).await, Ok(None)));
    writer.put_session(&id, &record(&u1)).await.unwrap();
    assert!(store.session(&id).await.unwrap().is_some());

    for serial in 0..10 {
        writer.put_token(&u1, &fresh_token("u1", 2, serial)).await.unwrap();
        assert_eq!(known_token(&store, &u1).await, Some(fresh_token("u1", 2, serial)));
    }
    memory.flush();
    assert!(matches!(store.session(&id).await, Ok(None)));
    assert_eq!(known_token(&store, &u1).await, None);
}

#[tokio::test(start_paused = true)]
async fn entries_are_read_again_after_their_ttl() {
    let cache = CacheConfig {
        ttl: Duration::from_secs(60),
        negative_ttl: Duration::from_secs(2),
        ..CacheConfig::default()
    };
    let now = UnixTime::now();
    let soon = now.plus(Duration::from_secs(20));
    let cases = [
        (fresh_token("u1", 2, 0), Duration::from_secs(60)),
        (token("u1", 2, soon, 0), Duration::from_secs(20)),
        (token("u1", 2, UnixTime(5), 0), Duration::from_secs(2)),
    ];
    for (raw, ttl) in cases {
        let (_memory, writer, store) = embedded(cache.clone());
        writer.put_token(&user("u1"), &raw).await.unwrap();
        store.user(&user("u1")).await.unwrap();
        // The wall clock ticks in whole seconds, so an expiry may seem one second nearer.
        tokio::time::advance(ttl.saturating_sub(Duration::from_millis(1100))).await;
        store.user(&user("u1")).await.unwrap();
        assert_eq!(store.stats().loads, 1, "{ttl:?}");
        tokio::time::advance(Duration::from_millis(1200)).await;
        store.user(&user("u1")).await.unwrap();
        assert_eq!(store.stats().loads, 2, "{ttl:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_memory_answers_with_its_failure_and_nonces_are_noted_there_too() {
    let (memory, _, store) = embedded(CacheConfig::default());
    memory.set_failure(Some(Unavailable::Down));
    assert!(matches!(store.session(&session_id(1)).await, Err(Unavailable::Down)));
    assert_eq!(store.probe().await, Err(Unavailable::Down));
    memory.set_failure(None);
    assert!(matches!(store.session(&session_id(1)).await, Ok(None)));

    let claim = async || store.claim_nonce(&session_id(1), "n", Duration::from_secs(5)).await;
    assert_eq!(claim().await, Ok(Claim::Fresh));
    assert_eq!(claim().await, Ok(Claim::Seen));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(claim().await, Ok(Claim::Fresh));
}

#[tokio::test]
async fn two_stores_on_one_memory_both_hear_of_writes() {
    let (memory, writer, first) = embedded(CacheConfig::default());
    let second = Store::memory(memory, Keys::default(), CacheConfig::default());
    let u1 = user("u1");
    assert_eq!(known_token(&first, &u1).await, known_token(&second, &u1).await);
    writer.put_token(&u1, &fresh_token("u1", 2, 0)).await.unwrap();
    eventually("both know it", async || {
        known_token(&first, &u1).await.is_some() && known_token(&second, &u1).await.is_some()
    })
    .await;
}
