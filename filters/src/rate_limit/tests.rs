//! Limits against a model that has all the time and memory in the world, and against many at once.

use std::collections::HashMap;
use std::sync::Barrier;
use std::time::Instant;

use imgate_identity::key::Keys;
use imgate_identity::store::{CacheConfig, Memory, Store, Unavailable};
use proptest::prelude::*;

use super::*;
use crate::chain::ChainError;
use crate::reject::{Cause, Hint, Reject};
use crate::testing::{Refused, build_error, chain, chain_error, get, run_all, signed_by};

fn config(yaml: &str) -> Config {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn policy(count: u32, unit: Unit, burst: u32, max_keys: Option<usize>) -> Config {
    Config { rate: Rate { count, unit }, burst, max_keys, ..config("{ per: user, rate: 1/s, burst: 1 }") }
}

/// A limit whose keys tests choose, and the moment at which its time begins.
fn limit(policy: &Config) -> (RateMemory, Arc<Limit>, Instant) {
    let memory = RateMemory::default();
    let limit = memory.open(policy);
    (memory, limit, Instant::now())
}

fn key(n: u32) -> Vec<u8> {
    n.to_le_bytes().to_vec()
}

/// GCRA for one key in units of 1 ns / `count`, in which no interval is a fraction.
#[derive(Clone, Copy, Default)]
struct Model {
    whole: u128,
}

impl Model {
    fn admit(&mut self, policy: &Config, now: Duration) -> bool {
        let interval = u128::from(policy.rate.unit.secs()) * 1_000_000_000;
        let now = now.as_nanos() * u128::from(policy.rate.count);
        let due = self.whole.max(now);
        let pass = due - now <= interval * u128::from(policy.burst - 1);
        if pass {
            self.whole = due + interval;
        }
        pass
    }
}

/// Rates of which each interval is a whole number of nanoseconds, so that nothing is rounded.
fn whole_rates() -> impl Strategy<Value = (u32, Unit)> {
    prop_oneof![
        prop::sample::select(vec![1, 2, 5, 20, 100, 1_000, 40_000, 1_000_000])
            .prop_map(|n| (n, Unit::Second)),
        prop::sample::select(vec![1, 6, 30, 60, 600]).prop_map(|n| (n, Unit::Minute)),
        prop::sample::select(vec![1, 10, 100, 3600]).prop_map(|n| (n, Unit::Hour)),
    ]
}

fn any_rate() -> impl Strategy<Value = (u32, Unit)> {
    (1_u32..=1_000_000, prop::sample::select(Unit::ALL.to_vec()))
}

/// Steps of time from nothing to a few intervals, written as thousandths of one.
fn steps() -> impl Strategy<Value = Vec<(u32, u64)>> {
    let step = prop_oneof![3 => Just(0), 3 => 0_u64..1_000, 1 => 0_u64..20_000];
    prop::collection::vec((0_u32..12, step), 1..300)
}

proptest! {
    #[test]
    fn each_key_gets_what_the_model_gives_it(
        (count, unit) in whole_rates(), burst in 1_u32..20, steps in steps()
    ) {
        let policy = policy(count, unit, burst, Some(12));
        let (memory, limit, start) = limit(&policy);
        let (mut models, mut now) = (HashMap::<u32, Model>::new(), Duration::ZERO);
        for (n, step) in steps {
            now += Duration::from_nanos(policy.rate.interval() * step / 1000);
            let expected = models.entry(n).or_default().admit(&policy, now);
            prop_assert_eq!(limit.admit(key(n), start + now).is_ok(), expected, "key {} at {:?}", n, now);
        }
        prop_assert_eq!(memory.overflows(), 0);
    }

    #[test]
    fn no_stretch_of_time_has_more_than_burst_and_rate(
        (count, unit) in any_rate(), burst in 1_u32..20, steps in steps()
    ) {
        let policy = policy(count, unit, burst, Some(12));
        prop_assume!(policy.check().is_ok());
        let (_memory, limit, start) = limit(&policy);
        let (mut passed, mut now) = (Vec::new(), Duration::ZERO);
        for (_, step) in steps {
            now += Duration::from_nanos(policy.rate.interval() * step / 1000);
            if limit.admit(key(1), start + now).is_ok() {
                passed.push(now);
            }
        }
        let unit = u128::from(policy.rate.unit.secs()) * 1_000_000_000;
        for (i, first) in passed.iter().enumerate() {
            for (j, last) in passed.iter().enumerate().skip(i) {
                let earned = (*last - *first).as_nanos() * u128::from(policy.rate.count) / unit;
                prop_assert!((j - i + 1) as u128 <= u128::from(burst) + earned);
            }
        }
    }

    #[test]
    fn who_waits_as_told_passes_and_not_a_moment_sooner(
        (count, unit) in any_rate(), burst in 1_u32..20, steps in steps()
    ) {
        let policy = policy(count, unit, burst, None);
        prop_assume!(policy.check().is_ok());
        let (_memory, limit, start) = limit(&policy);
        let mut now = start;
        for (_, step) in steps {
            now += Duration::from_nanos(policy.rate.interval() * step / 1000);
            if let Err(wait) = limit.admit(key(1), now) {
                prop_assert!(wait <= Duration::from_nanos(policy.rate.interval()));
                let moment = Duration::from_nanos(1);
                prop_assert_eq!(limit.admit(key(1), now + wait - moment), Err(moment));
                now += wait;
                prop_assert_eq!(limit.admit(key(1), now), Ok(()));
            }
        }
    }

    #[test]
    fn who_keeps_to_the_rate_is_never_refused((count, unit) in any_rate(), requests in 1_u32..200) {
        let policy = policy(count, unit, 1, None);
        let (_memory, limit, start) = limit(&policy);
        for n in 0..requests {
            let arrived = start + Duration::from_nanos(policy.rate.interval()) * n;
            prop_assert_eq!(limit.admit(key(1), arrived), Ok(()));
        }
    }

    #[test]
    fn a_full_limit_forgets_nobody_and_does_not_grow(burst in 1_u32..5, strangers in 1_u32..400) {
        let policy = policy(1, Unit::Hour, burst, Some(10));
        let (memory, limit, start) = limit(&policy);
        for n in 0..10 {
            for _ in 0..burst {
                prop_assert!(limit.admit(key(n), start).is_ok());
            }
        }
        let passed = (0..strangers).filter(|n| limit.admit(key(100 + n), start).is_ok()).count();
        prop_assert_eq!(passed as u32, strangers.min(burst), "they share one allowance");
        prop_assert_eq!(memory.overflows(), u64::from(strangers));
        prop_assert_eq!(memory.keys(), 10);
        for n in 0..10 {
            prop_assert!(limit.admit(key(n), start).is_err(), "{} was forgotten", n);
        }
    }
}

#[test]
fn keys_that_tell_nothing_make_room() {
    let (memory, limit, start) = limit(&policy(1, Unit::Second, 1, Some(10)));
    for n in 0..1000 {
        // Each is whole again before the next comes, so the memory never holds more than a few.
        assert_eq!(limit.admit(key(n), start + Duration::from_secs(u64::from(n))), Ok(()));
        assert!(memory.keys() <= 2, "{}", memory.keys());
    }
    let later = start + Duration::from_secs(10_000);
    (0..10).for_each(|n| assert_eq!(limit.admit(key(5000 + n), later), Ok(())));
    assert_eq!((memory.keys(), memory.overflows()), (10, 0));
    assert_eq!(limit.admit(key(6000), later), Ok(()));
    assert_eq!(memory.overflows(), 1);
    assert_eq!(limit.admit(key(6001), later + Duration::from_secs(2)), Ok(()));
    assert_eq!(memory.overflows(), 1);
}

#[test]
fn a_request_counts_when_it_is_decided() {
    let (_memory, limit, start) = limit(&policy(1, Unit::Second, 2, Some(10)));
    let at = |n, secs| limit.admit(key(n), start + Duration::from_secs(secs));
    assert_eq!([at(1, 5), at(1, 5), at(2, 8)], [Ok(()); 3]);
    // The first key was whole again and made room for the second. Its next request has waited for a body
    // since 4, a moment at which there was less than a whole allowance.
    assert_eq!([at(1, 4), at(1, 8)], [Ok(()); 2]);
    assert_eq!(at(1, 8), Err(Duration::from_secs(1)));
    assert_eq!(at(1, 4), Err(Duration::from_secs(1)));
}

#[test]
fn many_at_one_instant_share_exactly_the_burst() {
    let (_memory, limit, now) = limit(&policy(1, Unit::Hour, 20, None));
    let (threads, each) = (8, 50);
    let barrier = Barrier::new(threads);
    let passed: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    (0..each).filter(|_| limit.admit(key(1), now).is_ok()).count()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(passed, 20);
}

#[test]
fn many_strangers_at_one_instant_fill_exactly_the_room_there_is() {
    let (memory, limit, now) = limit(&policy(1, Unit::Hour, 3, Some(100)));
    let (threads, each) = (8_u32, 50);
    let barrier = Barrier::new(threads as usize);
    let passed: usize = std::thread::scope(|scope| {
        let (limit, barrier) = (&limit, &barrier);
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    barrier.wait();
                    (0..each).filter(|n| limit.admit(key(thread * each + n), now).is_ok()).count()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!((passed, memory.keys(), memory.overflows()), (103, 100, 300));
}

#[test]
fn a_limit_that_says_the_same_goes_on_and_a_changed_one_begins() {
    let memory = RateMemory::default();
    let strict = config("{ per: [user, route], rate: 1/h, burst: 1 }");
    let before = memory.open(&strict);
    let now = Instant::now();
    assert_eq!(before.admit(key(1), now), Ok(()));
    let same = memory.open(&config("{ per: [route, user], rate: 1/h, burst: 1 }"));
    assert!(same.admit(key(1), now).is_err());
    for other in [
        "{ per: [user, route], rate: 1/h, burst: 2 }",
        "{ per: [user, route], rate: 2/h, burst: 1 }",
        "{ per: user, rate: 1/h, burst: 1 }",
        "{ per: [user, route], rate: 1/h, burst: 1, name: other }",
    ] {
        assert_eq!(memory.open(&config(other)).admit(key(1), now), Ok(()), "{other}");
    }
    assert_eq!(memory.keys(), 1, "what nobody holds any more is dropped");
    drop((before, same));
    assert_eq!(memory.keys(), 0);
    assert_eq!(memory.open(&strict).admit(key(1), now), Ok(()));
}

#[test]
fn limits_that_do_not_say_share_the_memory_evenly() {
    let memory = RateMemory::default();
    let named = |name: &str| config(&format!("{{ per: user, rate: 1/s, burst: 1, name: {name} }}"));
    let one = memory.open(&named("one"));
    assert_eq!(one.max_keys(), MAX_KEYS);
    let own = memory.open(&Config { max_keys: Some(7), ..named("own") });
    let other = memory.open(&named("other"));
    assert_eq!((one.max_keys(), other.max_keys(), own.max_keys()), (MAX_KEYS / 2, MAX_KEYS / 2, 7));
    drop(other);
    assert_eq!(one.max_keys(), MAX_KEYS);
}

#[tokio::test]
async fn above_the_limit_a_caller_is_told_when_to_come_back() {
    let yaml = "- verify_signature: {}\n- rate_limit: { per: user, rate: 1/m, burst: 2 }";
    let samples = ["u1", "u1", "u1", "rotated"].map(|user| signed_by(user, "/x", "{}"));
    let out = run_all(yaml, samples.into()).await;
    for passed in [0, 1, 3] {
        assert_eq!(out[passed].refused(), None, "{passed}");
    }
    assert_eq!(out[2].refused(), Some(Refused { status: 429, err_code: 20301, reason: "rate_limited" }));
    assert_eq!(out[2].cx.refused_by, Some("rate_limit"));
    let Err(Reject { hint: Hint::RetryAfter(wait), .. }) = &out[2].result else { panic!("no hint") };
    assert_eq!(wait.as_secs(), 59, "not a second has passed");
}

#[tokio::test]
async fn in_shadow_nobody_is_refused() {
    let yaml = "- rate_limit: { per: address, rate: 1/h, burst: 1 }\n  shadow: true";
    let out = run_all(yaml, vec![get("/x"), get("/x")]).await;
    assert_eq!((out[0].refused(), out[1].refused()), (None, None));
    assert_eq!((out[0].cx.shadowed.len(), out[1].cx.shadowed[0].cause), (0, Some(Cause::RateLimited)));
}

#[test]
fn what_counts_by_user_stands_below_who_proves_one() {
    for per in ["user", "session", "device", "[address, user]"] {
        let error = chain_error(&format!("- rate_limit: {{ per: {per}, rate: 1/s, burst: 1 }}"));
        assert_eq!(error, ChainError::Unwritten { index: 0, fact: Fact::User }, "{per}");
    }
    let first =
        chain("- rate_limit: { per: [route, address], rate: 90/m, burst: 9 }\n- verify_signature: {}");
    assert_eq!(first.filters()[0].filter.summary(), "lets through 90/m per address and route, 9 at once");
}

#[test]
fn rates_are_whole_numbers_per_unit() {
    for (text, nanos) in
        [("20/s", 50_000_000), ("1/h", 3_600_000_000_000), ("3/s", 333_333_334), ("1000000/s", 1000)]
    {
        assert_eq!(Rate::parse(text).map(Rate::interval), Some(nanos), "{text}");
        assert_eq!(Rate::parse(text).unwrap().to_string(), text);
    }
    for text in
        ["", "20", "20/", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "20/d", "20/sec", " 20/s", "1000001/s"]
    {
        assert_eq!(Rate::parse(text), None, "{text}");
    }
}

#[test]
fn a_limit_that_makes_no_sense_is_refused() {
    for (options, why) in [
        ("rate: 1/s, burst: 0", BadLimit::NoBurst),
        ("rate: 1/s, burst: 1, max_keys: 0", BadLimit::NoKeys),
        ("rate: 1/h, burst: 25", BadLimit::SlowRefill),
        ("rate: 1/h, burst: 4294967295", BadLimit::SlowRefill),
        ("rate: 1/s, burst: 1, when_store_is_away: refuse", BadLimit::NotShared),
        ("rate: 1/s, burst: 1, scope: node, when_store_is_away: local", BadLimit::NotShared),
    ] {
        let error = build_error(&format!("- rate_limit: {{ per: user, {options} }}"));
        assert_eq!(error, BuildError::Limit(why), "{options}");
    }
    for bad in ["{ per: user, rate: 1/s }", "{ rate: 1/s, burst: 1 }", "{ per: user, rate: 20, burst: 1 }"] {
        assert!(serde_saphyr::from_str::<Config>(bad).is_err(), "{bad}");
    }
}

/// A gateway of two or more on one store, with this in its YAML.
struct Node {
    limit: Arc<Limit>,
    shared: Shared,
    rates: RateMemory,
}

impl Node {
    fn on(memory: &Arc<Memory>, yaml: &str) -> Self {
        let config = config(&format!("{{ per: user, scope: shared, {yaml} }}"));
        assert_eq!(config.check(), Ok(()));
        let store = Store::memory(Arc::clone(memory), Keys::default(), CacheConfig::default());
        let rates = RateMemory::default();
        Self { limit: rates.open(&config), shared: Shared::new(&config, &store), rates }
    }

    async fn ask_at(&self, n: u32, now: Instant) -> Result<(), Cause> {
        self.shared.admit(&self.limit, key(n), now).await.map_err(|reject| reject.cause)
    }

    async fn ask(&self, n: u32) -> Result<(), Cause> {
        self.ask_at(n, Instant::now()).await
    }

    fn counts(&self) -> [u64; 4] {
        let SharedCounts { passed, refused, spared, away } = self.rates.shared();
        [passed, refused, spared, away]
    }
}

const LIMITED: Result<(), Cause> = Err(Cause::RateLimited);

#[tokio::test]
async fn nodes_share_one_allowance_and_a_flood_is_refused_without_asking() {
    let memory = Arc::new(Memory::new());
    let [a, b] =
        ["max_keys: 5", "max_keys: 9"].map(|own| Node::on(&memory, &format!("rate: 1/h, burst: 4, {own}")));
    for node in [&a, &a, &a, &b] {
        assert_eq!(node.ask(1).await, Ok(()));
    }
    // This node has let three of four through, so only the store can know.
    assert_eq!((a.ask(1).await, a.counts()), (LIMITED, [3, 1, 0, 0]));
    for _ in 0..100 {
        assert_eq!((a.ask(1).await, b.ask(1).await), (LIMITED, LIMITED));
    }
    assert_eq!((a.counts(), b.counts()), ([3, 1, 100, 0], [1, 0, 100, 0]));
    assert_eq!(b.ask(2).await, Ok(()), "it is somebody else");
}

#[tokio::test]
async fn other_policies_share_nothing() {
    let memory = Arc::new(Memory::new());
    assert_eq!(Node::on(&memory, "rate: 1/h, burst: 1").ask(1).await, Ok(()));
    for other in ["rate: 1/h, burst: 2", "rate: 2/h, burst: 1", "rate: 1/h, burst: 1, name: other"] {
        assert_eq!(Node::on(&memory, other).ask(1).await, Ok(()), "{other}");
    }
    assert_eq!(Node::on(&memory, "rate: 60/h, burst: 1, name: x").ask(1).await, Ok(()));
    assert_eq!(Node::on(&memory, "rate: 1/m, burst: 1, name: x").ask(1).await, LIMITED, "it is the same");
}

#[tokio::test]
async fn without_the_store_the_count_goes_on_from_what_is_known() {
    let memory = Arc::new(Memory::new());
    let node = Node::on(&memory, "rate: 1/h, burst: 4");
    let other = Node::on(&memory, "rate: 1/h, burst: 4");
    assert_eq!((other.ask(1).await, other.ask(1).await, node.ask(1).await), (Ok(()), Ok(()), Ok(())));
    memory.set_failure(Some(Unavailable::Down));
    assert_eq!((node.ask(1).await, node.ask(1).await), (Ok(()), LIMITED), "three were known to be gone");
    assert_eq!((other.ask(1).await, other.ask(1).await, other.ask(1).await), (Ok(()), Ok(()), LIMITED));
    assert_eq!((node.counts(), other.counts()), ([1, 0, 1, 1], [2, 0, 1, 2]));
    memory.set_failure(None);
    // What was let through meanwhile the store never heard of; here it is not forgotten.
    assert_eq!((node.ask(1).await, Node::on(&memory, "rate: 1/h, burst: 4").ask(1).await), (LIMITED, Ok(())));
}

#[tokio::test]
async fn what_happens_without_the_store_can_be_said() {
    for (away, expected) in [("refuse", Err(Cause::StoreUnavailable)), ("allow", Ok(()))] {
        let memory = Arc::new(Memory::new());
        let node = Node::on(&memory, &format!("rate: 1/h, burst: 2, when_store_is_away: {away}"));
        memory.set_failure(Some(Unavailable::Down));
        for _ in 0..5 {
            assert_eq!(node.ask(1).await, expected, "{away}");
        }
        memory.set_failure(None);
        assert_eq!([node.ask(1).await, node.ask(1).await, node.ask(1).await], [Ok(()), Ok(()), LIMITED]);
    }
}
