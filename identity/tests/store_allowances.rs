//! Allowances that stores share, reckoned with by a real Redis.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

mod support {
    pub(crate) mod redis_server;
    pub(crate) mod rig;
}

use std::sync::Arc;
use std::time::Duration;

use imgate_identity::key::Keys;
use imgate_identity::secret::Secret;
use imgate_identity::store::{
    CacheConfig, Login, Lookups, Memory, Policy, RedisConfig, Refusal, Store, Taken, Unavailable,
};
use support::rig::{PATIENCE, Rig, eventually, fresh_token, live, patient, user};
use tokio::sync::Barrier;

const HOUR: Duration = Duration::from_secs(3600);

/// Another gateway on the same Redis.
async fn another(rig: &Rig) -> Arc<Store> {
    let store = Store::redis(patient(&rig.server.url()), Keys::default(), CacheConfig::default()).unwrap();
    live(&store).await;
    store
}

/// Asks until there is an answer: a busy machine may be late.
async fn take(store: &Store, policy: &Policy, caller: &str) -> Taken {
    let mut taken = None;
    eventually("the store answers", async || {
        taken = store.take(policy, caller.as_bytes()).await.ok();
        taken.is_some()
    })
    .await;
    taken.unwrap()
}

fn passed(taken: Taken) -> bool {
    matches!(taken, Taken::Passed { .. })
}

/// The key of the one allowance there is.
async fn the_key(rig: &mut Rig) -> String {
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("imgate:rate:*").query_async(&mut rig.redis).await.unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_on_two_gateways_get_exactly_the_burst() {
    let rig = Rig::start().await;
    let stores = [Arc::clone(&rig.store), another(&rig).await];
    let policy = Policy::new("user", HOUR, 20);
    let (callers, barrier) = (100, Arc::new(Barrier::new(100)));
    let asked: Vec<_> = (0..callers)
        .map(|n| {
            let (store, policy, barrier) = (Arc::clone(&stores[n % 2]), policy.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                store.take(&policy, b"ann").await
            })
        })
        .collect();
    let (mut passes, mut unknown) = (0, 0);
    for asked in asked {
        match asked.await.unwrap() {
            Ok(taken) => passes += usize::from(passed(taken)),
            // It may have been counted, on a machine too busy to hear of it in time.
            Err(_) => unknown += 1,
        }
    }
    assert!(passes <= 20 && passes + unknown >= 20, "{passes} passed, {unknown} are not known");
    for store in &stores {
        let Taken::Refused { whole_in, wait } = take(store, &policy, "ann").await else {
            panic!("one too many")
        };
        assert!(wait <= HOUR && wait > HOUR - PATIENCE, "{wait:?}");
        assert_eq!(whole_in - wait, HOUR * 19);
    }
    assert!(passed(take(&stores[1], &policy, "bob").await), "he is somebody else");
}

#[tokio::test]
async fn redis_and_memory_reckon_alike() {
    let rig = Rig::start().await;
    let memory = Store::memory(Arc::new(Memory::new()), Keys::default(), CacheConfig::default());
    for (interval, burst) in
        [(HOUR, 1), (HOUR, 24), (Duration::from_nanos(333_333_334 * 3600), 3), (Duration::from_secs(60), 5)]
    {
        let policy = Policy::new("both", interval, burst);
        for n in 0..burst + 2 {
            let both = [take(&rig.store, &policy, "ann").await, take(&memory, &policy, "ann").await];
            assert_eq!(both.map(passed), [n < burst; 2], "{n} of {burst}");
            let whole = interval * (n + 1).min(burst);
            for taken in both {
                let left = taken.whole_in();
                assert!(left <= whole && left > whole.saturating_sub(PATIENCE), "{left:?} of {whole:?}");
            }
        }
    }
}

#[tokio::test]
async fn whoever_waits_as_told_passes_and_what_is_whole_is_forgotten() {
    let mut rig = Rig::start().await;
    let policy = Policy::new("user", Duration::from_millis(40), 3);
    for _ in 0..30 {
        if let Taken::Refused { wait, .. } = take(&rig.store, &policy, "ann").await {
            assert!(wait <= Duration::from_millis(40), "{wait:?}");
            tokio::time::sleep(wait).await;
            assert!(passed(take(&rig.store, &policy, "ann").await));
        }
    }
    let key = the_key(&mut rig).await;
    let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut rig.redis).await.unwrap();
    assert!(left <= 120, "{left}");
    eventually("nothing is left of it", async || {
        redis::cmd("EXISTS").arg(&key).query_async::<u8>(&mut rig.redis).await.unwrap() == 0
    })
    .await;
}

#[tokio::test]
async fn a_changed_policy_reads_nothing_of_the_old_one() {
    let rig = Rig::start().await;
    let strict = Policy::new("user", HOUR, 1);
    assert!(passed(take(&rig.store, &strict, "ann").await));
    assert!(!passed(take(&rig.store, &Policy::new("user", HOUR, 1), "ann").await), "it is the same");
    for other in
        [Policy::new("user", HOUR, 2), Policy::new("user", HOUR * 2, 1), Policy::new("device", HOUR, 1)]
    {
        assert!(passed(take(&rig.store, &other, "ann").await), "{other:?}");
    }
}

#[tokio::test]
async fn the_key_shows_no_caller_and_what_is_broken_in_it_is_forgiven() {
    let mut rig = Rig::start().await;
    let (policy, caller) = (Policy::new("user", HOUR, 1), "somebody".repeat(100));
    assert!(passed(take(&rig.store, &policy, &caller).await));
    let key = the_key(&mut rig).await;
    assert!(!key.contains("somebody") && key.len() == "imgate:rate:".len() + 22 + 1 + 22, "{key}");
    assert!(key.starts_with(&format!("imgate:rate:{}:", policy.version())));
    // Nobody waits until next year because a clock was put back.
    rig.run(&["SET", &key, "99999999999.000000000"]).await;
    let Taken::Refused { wait, .. } = take(&rig.store, &policy, &caller).await else { panic!("not refused") };
    assert_eq!(wait, HOUR);
    for broken in ["", "x", "1e9", "-1.0", "99999999999"] {
        rig.run(&["SET", &key, broken]).await;
        assert!(passed(take(&rig.store, &policy, &caller).await), "{broken}");
    }
    rig.run(&["DEL", &key]).await;
    rig.run(&["LPUSH", &key, "x"]).await;
    let refused = Unavailable::Refused(Refusal::WrongType);
    assert_eq!(rig.store.take(&policy, caller.as_bytes()).await, Err(refused));
}

#[tokio::test]
async fn asking_is_one_command_on_a_script_that_redis_knows() {
    let mut rig = Rig::start().await;
    let policy = Policy::new("user", HOUR, 1000);
    take(&rig.store, &policy, "ann").await;
    let (eval, sha) = (rig.calls("eval").await, rig.calls("evalsha").await);
    for _ in 0..50 {
        take(&rig.store, &policy, "ann").await;
    }
    assert_eq!(rig.calls("eval").await, eval, "the name of the script is not the one Redis gives it");
    assert!(rig.calls("evalsha").await >= sha + 50);
    // Redis forgets scripts when it starts anew.
    rig.run(&["SCRIPT", "FLUSH"]).await;
    take(&rig.store, &policy, "ann").await;
    assert_eq!(rig.calls("eval").await, eval + 1);
}

#[tokio::test]
async fn without_redis_there_is_no_verdict() {
    let mut rig = Rig::start().await;
    let policy = Policy::new("user", HOUR, 5);
    take(&rig.store, &policy, "ann").await;
    rig.server.kill();
    for _ in 0..20 {
        let taken = rig.store.take(&policy, b"ann").await;
        assert!(matches!(taken, Err(Unavailable::Down | Unavailable::Deadline)), "{taken:?}");
    }
    rig.server.restart();
    for left in (0..5).rev() {
        assert!(passed(take(&rig.store, &policy, "ann").await), "{left}: it is empty, so all are whole");
    }
    assert!(!passed(take(&rig.store, &policy, "ann").await));
}

#[tokio::test]
async fn a_user_who_may_not_run_scripts_is_told_apart() {
    let mut rig = Rig::start().await;
    let rule = ["ACL", "SETUSER", "reader", "on", "nopass", "~*", "+@all", "-@scripting"];
    rig.run(&rule).await;
    let url = rig.server.url().replace("redis://", "redis://reader@");
    let login = Login { user: None, password: Some(Secret::new("any".to_owned())) };
    let config = RedisConfig { login, ..patient(&url) };
    let store = Store::redis(config, Keys::default(), CacheConfig::default()).unwrap();
    live(&store).await;
    let taken = store.take(&Policy::new("user", HOUR, 5), b"ann").await;
    assert_eq!(taken, Err(Unavailable::Refused(Refusal::NoPermission)));
}

#[tokio::test]
async fn cold_lookups_wait_for_their_turn_and_cached_ones_do_not() {
    let rig = Rig::start().await;
    let lookups = Lookups { concurrent: 1, queue: 10, wait: PATIENCE, rate: None };
    let config = RedisConfig { timeout: PATIENCE, lookups, ..patient(&rig.server.url()) };
    let store = Store::redis(config, Keys::default(), CacheConfig::default()).unwrap();
    live(&store).await;
    rig.writer.put_token(&user("cached"), &fresh_token("cached", 2, 1)).await.unwrap();
    let cached = user("cached");
    eventually("it is cached", async || {
        let before = store.stats().hits;
        store.user(&cached).await.is_ok() && store.stats().hits > before
    })
    .await;
    rig.server.pause();
    let cold: Vec<_> = (0..20)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.user(&user(&format!("u{n}"))).await.map(drop) })
        })
        .collect();
    eventually("the queue is full", async || store.stats().waiting == 10).await;
    eventually("the others are turned away", async || store.stats().failures.overloaded == 9).await;
    store.user(&cached).await.unwrap();
    rig.server.resume();
    let mut served = 0;
    for cold in cold {
        match cold.await.unwrap() {
            Ok(()) => served += 1,
            Err(why) => assert_eq!(why, Unavailable::Overloaded),
        }
    }
    assert_eq!((served, store.stats().waiting), (11, 0));
}
