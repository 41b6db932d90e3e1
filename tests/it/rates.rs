//! Limits from outside: who is refused, with what, and what a reload leaves of it.

use openim_standin::{Options, Standin};

use crate::support::{Gateway, Person, RedisServer, Reply, Sent, Setup, eventually};

const FRIENDS: &str = "/friend/get_friend_list";

const RELOADED: &str = "configuration reloaded";

struct World {
    openim: Standin,
    _redis: RedisServer,
    gateway: Gateway,
    ann: Person,
    bob: Person,
}

/// A gateway that has this filter, in YAML, above or below the proof of who calls.
async fn world(above: &str, below: &str) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let bob = Person::new("bob", &redis, &openim).await;
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.chains = format!(
        "  limited:
    - operation_id: {{}}
{above}
    - verify_signature: {{}}
{below}
    - resolve_token: {{}}
    - strip_credentials: {{}}
    - inject_token: {{}}"
    );
    setup.routes =
        "  - { table: limited.yaml, at: /limited, upstream: openim_api, chain: limited }".to_owned();
    setup.files = vec![("limited.yaml".to_owned(), "post: [/friend/get_friend_list]\n".to_owned())];
    World { gateway: setup.start().await, openim, _redis: redis, ann, bob }
}

/// A request of theirs, on the limited route if `at` says so.
fn friends(who: &Person, at: &str) -> Sent {
    who.post(&format!("{at}{FRIENDS}"), &format!(r#"{{"userID":"{}"}}"#, who.user))
}

impl World {
    async fn ask(&self, who: &Person) -> Reply {
        self.gateway.send(&friends(who, "/limited")).await
    }

    async fn ask_elsewhere(&self, who: &Person) -> Reply {
        self.gateway.send(&friends(who, "")).await
    }

    async fn ask_unsigned(&self) -> Reply {
        self.gateway.send(&Sent::new("POST", &format!("/limited{FRIENDS}")).body(b"{}")).await
    }

    /// Changes the configuration, reloads it, and waits for the word that it was done.
    async fn reload(&self, from: &str, to: &str, message: &str) {
        let yaml = std::fs::read_to_string(self.gateway.config()).unwrap();
        assert_eq!(yaml.matches(from).count(), 1, "{from}");
        std::fs::write(self.gateway.config(), yaml.replace(from, to)).unwrap();
        let said = || self.gateway.stderr().matches(message).count();
        let before = said();
        self.gateway.signal("-HUP");
        eventually(message, async || said() > before).await;
    }
}

#[tokio::test]
async fn a_user_above_the_limit_is_told_when_to_come_back() {
    let w = world("", "    - rate_limit: { per: user, rate: 1/h, burst: 3 }").await;
    // Whoever only pretends to be somebody spends nothing of theirs.
    let forged = Sent { body: Some(b"{}".to_vec()), ..friends(&w.ann, "/limited") };
    for _ in 0..5 {
        assert_eq!(w.gateway.send(&forged).await.verdict(), (401, 20104));
    }
    for _ in 0..3 {
        assert_eq!(w.ask(&w.ann).await.verdict(), (200, 0));
    }
    let refused = friends(&w.ann, "/limited").header("operationID", "one-too-many");
    let reply = w.gateway.send(&refused).await;
    assert_eq!(reply.verdict(), (429, 20301));
    assert_eq!(reply.json()["errMsg"], "RateLimitedError");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    // It is the user who is limited: neither another one from the same address, nor another chain.
    assert_eq!(w.ask(&w.bob).await.verdict(), (200, 0));
    assert_eq!(w.ask_elsewhere(&w.ann).await.verdict(), (200, 0));
    assert_eq!(w.openim.records().len(), 5);

    let line = w.gateway.line("one-too-many").await;
    for (key, value) in [("filter", "rate_limit"), ("cause", "rate_limited"), ("reason", "rate_limited")] {
        assert_eq!(line[key], value, "{line}");
    }
    assert_eq!((&line["status"], &line["user"]), (&429.into(), &"ann".into()));
    for (metric, value) in [
        ("imgate_refusals_total{cause=\"rate_limited\"}", 1.0),
        ("imgate_rate_limit_keys", 2.0),
        ("imgate_rate_limit_overflows_total", 0.0),
    ] {
        assert_eq!(w.gateway.metric(metric).await, value, "{metric}");
    }
}

#[tokio::test]
async fn a_limit_by_address_spares_the_rest_of_the_chain() {
    let w = world("    - rate_limit: { per: [address, route], rate: 1/h, burst: 4 }", "").await;
    for _ in 0..3 {
        assert_eq!(w.ask_unsigned().await.verdict(), (401, 20101));
    }
    assert_eq!(w.ask(&w.ann).await.verdict(), (200, 0));
    for _ in 0..3 {
        assert_eq!(w.ask_unsigned().await.verdict(), (429, 20301));
    }
    // Everybody here calls from the same address.
    assert_eq!(w.ask(&w.bob).await.verdict(), (429, 20301));
    assert_eq!(w.ask_elsewhere(&w.bob).await.verdict(), (200, 0));
}

#[tokio::test]
async fn whoever_waits_is_let_through_again() {
    let w = world("", "    - rate_limit: { per: session, rate: 2/s, burst: 1 }").await;
    assert_eq!(w.ask(&w.ann).await.verdict(), (200, 0));
    let refused = w.ask(&w.ann).await;
    // A slow machine may take the half second that it takes to be whole again.
    assert!(refused.status == 200 || refused.header("retry-after") == Some("1"), "{}", refused.text());
    eventually("the allowance is whole again", async || w.ask(&w.ann).await.verdict() == (200, 0)).await;
}

#[tokio::test]
async fn strangers_share_one_allowance_where_a_limit_is_full() {
    let w = world("", "    - rate_limit: { per: user, rate: 1/h, burst: 2, max_keys: 1 }").await;
    let keys = async || w.gateway.metric("imgate_rate_limit_keys").await;
    assert_eq!(w.ask(&w.ann).await.verdict(), (200, 0));
    for verdict in [(200, 0), (200, 0), (429, 20301)] {
        assert_eq!(w.ask(&w.bob).await.verdict(), verdict);
    }
    assert_eq!((w.ask(&w.ann).await.verdict(), w.ask(&w.ann).await.verdict()), ((200, 0), (429, 20301)));
    assert_eq!((keys().await, w.gateway.metric("imgate_rate_limit_overflows_total").await), (1.0, 3.0));
}

#[tokio::test]
async fn a_reload_forgives_nobody_unless_the_limit_itself_changes() {
    let w = world("", "    - rate_limit: { per: user, rate: 1/h, burst: 2 }").await;
    let spend = async || [w.ask(&w.ann).await.status, w.ask(&w.ann).await.status, w.ask(&w.ann).await.status];
    assert_eq!(spend().await, [200, 200, 429]);
    let route = "routes:\n  - { prefix: /new/, upstream: openim_api, public: true }\n";
    w.reload("routes:\n", route, RELOADED).await;
    assert_eq!(w.ask(&w.ann).await.verdict(), (429, 20301));
    w.reload("burst: 2", "burst: two", "configuration refused").await;
    assert_eq!(w.ask(&w.ann).await.verdict(), (429, 20301));
    w.reload("burst: two", "burst: 3", RELOADED).await;
    assert_eq!(spend().await, [200, 200, 200]);
    assert_eq!(w.ask(&w.ann).await.verdict(), (429, 20301));
    eventually("the old limit is dropped", async || w.gateway.metric("imgate_rate_limit_keys").await == 1.0)
        .await;
}
