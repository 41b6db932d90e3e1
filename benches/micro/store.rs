//! `store/*`: what asking the store costs, from the cache and from a real Redis on loopback.
//!
//! A hit is the same whatever stands behind the cache. A miss is made by a cache that keeps nothing,
//! so it includes all that a first request pays: the flight that others could join, one round trip
//! with the store mark before and after, and the parsing of the record. Left out: the network to a
//! Redis elsewhere, and TLS.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Bencher, Criterion};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use imgate_identity::key::Keys;
use imgate_identity::session::{Record, SessionId, SessionSecret};
use imgate_identity::store::{CacheConfig, Health, RedisConfig, Store, Unavailable, Writer};
use imgate_identity::time::UnixTime;
use imgate_identity::user::{Platform, UserId};
use tokio::runtime::Runtime;

use crate::redis_server::RedisServer;

/// How many sessions are asked for at once.
const CROWD: u8 = 64;

/// How long the store may take to be live.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than any bench runs.
const LONG: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let redis = RedisServer::start();
    runtime.block_on(fill(&redis));
    hits(criterion, &runtime, &redis);
    misses(criterion, &runtime, &redis);
}

fn hits(criterion: &mut Criterion, runtime: &Runtime, redis: &RedisServer) {
    let store =
        runtime.block_on(open(redis, CacheConfig { ttl: LONG, stale_grace: LONG, ..Default::default() }));
    let (session, user) = (session(0), user(0));
    runtime.block_on(async {
        assert!(store.session(&session).await.unwrap().is_some());
        store.user(&user).await.unwrap();
    });
    let mut group = criterion.benchmark_group("store/hit");
    group.bench_function("session", |b| {
        b.iter(|| store.session(&session).now_or_never().expect("a hit does not wait"));
    });
    group.bench_function("user", |b| {
        b.iter(|| store.user(&user).now_or_never().expect("a hit does not wait"));
    });
    group.finish();
}

fn misses(criterion: &mut Criterion, runtime: &Runtime, redis: &RedisServer) {
    let keeps_nothing = CacheConfig { ttl: Duration::ZERO, ..CacheConfig::default() };
    let store = runtime.block_on(open(redis, keeps_nothing));
    let mut group = criterion.benchmark_group("store");
    group.bench_function("miss/session", |b| repeat(b, runtime, &store, |store| find(store, session(0))));
    group.bench_function("miss/unknown_session", |b| {
        repeat(b, runtime, &store, |store| async move {
            store.session(&SessionId::from_bytes([0xff; 16])).await.map(drop)
        });
    });
    group.bench_function("miss/user", |b| {
        repeat(b, runtime, &store, |store| async move { store.user(&user(0)).await.map(drop) });
    });
    group.bench_function("miss/64_sessions_at_once", |b| repeat(b, runtime, &store, find_crowd));
    group.bench_function("reread", |b| {
        repeat(b, runtime, &store, |store| async move { store.reread_user(&user(0)).await.map(drop) });
    });
    group.finish();
    assert_eq!(store.stats().hits, 0, "what was measured as misses were misses");
}

/// Measures `ask` on the runtime's one worker, where the store's links live too, as in the gateway.
fn repeat<F: Future<Output = Result<(), Unavailable>> + Send>(
    bencher: &mut Bencher<'_>,
    runtime: &Runtime,
    store: &Arc<Store>,
    ask: impl Fn(Arc<Store>) -> F + Copy + Send + Sync + 'static,
) {
    bencher.iter_custom(|times| {
        let store = Arc::clone(store);
        let measured = runtime.spawn(async move {
            let start = Instant::now();
            for _ in 0..times {
                ask(Arc::clone(&store)).await.unwrap();
            }
            start.elapsed()
        });
        runtime.block_on(measured).unwrap()
    });
}

async fn find(store: Arc<Store>, id: SessionId) -> Result<(), Unavailable> {
    assert!(store.session(&id).await?.is_some());
    Ok(())
}

async fn find_crowd(store: Arc<Store>) -> Result<(), Unavailable> {
    let found = join_all((0..CROWD).map(|n| find(Arc::clone(&store), session(n)))).await;
    found.into_iter().collect()
}

fn session(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

fn user(n: u8) -> UserId {
    UserId::parse(&format!("user_{n}")).unwrap()
}

async fn fill(redis: &RedisServer) {
    let writer = Writer::connect(RedisConfig::new(redis.url()), Keys::default()).await.unwrap();
    writer.put_mark().await.unwrap();
    let now = UnixTime::now();
    for n in 0..CROWD {
        let record = Record {
            user: user(n),
            secret: SessionSecret::new([n; 32]),
            device: "phone".into(),
            platform: Platform::try_from(2).unwrap(),
            issued_at: now,
            expires_at: now.plus(LONG),
            revoked_at: None,
            previous: None,
        };
        writer.put_session(&session(n), &record).await.unwrap();
        writer.put_token(&user(n), &token(&user(n), now.plus(LONG))).await.unwrap();
    }
}

fn token(user: &UserId, exp: UnixTime) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"UserID":"{}","PlatformID":2,"exp":{exp},"iat":1}}"#, user.as_str());
    format!("{}.{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims), part(&"s".repeat(32)))
}

/// Opens a store and waits until it is live. A busy machine may make it wait for an answer.
async fn open(redis: &RedisServer, cache: CacheConfig) -> Arc<Store> {
    let config = RedisConfig { timeout: PATIENCE, ..RedisConfig::new(redis.url()) };
    let store = Store::redis(config, Keys::default(), cache).unwrap();
    let give_up = Instant::now() + PATIENCE;
    while store.health() != Health::Live {
        assert!(Instant::now() < give_up, "the store is not live");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    store
}
