//! The store on a real Redis that behaves: what is cached, for how long, and what drops it.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

mod support {
    pub(crate) mod redis_server;
    pub(crate) mod rig;
}

use std::sync::Arc;
use std::time::Duration;

use imgate_identity::key::Keys;
use imgate_identity::secret::Secret;
use imgate_identity::session::{Ban, SessionId, Standing};
use imgate_identity::store::{CacheConfig, Claim, Login, RedisConfig, Refusal, Store, Tokens, Unavailable};
use imgate_identity::time::UnixTime;
use support::redis_server::RedisServer;
use support::rig::{
    Rig, eventually, fresh_token, known_token, live, patient, platform, record, run, session_id, token, user,
};

/// The commands a read of the store consists of.
async fn reads(rig: &mut Rig) -> u64 {
    rig.calls("get").await + rig.calls("hgetall").await + rig.calls("exists").await
}

#[tokio::test]
async fn a_hit_makes_no_call_to_redis() {
    let mut rig = Rig::start().await;
    let (id, u1, admin) = (session_id(1), user("u1"), user("imAdmin"));
    rig.writer.put_session(&id, &record(&u1)).await.unwrap();
    rig.writer.put_token(&u1, &fresh_token("u1", 2, 0)).await.unwrap();
    rig.writer.put_admin_token(&admin, &fresh_token("imAdmin", 10, 0)).await.unwrap();
    let look = async |store: &Store| {
        assert_eq!(store.session(&id).await.unwrap().unwrap().user, u1);
        assert!(store.user(&u1).await.unwrap().token(platform(5)).is_some());
        assert!(store.admin_token(&admin).await.unwrap().is_some());
    };
    // The announcements of the writes above may still be on their way.
    eventually("all three are cached", async || {
        let before = rig.store.stats();
        look(&rig.store).await;
        rig.store.stats().hits == before.hits + 3
    })
    .await;

    let before = (reads(&mut rig).await, rig.store.stats().hits);
    for _ in 0..100 {
        look(&rig.store).await;
    }
    assert_eq!((reads(&mut rig).await, rig.store.stats().hits), (before.0, before.1 + 300));
}

#[tokio::test]
async fn a_write_by_another_client_is_seen_long_before_the_ttl() {
    let mut rig = Rig::start().await;
    let (id, u1) = (session_id(1), user("u1"));
    rig.writer.put_session(&id, &record(&u1)).await.unwrap();
    let (first, second) = (fresh_token("u1", 2, 1), fresh_token("u1", 2, 2));
    rig.run(&["SET", "im:token:u1", &first]).await;
    eventually("the first token is known", async || {
        known_token(&rig.store, &u1).await == Some(first.clone())
    })
    .await;

    rig.run(&["SET", "im:token:u1", &second]).await;
    eventually("the second token is known", async || {
        known_token(&rig.store, &u1).await == Some(second.clone())
    })
    .await;
    rig.run(&["DEL", "im:token:u1"]).await;
    eventually("the token is gone", async || known_token(&rig.store, &u1).await.is_none()).await;

    rig.writer.put_ban(&u1, &Ban::new(UnixTime(0), "spam")).await.unwrap();
    eventually("the ban is known", async || rig.store.user(&u1).await.unwrap().ban.is_some()).await;

    let now = UnixTime::now();
    assert_eq!(rig.store.session(&id).await.unwrap().unwrap().standing(now), Standing::Live);
    rig.writer.revoke_session(&id, now).await.unwrap();
    eventually("the session is revoked", async || {
        rig.store.session(&id).await.unwrap().unwrap().standing(now) == Standing::Revoked
    })
    .await;
}

#[tokio::test]
async fn callers_that_miss_together_cause_one_load() {
    let mut rig = Rig::start().await;
    let u1 = user("u1");
    rig.writer.put_token(&u1, &fresh_token("u1", 2, 0)).await.unwrap();
    // Otherwise the announcement may come during the load, which is then rightly not kept.
    eventually("the write is announced", async || rig.store.stats().invalidations > 0).await;
    let gets = rig.calls("hgetall").await;
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (store, u1) = (Arc::clone(&rig.store), u1.clone());
            tokio::spawn(async move { store.user(&u1).await.unwrap() })
        })
        .collect();
    for caller in callers {
        assert!(caller.await.unwrap().token(platform(2)).is_some());
    }
    assert_eq!(rig.calls("hgetall").await, gets + 1);
    assert_eq!(rig.store.stats().loads, 1);
}

#[tokio::test]
async fn made_up_session_ids_are_remembered_apart_and_push_out_nothing() {
    let rig = Rig::with(CacheConfig {
        entries: 2048,
        negative_ttl: Duration::from_secs(60),
        ..CacheConfig::default()
    })
    .await;
    let (id, u1) = (session_id(1), user("u1"));
    rig.writer.put_session(&id, &record(&u1)).await.unwrap();
    eventually("the session is cached", async || {
        let before = rig.store.stats();
        rig.store.session(&id).await.unwrap();
        rig.store.stats().hits > before.hits
    })
    .await;

    for _ in 0..3000 {
        assert_eq!(rig.store.session(&SessionId::random().unwrap()).await.unwrap().map(|s| s.id), None);
    }
    let before = rig.store.stats();
    // One session, and a sixteenth of 2048 unknown ones, rounded up by the shards of the cache.
    assert!(before.entries <= 1 + 2 * 128, "{before:?}");
    assert!(rig.store.session(&id).await.unwrap().is_some());
    assert_eq!(rig.store.stats().hits, before.hits + 1);
}

#[tokio::test]
async fn an_unknown_session_is_remembered_until_it_is_written() {
    let mut rig =
        Rig::with(CacheConfig { negative_ttl: Duration::from_secs(60), ..CacheConfig::default() }).await;
    let id = session_id(9);
    assert!(rig.store.session(&id).await.unwrap().is_none());
    let before = (reads(&mut rig).await, rig.store.stats().negative_hits);
    assert!(rig.store.session(&id).await.unwrap().is_none());
    assert_eq!((reads(&mut rig).await, rig.store.stats().negative_hits), (before.0, before.1 + 1));

    rig.writer.put_session(&id, &record(&user("u1"))).await.unwrap();
    eventually("the session is known", async || rig.store.session(&id).await.unwrap().is_some()).await;
}

#[tokio::test]
async fn tokens_may_be_kept_for_each_platform() {
    let rig = Rig::start().await;
    let u1 = user("u1");
    rig.writer.put_platform_token(&u1, platform(2), &fresh_token("u1", 2, 0)).await.unwrap();
    rig.writer.put_platform_token(&u1, platform(5), &fresh_token("u1", 5, 0)).await.unwrap();
    let known = async || {
        let user = rig.store.user(&u1).await.unwrap();
        (1..=11).filter(|number| user.token(platform(*number)).is_some()).collect::<Vec<u8>>()
    };
    eventually("both are known", async || known().await == [2, 5]).await;
    rig.writer.delete_platform_token(&u1, platform(2)).await.unwrap();
    eventually("one is gone", async || known().await == [5]).await;
    rig.writer.delete_token(&u1).await.unwrap();
    eventually("all are gone", async || rig.store.user(&u1).await.unwrap().tokens == Tokens::None).await;
}

#[tokio::test]
async fn what_is_broken_in_the_store_is_never_taken_for_nothing() {
    let mut rig = Rig::start().await;
    let session = format!("imgate:session:{}", session_id(1));
    let large = "x".repeat(16 * 1024 + 1);
    let (foreign, admin) = (fresh_token("u2", 2, 0), fresh_token("u1", 10, 0));
    let other_platform = fresh_token("u1", 5, 0);
    let long = format!("{}.{}", fresh_token("u1", 2, 0), "x".repeat(4096));
    let cases: [(&str, &[&str], &str); 20] = [
        ("session", &["SET", &session, "{"], "broken_record_json"),
        ("session", &["SET", &session, ""], "broken_record_json"),
        ("session", &["SET", &session, "{\"v\":2}"], "broken_record_version"),
        ("session", &["SET", &session, &large], "broken_too_large"),
        ("session", &["HSET", &session, "a", "b"], "broken_wrong_type"),
        ("user", &["SET", "imgate:ban:u1", "{}"], "broken_record_json"),
        ("user", &["SET", "imgate:ban:u1", "{\"v\":7}"], "broken_record_version"),
        ("user", &["LPUSH", "imgate:ban:u1", "a"], "broken_wrong_type"),
        ("user", &["LPUSH", "im:token:u1", "a"], "broken_wrong_type"),
        ("user", &["SET", "im:token:u1", ""], "broken_token"),
        ("user", &["SET", "im:token:u1", "a.b.c\r\n"], "broken_token"),
        ("user", &["SET", "im:token:u1", &long], "broken_token"),
        ("user", &["SET", "im:token:u1", &foreign], "broken_token_foreign"),
        ("user", &["SET", "im:token:u1", &admin], "broken_token_foreign"),
        ("user", &["HSET", "im:token:u1", "2", &other_platform], "broken_token_foreign"),
        ("user", &["HSET", "im:token:u1", "10", &admin], "broken_token_foreign"),
        ("user", &["HSET", "im:token:u1", "02", &other_platform], "broken_unknown_field"),
        ("user", &["HSET", "im:token:u1", "12", &other_platform], "broken_unknown_field"),
        ("admin", &["SET", "imgate:admin_token:u1", &other_platform], "broken_token_foreign"),
        ("admin", &["HSET", "imgate:admin_token:u1", "a", "b"], "broken_wrong_type"),
    ];
    for (kind, command, label) in cases {
        rig.run(command).await;
        let why = match kind {
            "session" => rig.store.session(&session_id(1)).await.map(|_| ()),
            "user" => rig.store.reread_user(&user("u1")).await.map(|_| ()),
            _ => rig.store.admin_token(&user("u1")).await.map(|_| ()),
        };
        assert_eq!(why.map_err(Unavailable::as_str), Err(label), "{:?}", &command[..2]);
        rig.run(&["DEL", command[1]]).await;
    }
    assert_eq!(rig.store.stats().failures.broken, 20);
}

#[tokio::test]
async fn a_store_without_its_mark_is_not_trusted_even_if_the_key_is_there() {
    let mut rig = Rig::start().await;
    let (id, u1) = (session_id(1), user("u1"));
    rig.run(&["DEL", "imgate:store"]).await;
    rig.writer.put_session(&id, &record(&u1)).await.unwrap();
    assert_eq!(rig.store.session(&id).await.map(|_| ()), Err(Unavailable::Unmarked));
    assert_eq!(rig.store.session(&session_id(2)).await.map(|_| ()), Err(Unavailable::Unmarked));
    assert_eq!(rig.store.user(&u1).await.map(|_| ()), Err(Unavailable::Unmarked));
    assert_eq!(rig.store.admin_token(&u1).await.map(|_| ()), Err(Unavailable::Unmarked));
    assert_eq!(rig.store.probe().await, Err(Unavailable::Unmarked));

    rig.writer.put_mark().await.unwrap();
    assert!(rig.store.session(&id).await.unwrap().is_some());
    assert_eq!(rig.store.probe().await, Ok(()));
}

#[tokio::test]
async fn the_mark_can_be_done_without() {
    let server = RedisServer::start();
    let config = RedisConfig { require_mark: false, ..patient(&server.url()) };
    let store = Store::redis(config, Keys::default(), CacheConfig::default()).unwrap();
    assert!(store.session(&session_id(1)).await.unwrap().is_none());
    assert_eq!(store.probe().await, Ok(()));
}

#[tokio::test]
async fn a_flush_drops_everything_at_once() {
    let mut rig = Rig::start().await;
    let (id, u1) = (session_id(1), user("u1"));
    rig.writer.put_session(&id, &record(&u1)).await.unwrap();
    assert!(rig.store.session(&id).await.unwrap().is_some());
    rig.run(&["FLUSHALL"]).await;
    eventually("the session is dropped", async || rig.store.session(&id).await.is_err()).await;
    assert_eq!(rig.store.session(&id).await.map(|_| ()), Err(Unavailable::Unmarked));
    assert_eq!(rig.store.stats().flushes, 1);
    rig.writer.put_mark().await.unwrap();
    assert!(rig.store.session(&id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_nonce_claimed_a_hundred_times_at_once_is_fresh_once() {
    let rig = Rig::start().await;
    for round in 0..10 {
        let claims: Vec<_> = (0..100)
            .map(|_| {
                let (store, nonce) = (Arc::clone(&rig.store), format!("nonce-{round}"));
                let ttl = Duration::from_secs(30);
                tokio::spawn(async move { store.claim_nonce(&session_id(1), &nonce, ttl).await.unwrap() })
            })
            .collect();
        let mut fresh = 0;
        for claim in claims {
            fresh += u32::from(claim.await.unwrap() == Claim::Fresh);
        }
        assert_eq!(fresh, 1);
    }
    let again = rig.store.claim_nonce(&session_id(2), "nonce-0", Duration::from_secs(30)).await;
    assert_eq!(again, Ok(Claim::Fresh), "another session's nonce is another nonce");
}

#[tokio::test]
async fn an_expired_token_is_handed_out_but_held_briefly() {
    let mut rig =
        Rig::with(CacheConfig { negative_ttl: Duration::from_millis(50), ..CacheConfig::default() }).await;
    let expired = token("u1", 2, UnixTime(1000), 0);
    rig.run(&["SET", "im:token:u1", &expired]).await;
    assert_eq!(known_token(&rig.store, &user("u1")).await, Some(expired.clone()));
    let loads = rig.store.stats().loads;
    eventually("it is read again", async || {
        assert_eq!(known_token(&rig.store, &user("u1")).await, Some(expired.clone()));
        rig.store.stats().loads > loads + 1
    })
    .await;
}

#[tokio::test]
async fn a_reread_reads_even_what_is_cached() {
    let mut rig = Rig::start().await;
    let u1 = user("u1");
    rig.writer.put_token(&u1, &fresh_token("u1", 2, 0)).await.unwrap();
    eventually("the user is cached", async || {
        let before = rig.store.stats();
        rig.store.user(&u1).await.unwrap();
        rig.store.stats().hits > before.hits
    })
    .await;
    let gets = rig.calls("hgetall").await;
    rig.store.reread_user(&u1).await.unwrap();
    assert_eq!(rig.calls("hgetall").await, gets + 1);
    rig.store.user(&u1).await.unwrap();
    assert_eq!(rig.calls("hgetall").await, gets + 1);

    let gets = rig.calls("get").await;
    assert_eq!(rig.store.reread_admin_token(&u1).await, Ok(None));
    assert_eq!(rig.store.reread_admin_token(&u1).await, Ok(None));
    assert_eq!(rig.calls("get").await, gets + 2);
}

#[tokio::test]
async fn the_first_request_waits_for_the_connection() {
    let rig = Rig::start().await;
    let store = Store::redis(patient(&rig.server.url()), Keys::default(), CacheConfig::default()).unwrap();
    assert_eq!(store.session(&session_id(1)).await.map(|_| ()), Ok(()));
}

#[tokio::test]
async fn a_password_is_used_and_a_wrong_one_is_told_apart_from_an_outage() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    let with = |password: Option<&str>| {
        let password = password.map(|text| Secret::new(text.to_owned()));
        let login = Login { user: None, password };
        let config = RedisConfig { login, require_mark: false, ..patient(&server.url()) };
        Store::redis(config, Keys::default(), CacheConfig::default()).unwrap()
    };
    let right = with(Some("right"));
    live(&right).await;
    assert_eq!(right.session(&session_id(1)).await.map(|_| ()), Ok(()));
    for password in [Some("wrong"), None] {
        let refused = with(password);
        assert_eq!(refused.probe().await, Err(Unavailable::Refused(Refusal::NoAuth)), "{password:?}");
        let why = refused.session(&session_id(1)).await.map(|_| ());
        assert_eq!(why, Err(Unavailable::Refused(Refusal::NoAuth)), "{password:?}");
    }
}

#[tokio::test]
async fn errors_of_redis_are_no_verdicts() {
    let mut rig = Rig::start().await;
    let (id, ttl) = (session_id(1), Duration::from_secs(5));
    rig.run(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let claim = rig.store.claim_nonce(&id, "n", ttl).await;
    assert_eq!(claim, Err(Unavailable::Refused(Refusal::ReadOnly)));
    rig.run(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).await;
    assert_eq!(rig.store.session(&id).await.map(|_| ()), Err(Unavailable::Refused(Refusal::MasterDown)));
    assert_eq!(rig.store.user(&user("u1")).await.map(|_| ()), Err(Unavailable::Refused(Refusal::MasterDown)));
    rig.run(&["REPLICAOF", "NO", "ONE"]).await;

    rig.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let claim = rig.store.claim_nonce(&id, "n", ttl).await;
    assert_eq!(claim, Err(Unavailable::Refused(Refusal::OutOfMemory)));
    rig.run(&["CONFIG", "SET", "maxmemory", "0"]).await;

    rig.run(&["ACL", "SETUSER", "default", "-get"]).await;
    assert_eq!(rig.store.session(&id).await.map(|_| ()), Err(Unavailable::Refused(Refusal::NoPermission)));
    assert_eq!(rig.store.stats().failures.refused, 5);
}

#[tokio::test]
async fn a_dropped_store_leaves_no_connection_behind() {
    let rig = Rig::start().await;
    let mut redis = rig.redis.clone();
    drop((rig.store, rig.writer));
    eventually("only the test's own connection is left", async || {
        run(&mut redis, &["PING"]).await;
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
        list.lines().count() == 1
    })
    .await;
}
