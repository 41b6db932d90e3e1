//! Redis away, hanging, empty or half reachable: cached callers go on for the grace, others are told
//! that the gateway does not know, and nobody that good credentials are bad.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{PATH, SLACK, SOON, UNKNOWN, World, connect, run, tail, token, used, world};
use crate::support::proxy::{Mode, Role};
use crate::support::{Client, Person, within, writer};

/// How old the proof that the tracking link works may get, as the store promises.
const MAX_SILENCE: Duration = Duration::from_millis(1200);

/// How long the gateway may take to find Redis again.
const BACK: Duration = Duration::from_secs(4);

/// Somebody with good credentials who asks all the time.
struct Witness {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(u32, u32)>,
}

impl Witness {
    /// Begins to ask; returns when the first answer was good.
    async fn new(w: &World, who: &Person) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        w.becomes(SOON, who, (200, 0)).await;
        let (until, address, who) = (Arc::clone(&stop), w.gateway.address, who.clone());
        let task = tokio::spawn(async move {
            let (mut served, mut unknown) = (0, 0);
            while !until.load(Ordering::SeqCst) {
                let reply = Client::once(address, &who.post(PATH, "{}")).await;
                match reply.verdict() {
                    (200, 0) => served += 1,
                    UNKNOWN => unknown += 1,
                    other => panic!("{} was told {other:?}: {}", who.user, reply.text()),
                }
            }
            (served, unknown)
        });
        Self { stop, task }
    }

    /// How often it was served, and how often it was told that the gateway does not know.
    async fn tells(self) -> (u32, u32) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

#[tokio::test]
async fn a_cut_tracking_link_ends_old_tokens_with_the_grace() {
    let mut w = world("ttl: 60s, stale_grace: 2s").await;
    let bob = w.stranger("bob").await;
    let new = token(&w.openim, "ann", 1);
    let witness = Witness::new(&w, &w.ann).await;
    let cut = Instant::now();
    w.proxy.set(Role::Tracking, Mode::Cut);
    let lost = "imgate_store_up";
    within(SOON, "the loss is noticed", async || w.gateway.metric(lost).await == 0.0).await;
    w.set("ann", &new).await;
    assert_eq!(used(&w.ask(&w.ann).await).as_deref(), Some(tail(&w.ann.token)), "within the grace");
    w.becomes(SOON, &bob, (200, 0)).await;
    let seen = w.carries(Duration::from_secs(2) + SLACK, &w.ann, &new).await;
    assert!(seen - cut < Duration::from_secs(2) + SLACK, "{:?}", seen - cut);

    w.proxy.set(Role::Tracking, Mode::Pass);
    within(BACK, "the link is back", async || w.gateway.metric(lost).await == 1.0).await;
    let (served, _) = witness.tells().await;
    assert!(served > 0);
    w.del("ann").await;
    w.becomes(SOON, &w.ann, (401, 1507)).await;
}

#[tokio::test]
async fn a_silent_tracking_link_serves_old_tokens_no_longer_than_the_bound() {
    for grace in [0, 2] {
        let mut w = world(&format!("ttl: 60s, stale_grace: {grace}s")).await;
        let new = token(&w.openim, "ann", 1);
        w.proxy.set(Role::Tracking, Mode::Hold);
        let held = Instant::now();
        w.set("ann", &new).await;
        let bound = MAX_SILENCE.max(Duration::from_secs(grace)) + SLACK;
        let seen = w.carries(bound, &w.ann, &new).await;
        assert!(seen - held <= bound, "{:?} with a grace of {grace} s", seen - held);
        // Known to be down now, it must not be trusted again by accident.
        w.del("ann").await;
        w.becomes(SOON, &w.ann, (401, 1507)).await;
        w.proxy.set(Role::Tracking, Mode::Pass);
        let up = async || w.gateway.metric("imgate_store_up").await == 1.0;
        within(BACK, "the link is back", up).await;
    }
}

#[tokio::test]
async fn without_redis_cached_callers_go_on_for_the_grace_and_all_is_well_when_it_is_back() {
    let grace = Duration::from_secs(3);
    let mut w = world("ttl: 60s, stale_grace: 3s").await;
    let (bob, eve) = (w.stranger("bob").await, Person::unknown("eve", &w.openim));
    let witnesses = [Witness::new(&w, &w.ann).await, Witness::new(&w, &bob).await];
    let carl = w.stranger("carl").await;

    w.server.kill();
    let killed = Instant::now();
    w.is_unknown_in_time(&carl).await;
    assert_eq!(w.verdict(&w.ann).await, (200, 0), "within the grace");
    w.is_unknown_in_time(&eve).await;
    within(grace + SLACK, "the grace ends", async || w.verdict(&w.ann).await == UNKNOWN).await;
    assert!(killed.elapsed() < grace + SLACK, "{:?}", killed.elapsed());
    for _ in 0..20 {
        w.is_unknown_in_time(&w.ann).await;
    }

    // It is back, and empty: the sessions are not gone because Redis says so.
    w.server.restart();
    let unmarked = "imgate_store_failures_total{cause=\"unmarked\"}";
    within(BACK, "it is asked again", async || w.gateway.metric(unmarked).await > 0.0).await;
    for who in [&w.ann, &carl, &eve].repeat(10) {
        w.is_unknown_in_time(who).await;
    }

    // Refilled, the mark last, as a restore should do it.
    let store = writer(&w.server).await;
    for who in [&w.ann, &bob] {
        store.put_session(&who.session, &who.record).await.unwrap();
        store.put_token(&who.user, &who.token).await.unwrap();
    }
    w.is_unknown_in_time(&w.ann).await;
    store.put_mark().await.unwrap();
    for who in [&w.ann, &bob] {
        w.becomes(BACK, who, (200, 0)).await;
    }
    // Now it can be trusted that there is nobody else.
    for who in [&carl, &eve] {
        w.becomes(SOON, who, (401, 1501)).await;
    }
    for witness in witnesses {
        let (served, unknown) = witness.tells().await;
        assert!(served > 0 && unknown > 0, "{served} {unknown}");
    }
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_deadline_and_nobody_is_blamed() {
    let grace = Duration::from_secs(2);
    let w = world("ttl: 60s, stale_grace: 2s").await;
    let (bob, carl) = (w.stranger("bob").await, w.stranger("carl").await);
    let witnesses = [Witness::new(&w, &w.ann).await, Witness::new(&w, &bob).await];
    w.server.pause();
    let paused = Instant::now();
    w.is_unknown_in_time(&carl).await;
    assert_eq!(w.verdict(&w.ann).await, (200, 0), "within the grace");
    within(grace + SLACK, "the grace ends", async || w.verdict(&w.ann).await == UNKNOWN).await;
    assert!(paused.elapsed() < grace + SLACK, "{:?}", paused.elapsed());
    for who in [&w.ann, &carl].repeat(10) {
        w.is_unknown_in_time(who).await;
    }
    w.server.resume();
    for who in [&w.ann, &bob, &carl] {
        w.becomes(BACK, who, (200, 0)).await;
    }
    for witness in witnesses {
        let (served, unknown) = witness.tells().await;
        assert!(served > 0 && unknown > 0, "{served} {unknown}");
    }
}

#[tokio::test]
async fn a_redis_that_is_flushed_under_us_is_not_believed() {
    let mut w = world("ttl: 60s, stale_grace: 10s").await;
    let witness = Witness::new(&w, &w.ann).await;
    run(&mut w.redis, &["FLUSHALL"]).await;
    w.becomes(SOON, &w.ann, UNKNOWN).await;
    for _ in 0..20 {
        w.is_unknown_in_time(&w.ann).await;
    }
    let (_, unknown) = witness.tells().await;
    assert!(unknown > 0);
    run(&mut w.redis, &["SET", "imgate:store", "1"]).await;
    w.becomes(SOON, &w.ann, (401, 1501)).await;
}

#[tokio::test]
async fn what_was_deleted_during_an_outage_is_refused_after_it() {
    let mut w = world("ttl: 60s, stale_grace: 60s").await;
    let bob = w.stranger("bob").await;
    w.is_cached(&bob).await;
    for role in [Role::Unknown, Role::Tracking, Role::Commands] {
        w.proxy.set(role, Mode::Cut);
    }
    let witness = Witness::new(&w, &bob).await;
    let down = async || w.gateway.metric("imgate_store_up").await == 0.0;
    within(SOON, "the loss is noticed", down).await;
    let mut own = connect(&w.server).await;
    run(&mut own, &["DEL", "im:token:ann"]).await;
    // The grace is long, and nobody could have told the gateway.
    assert_eq!(w.verdict(&w.ann).await, (200, 0));
    for role in [Role::Unknown, Role::Tracking, Role::Commands] {
        w.proxy.set(role, Mode::Pass);
    }
    w.becomes(BACK, &w.ann, (401, 1507)).await;
    for _ in 0..10 {
        assert_eq!(w.verdict(&w.ann).await, (401, 1507), "what is gone stays gone");
    }
    let revived = token(&w.openim, "ann", 1);
    w.set("ann", &revived).await;
    w.carries(SOON, &w.ann, &revived).await;
    assert!(witness.tells().await.0 > 0);
}
