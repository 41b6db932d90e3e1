//! Limits that gateways share, a login storm, and more requests than there is time for.

mod shed;
mod storm;

use std::path::Path;

use openim_standin::{Options, Standin};

use crate::support::{Gateway, RedisServer, Sent, Setup, eventually};

/// Gateways on one Redis, with a route of which callers from one address may use so much together.
struct World {
    redis: RedisServer,
    gateways: Vec<Gateway>,
    _openim: Standin,
}

impl World {
    async fn new(gateways: usize, limit: &str) -> Self {
        let openim = Standin::start(Options::default()).await.unwrap();
        let mut w = Self { redis: RedisServer::start(), gateways: Vec::new(), _openim: openim };
        for _ in 0..gateways {
            w.add(limit).await;
        }
        w
    }

    /// Starts another gateway with this limit.
    async fn add(&mut self, limit: &str) {
        let mut setup = Setup::new(&self._openim, &self.redis).patient();
        setup.chains = format!(
            "  limited:
    - rate_limit: {{ per: address, scope: shared, {limit} }}
    - respond: {{ status: 200, errCode: 0 }}"
        );
        setup.routes =
            "  - { path: /limited, upstream: openim_api, chain: limited, public: true }".to_owned();
        let gateway = setup.start().await;
        let up = async || gateway.metric("imgate_store_up").await == 1.0;
        eventually("Redis is reached", up).await;
        self.gateways.push(gateway);
    }

    async fn ask(&self, gateway: usize) -> (u16, i64) {
        self.gateways[gateway].send(&Sent::new("GET", "/limited")).await.verdict()
    }

    async fn count(&self, gateway: usize, result: &str) -> f64 {
        let metric = format!("imgate_rate_limit_shared_total{{result=\"{result}\"}}");
        self.gateways[gateway].metric(&metric).await
    }

    /// Waits until this gateway knows that Redis is gone, and costs nobody a deadline any more.
    async fn without_redis(&mut self) {
        self.redis.kill();
        for gateway in &self.gateways {
            let down = async || gateway.metric("imgate_store_up").await == 0.0;
            eventually("the loss is noticed", down).await;
        }
    }
}

const PASSED: (u16, i64) = (200, 0);
const LIMITED: (u16, i64) = (429, 20301);

#[tokio::test]
async fn two_gateways_share_one_allowance_to_the_last_request() {
    let w = World::new(2, "rate: 1/h, burst: 6").await;
    let mut passed = 0;
    for n in 0..30 {
        match w.ask(n % 2).await {
            PASSED => passed += 1,
            other => assert_eq!(other, LIMITED),
        }
    }
    assert_eq!(passed, 6);
    let (mut asked, mut spared) = (0.0, 0.0);
    for gateway in 0..2 {
        asked += w.count(gateway, "passed").await + w.count(gateway, "refused").await;
        spared += w.count(gateway, "spared").await;
        assert_eq!(w.count(gateway, "away").await, 0.0);
    }
    assert!(asked <= 8.0 && asked + spared == 30.0, "Redis was asked {asked} times");
    let reply = w.gateways[1].send(&Sent::new("GET", "/limited")).await;
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_changed_policy_begins_anew_and_the_old_one_goes_on_elsewhere() {
    let mut w = World::new(2, "rate: 1/h, burst: 2").await;
    for (gateway, expected) in [(0, PASSED), (1, PASSED), (0, LIMITED), (1, LIMITED)] {
        assert_eq!(w.ask(gateway).await, expected);
    }
    change(&w.gateways[0], "burst: 2", "burst: 3").await;
    for expected in [PASSED, PASSED, PASSED, LIMITED] {
        assert_eq!(w.ask(0).await, expected);
    }
    assert_eq!(w.ask(1).await, LIMITED);
    // A gateway that starts with either policy finds what is left of it.
    w.add("rate: 1/h, burst: 3").await;
    w.add("rate: 1/h, burst: 2").await;
    assert_eq!((w.ask(2).await, w.ask(3).await), (LIMITED, LIMITED));
}

/// Changes the configuration, reloads it, and waits for the word that it was done.
async fn change(gateway: &Gateway, from: &str, to: &str) {
    let path: &Path = &gateway.config();
    let yaml = std::fs::read_to_string(path).unwrap();
    assert_eq!(yaml.matches(from).count(), 1, "{from}");
    std::fs::write(path, yaml.replace(from, to)).unwrap();
    gateway.signal("-HUP");
    eventually("it is reloaded", async || gateway.stderr().contains("configuration reloaded")).await;
}

#[tokio::test]
async fn without_redis_each_gateway_counts_on_from_what_it_knows() {
    let mut w = World::new(2, "rate: 1/h, burst: 4").await;
    for gateway in [0, 0, 0, 1] {
        assert_eq!(w.ask(gateway).await, PASSED);
    }
    w.without_redis().await;
    // The first knows of three, the second of all four: what the other did after it asked last, none knows.
    for expected in [PASSED, LIMITED, LIMITED] {
        assert_eq!(w.ask(0).await, expected);
    }
    assert_eq!(w.ask(1).await, LIMITED);
    assert_eq!((w.count(0, "away").await, w.count(1, "away").await), (1.0, 0.0));

    // Redis is empty when it is back, so by its word all may be had once more; here nothing is forgotten.
    w.redis.restart();
    for gateway in &w.gateways {
        eventually("Redis is back", async || gateway.metric("imgate_store_up").await == 1.0).await;
    }
    assert_eq!((w.ask(0).await, w.ask(1).await), (LIMITED, LIMITED));
}

#[tokio::test]
async fn what_happens_without_redis_is_what_was_said_and_is_logged_once() {
    for (away, expected) in [("refuse", (503, 20401)), ("allow", PASSED)] {
        let limit = format!("rate: 1/h, burst: 3, when_store_is_away: {away}");
        let mut w = World::new(1, &limit).await;
        assert_eq!(w.ask(0).await, PASSED);
        w.without_redis().await;
        for _ in 0..10 {
            assert_eq!(w.ask(0).await, expected, "{away}");
        }
        assert_eq!(w.count(0, "away").await, 10.0);
        let logged = w.gateways[0].stderr().matches("shared rate limits cannot be counted").count();
        assert_eq!(logged, 1, "{}", w.gateways[0].stderr());
        w.redis.restart();
        let gateway = &w.gateways[0];
        eventually("Redis is back", async || gateway.metric("imgate_store_up").await == 1.0).await;
        // What passed meanwhile is not held against anybody, and what is known from before is not forgotten:
        // at most two are left.
        let mut passed = 0;
        while w.ask(0).await == PASSED {
            passed += 1;
        }
        assert!((1..=3).contains(&passed), "{passed}");
    }
}
