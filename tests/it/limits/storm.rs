//! All come at once and nobody is cached, while Redis is slow.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imgate_identity::session::SessionId;
use openim_standin::{Options, Standin};
use tokio::task::JoinSet;

use crate::support::proxy::{Mode, Proxy, Role};
use crate::support::{Client, Gateway, Person, RedisServer, Setup, eventually, writer};

const FRIENDS: &str = "/friend/get_friend_list";

/// How many come at once.
const STORM: usize = 1000;

async fn ask(gateway: &Gateway, who: &Person) -> crate::support::Reply {
    let sent = who.post(FRIENDS, &format!(r#"{{"userID":"{}"}}"#, who.user));
    Client::once(gateway.address, &sent).await
}

/// Devices of hers, each with a session that the gateway has not seen.
async fn devices(ann: &Person, redis: &RedisServer) -> Vec<Person> {
    let writer = writer(redis).await;
    let mut devices = Vec::new();
    for _ in 0..STORM {
        let device = Person { session: SessionId::random().unwrap(), ..ann.clone() };
        writer.put_session(&device.session, &device.record).await.unwrap();
        devices.push(device);
    }
    devices
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_logins_on_a_slow_redis_is_let_in_by_and_by_and_cached_callers_notice_nothing() {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let cold = devices(&ann, &redis).await;
    let proxy = Proxy::start(redis.address()).await;
    let url = proxy.url();
    let mut setup = Setup::at(openim.api(), openim.ws(), url.strip_prefix("redis://").unwrap()).patient();
    setup.store = setup.store.replace(
        "timeout: 10s,",
        "lookups: { concurrent: 4, queue: 300, wait: 1s, rate: 400/s, burst: 50 }, timeout: 10s,",
    );
    assert!(setup.store.contains("lookups"), "{}", setup.store);
    // This is about Redis, not about the machine that runs the test.
    setup.more = "limits: { shed: { target: 0s }, request_timeout: 60s }".to_owned();
    let gateway = Arc::new(setup.start().await);
    eventually("she is cached", async || ask(&gateway, &ann).await.verdict() == (200, 0)).await;
    proxy.set(Role::Commands, Mode::Jitter(20_000));

    let over = Arc::new(AtomicBool::new(false));
    let losses = async || gateway.metric("imgate_store_events_total{event=\"link_loss\"}").await;
    let losses_before = losses().await;
    let witness = tokio::spawn({
        let (gateway, over, ann) = (Arc::clone(&gateway), Arc::clone(&over), ann.clone());
        async move {
            let (mut served, mut refused) = (0, 0);
            while !over.load(Ordering::SeqCst) {
                match ask(&gateway, &ann).await.verdict() {
                    (200, 0) => served += 1,
                    _ => refused += 1,
                }
            }
            (served, refused)
        }
    });
    let mut storm = JoinSet::new();
    for device in cold.clone() {
        let gateway = Arc::clone(&gateway);
        storm.spawn(async move { (ask(&gateway, &device).await, device) });
    }
    let (mut served, mut later, mut waits) = (0, Vec::new(), HashSet::new());
    for (reply, device) in storm.join_all().await {
        match reply.verdict() {
            (200, 0) => served += 1,
            verdict => {
                assert_eq!(verdict, (503, 20404), "{}", reply.text());
                waits.insert(reply.header("retry-after").unwrap().to_owned());
                later.push(device);
            }
        }
    }
    over.store(true, Ordering::SeqCst);
    let (witnessed, refused) = witness.await.unwrap();
    // On a busy machine the tracking link may be taken for lost; then nobody is cached when it is back.
    assert!(witnessed > 0 && (refused == 0 || losses().await > losses_before), "{refused} of hers");
    assert!(served > 0 && later.len() > STORM / 10, "{served} were served");
    // They are told to come back at different times, in one to five seconds.
    assert!(
        waits.len() > 1 && waits.iter().all(|wait| (1..=5).contains(&wait.parse().unwrap())),
        "{waits:?}"
    );
    let overloaded = gateway.metric("imgate_store_failures_total{cause=\"overloaded\"}").await;
    assert_eq!((overloaded, gateway.metric("imgate_store_lookups_waiting").await), (later.len() as f64, 0.0));

    // Whoever comes back gets in.
    for device in later.iter().take(50) {
        eventually("she is let in", async || ask(&gateway, device).await.verdict() == (200, 0)).await;
    }
}
