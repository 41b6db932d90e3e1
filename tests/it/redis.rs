//! The gateway and its Redis: what is cached, what is noticed, and what nobody is ever told by mistake.
//!
//! The upstream answers with the end of the token it was asked with, so that it shows which token the
//! gateway used. Redis is reached through a proxy that can spoil either of the gateway's two links.

mod outages;
mod races;
mod servers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use imgate_identity::seal::Seals;
use openim_standin::{Claims, Options, Standin};
use redis::aio::MultiplexedConnection;

use crate::support::proxy::{Mode, Proxy, Role};
use crate::support::{
    Act, Client, Gateway, Person, RedisServer, Reply, Setup, Upstream, leaks, ok, within, writer,
};

/// A path whose body names nobody.
const PATH: &str = "/group/get_groups_info";

/// What a busy machine may add to any bound.
const SLACK: Duration = Duration::from_millis(1500);

/// How long a change that Redis announces may take to be seen by requests.
const SOON: Duration = SLACK;

/// How long the gateway waits for Redis.
const TIMEOUT: Duration = Duration::from_millis(200);

/// The answer of a gateway that does not know.
const UNKNOWN: (u16, i64) = (503, 20401);

struct World {
    ann: Person,
    gateway: Gateway,
    /// The test's own connection to Redis, if it was there at the start.
    redis: MultiplexedConnection,
    server: RedisServer,
    proxy: Proxy,
    openim: Standin,
    _upstream: Upstream,
}

/// A gateway that has met Ann, and knows her without a look into Redis.
async fn world(cache: &str) -> World {
    world_with(cache, |_| {}).await
}

async fn world_with(cache: &str, change: impl FnOnce(&mut Setup)) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let server = RedisServer::start();
    let ann = Person::new("ann", &server, &openim).await;
    let proxy = Proxy::start(server.address()).await;
    let upstream = telling().await;
    let mut setup = setup(&upstream, &proxy, cache);
    change(&mut setup);
    let gateway = setup.start().await;
    let redis = connect(&server).await;
    let w = World { ann, gateway, redis, server, proxy, openim, _upstream: upstream };
    w.is_cached(&w.ann).await;
    w
}

/// An upstream that tells the end of the token it was asked with.
async fn telling() -> Upstream {
    Upstream::start(|got| async move {
        let token = tail(got.header("token").unwrap_or("none at all, it seems"));
        let data = format!(r#"{{"errCode":0,"errMsg":"","errDlt":"","data":"{token}"}}"#);
        vec![Act::Send(ok(&data))]
    })
    .await
}

fn setup(upstream: &Upstream, proxy: &Proxy, cache: &str) -> Setup {
    let redis = proxy.url();
    let redis = redis.strip_prefix("redis://").unwrap();
    let mut setup = Setup::at(upstream.address, upstream.address, redis);
    setup.cache = cache.to_owned();
    setup
}

/// The end of a token's signature, which no other token shares.
fn tail(token: &str) -> &str {
    &token[token.len() - 16..]
}

async fn connect(server: &RedisServer) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
    client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
}

async fn run(redis: &mut MultiplexedConnection, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec_async(redis).await.unwrap();
}

/// Another good token of this user.
fn token(openim: &Standin, user: &str, serial: u64) -> String {
    let claims = Claims {
        user_id: user.to_owned(),
        platform_id: 2,
        exp: 4_000_000_000,
        iat: 1_000_000 + serial,
        nbf: None,
    };
    let token = openim.forge(&claims);
    leaks::secret(&token);
    token
}

async fn ask(gateway: &Gateway, who: &Person) -> Reply {
    Client::once(gateway.address, &who.post(PATH, "{}")).await
}

/// The end of the token a good answer was got with.
fn used(reply: &Reply) -> Option<String> {
    (reply.verdict() == (200, 0)).then(|| reply.json()["data"].as_str().unwrap().to_owned())
}

impl World {
    async fn ask(&self, who: &Person) -> Reply {
        ask(&self.gateway, who).await
    }

    async fn verdict(&self, who: &Person) -> (u16, i64) {
        self.ask(who).await.verdict()
    }

    /// Somebody in the store whom the gateway has not met.
    async fn stranger(&self, user: &str) -> Person {
        Person::new(user, &self.server, &self.openim).await
    }

    async fn set(&mut self, user: &str, token: &str) {
        run(&mut self.redis, &["SET", &format!("im:token:{user}"), token]).await;
    }

    async fn del(&mut self, user: &str) {
        run(&mut self.redis, &["DEL", &format!("im:token:{user}")]).await;
    }

    /// Waits until requests of `who` are answered like this.
    async fn becomes(&self, patience: Duration, who: &Person, verdict: (u16, i64)) {
        let what = format!("{} gets {verdict:?}", who.user);
        within(patience, &what, async || self.verdict(who).await == verdict).await;
    }

    /// Waits until requests of `who` are served without a look into Redis. What was written a moment ago may
    /// be announced after it was read, and is read again then.
    async fn is_cached(&self, who: &Person) {
        let misses = async || self.gateway.metric("imgate_store_events_total{event=\"miss\"}").await;
        let what = format!("{} is cached", who.user);
        let cached = async || {
            let before = misses().await;
            self.verdict(who).await == (200, 0) && misses().await == before
        };
        within(SOON, &what, cached).await;
    }

    /// Waits until requests of `who` carry this token; says since when they do.
    async fn carries(&self, patience: Duration, who: &Person, token: &str) -> Instant {
        let what = format!("the new token of {} is used", who.user);
        let carried = async || used(&self.ask(who).await).as_deref() == Some(tail(token));
        within(patience, &what, carried).await;
        Instant::now()
    }

    /// Asks as somebody the gateway has to ask Redis about: the gateway does not know, and says so in time.
    async fn is_unknown_in_time(&self, who: &Person) {
        let asked = Instant::now();
        assert_eq!(self.verdict(who).await, UNKNOWN);
        assert!(asked.elapsed() < TIMEOUT + SLACK, "{:?}", asked.elapsed());
    }

    /// How often Redis ran each command so far, but for those that only prove a link.
    async fn calls(&mut self) -> BTreeMap<String, String> {
        let asked = redis::cmd("INFO").arg("commandstats").query_async(&mut self.redis).await;
        let info: String = asked.unwrap();
        let calls = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
        let calls = calls.map(|(name, rest)| (name, rest.split(',').next().unwrap_or("")));
        let counted = calls.filter(|(name, _)| !["ping", "info"].contains(name));
        counted.map(|(name, calls)| (name.to_owned(), calls.to_owned())).collect()
    }
}

#[tokio::test]
async fn a_cached_caller_costs_redis_nothing() {
    let mut w = world("ttl: 60s, stale_grace: 10s").await;
    assert_eq!(w.verdict(&w.ann).await, (200, 0));
    // On a busy machine a link may be taken for lost and made anew, which takes commands, too.
    for tried in 1.. {
        let before = w.calls().await;
        for _ in 0..100 {
            assert_eq!(w.verdict(&w.ann).await, (200, 0));
        }
        let after = w.calls().await;
        if before == after {
            break;
        }
        assert!(tried < 5, "{before:?}\n{after:?}");
    }
}

#[tokio::test]
async fn what_others_write_is_seen_at_once() {
    let mut w = world("ttl: 60s, stale_grace: 10s").await;
    for serial in 0..10 {
        w.del("ann").await;
        w.becomes(SOON, &w.ann, (401, 1507)).await;
        assert_eq!(w.verdict(&w.ann).await, (401, 1507), "what is gone stays gone");
        for step in 0..2 {
            let new = token(&w.openim, "ann", serial * 2 + step);
            w.set("ann", &new).await;
            w.carries(SOON, &w.ann, &new).await;
            assert_eq!(used(&w.ask(&w.ann).await).as_deref(), Some(tail(&new)), "what is new stays");
        }
    }
}

#[tokio::test]
async fn a_broken_record_is_nobodys_fault_but_is_counted() {
    let mut w = world("ttl: 60s, stale_grace: 10s").await;
    let session = format!("imgate:session:{}", w.ann.session);
    let good = w.ann.record.write(&w.ann.session, &Seals::Off).unwrap().expose().clone();
    let foreign = token(&w.openim, "bob", 1);
    let other = w.ann.token.replacen('.', "\r\ntoken: x.", 1);
    let large = "x".repeat(64 * 1024);
    let unknown_v = good.replacen("\"v\":1", "\"v\":2", 1);
    assert_ne!(unknown_v, good);
    let short_key = good.replacen("\"secret\":\"", "\"secret\":\"AAAA", 1);
    let (kept, ban) = ("im:token:ann", "imgate:ban:ann");
    let cases: [(&str, &[&str]); 14] = [
        ("a record that is no JSON", &["SET", &session, "{"]),
        ("an empty record", &["SET", &session, ""]),
        ("a record of an unknown version", &["SET", &session, &unknown_v]),
        ("a key of another length", &["SET", &session, &short_key]),
        ("a record of another type", &["LPUSH", &session, "x"]),
        ("another user's token", &["SET", kept, &foreign]),
        ("an empty token", &["SET", kept, ""]),
        ("a token that is none", &["SET", kept, "x"]),
        ("a token with another header in it", &["SET", kept, &other]),
        ("a token without end", &["SET", kept, &large]),
        ("a token of another type", &["LPUSH", kept, "x"]),
        ("a token for no platform", &["HSET", kept, "x", &w.ann.token.clone()]),
        ("a ban that is no JSON", &["SET", ban, "{"]),
        ("a ban of another type", &["LPUSH", ban, "x"]),
    ];
    for (what, command) in cases {
        let broken = "imgate_store_failures_total{cause=\"broken\"}";
        let before = w.gateway.metric(broken).await;
        run(&mut w.redis, &["DEL", command[1]]).await;
        run(&mut w.redis, command).await;
        within(SOON, what, async || w.verdict(&w.ann).await == UNKNOWN).await;
        assert_eq!(w.verdict(&w.ann).await, UNKNOWN, "{what}");
        assert!(w.gateway.metric(broken).await >= before + 2.0, "{what} is not counted");
        for command in [&["DEL", command[1]][..], &["SET", &session, &good], &["SET", kept, &w.ann.token]] {
            run(&mut w.redis, command).await;
        }
        within(SOON, what, async || w.verdict(&w.ann).await == (200, 0)).await;
    }
}

#[tokio::test]
async fn a_gateway_without_redis_starts_and_is_ready_when_redis_comes() {
    let openim = Standin::start(Options::default()).await.unwrap();
    let mut server = RedisServer::start();
    let upstream = telling().await;
    let ann = Person::unknown("ann", &openim);
    server.kill();
    let gateway = Setup::at(upstream.address, upstream.address, &server.address()).start().await;
    for _ in 0..20 {
        assert_eq!(gateway.admin_get("/readyz").await.status, 503);
        assert_eq!(ask(&gateway, &ann).await.verdict(), UNKNOWN);
    }
    assert_eq!(gateway.admin_get("/healthz").await.status, 200);

    server.restart();
    let store = writer(&server).await;
    store.put_session(&ann.session, &ann.record).await.unwrap();
    store.put_token(&ann.user, &ann.token).await.unwrap();
    let reached = async || gateway.metric("imgate_store_up").await == 1.0;
    within(Duration::from_secs(10), "Redis is reached", reached).await;
    // It is reached, but nobody has said that it is the right one. The gateway looks every second.
    let reached = Instant::now();
    while reached.elapsed() < Duration::from_millis(1300) {
        assert_eq!(ask(&gateway, &ann).await.verdict(), UNKNOWN);
        assert_eq!(gateway.admin_get("/readyz").await.status, 503);
    }
    store.put_mark().await.unwrap();
    let ready = async || gateway.admin_get("/readyz").await.status == 200;
    within(Duration::from_secs(10), "the gateway is ready", ready).await;
    assert_eq!(ask(&gateway, &ann).await.verdict(), (200, 0));
}

#[tokio::test]
async fn replays_that_cannot_be_told_are_refused_without_blame() {
    let w = world_with("ttl: 60s, stale_grace: 60s", |s| s.verify = "replay: redis".to_owned()).await;
    let sent = w.ann.post(PATH, "{}");
    assert_eq!(w.gateway.send(&sent).await.verdict(), (200, 0));
    assert_eq!(w.gateway.send(&sent).await.verdict(), (401, 20105));
    w.proxy.set(Role::Commands, Mode::Cut);
    within(SOON, "Redis is out of reach", async || w.verdict(&w.ann).await == UNKNOWN).await;
    for _ in 0..20 {
        w.is_unknown_in_time(&w.ann).await;
        assert_eq!(w.gateway.send(&sent).await.verdict(), UNKNOWN, "not even a replay passes or is told");
    }
    w.proxy.set(Role::Commands, Mode::Pass);
    w.becomes(Duration::from_secs(3) + SLACK, &w.ann, (200, 0)).await;
    assert_eq!(w.gateway.send(&sent).await.verdict(), (401, 20105));
}
