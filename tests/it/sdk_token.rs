//! Stock SDKs, which carry one string instead of signing: what is let in, and what ends their tries.

use std::time::Duration;

use imgate_identity::session::Ban;
use imgate_identity::session_token::{self, TokenKey};
use imgate_identity::time::UnixTime;
use imgate_identity::user::Platform;
use openim_standin::{Claims, Options, Standin, TokenState};

use crate::support::command::imgate_telling;
use crate::support::proxy::{Mode, Proxy, Role};
use crate::support::{Gateway, Person, RedisServer, Sent, Setup, eventually, leaks, writer};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann","pagination":{"pageNumber":1,"showNumber":10}}"#;
const HOUR: Duration = Duration::from_secs(3600);

/// The same route twice: below `/sdk` for session tokens, below `/held` for OpenIM's own.
const CHAINS: &str = "  sdk:
    - operation_id: {}
    - verify_session_token: {}
    - bind_identity: {}
    - resolve_token: {}
    - strip_credentials: {}
    - inject_token: {}
  held:
    - operation_id: {}
    - verify_openim_token: {}
    - bind_identity: {}
    - resolve_token: {}
    - strip_credentials: {}
    - inject_token: {}";

struct World {
    openim: Standin,
    redis: RedisServer,
    proxy: Proxy,
    gateway: Gateway,
    ann: Person,
}

async fn world() -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let proxy = Proxy::start(redis.address()).await;
    let mut setup =
        Setup::at(openim.api(), openim.ws(), proxy.url().trim_start_matches("redis://")).patient();
    setup.chains = CHAINS.to_owned();
    let table = format!("post:\n  - {FRIENDS}: {{ bind: userID, platforms: [Android, IOS] }}\n");
    setup.files.push(("sdk.yaml".to_owned(), table));
    setup.routes = ["sdk", "held"]
        .map(|at| format!("  - {{ table: sdk.yaml, at: /{at}, upstream: openim_api, chain: {at} }}"))
        .join("\n");
    let gateway = setup.start().await;
    World { openim, redis, proxy, gateway, ann }
}

/// A token that `person` makes, good for `life` from now.
fn token(person: &Person, life: Duration, platform: Platform) -> String {
    let key = TokenKey::derive(&person.record.secret);
    let token = session_token::mint(&key, &person.session, UnixTime::now().plus(life), platform);
    note(token.expose());
    token.expose().clone()
}

/// Nobody may find the token in a log, nor the part of it that matters.
fn note(token: &str) {
    leaks::secret(token);
    leaks::secret(token.rsplit_once('.').unwrap().1);
}

/// A good OpenIM token of Ann's that is not the one she has, though it may be of the same second.
fn newer_token(openim: &Standin) -> String {
    let exp = UnixTime::now().plus(HOUR).0;
    let claims = Claims { user_id: "ann".to_owned(), platform_id: 2, exp, iat: 1, nbf: None };
    let token = openim.forge(&claims);
    openim.assign(&token, TokenState::Normal);
    note(&token);
    token
}

/// What an SDK sends: a token, the operation, no signature.
fn call(at: &str, token: &str) -> Sent {
    let sent = Sent::new("POST", &format!("{at}{FRIENDS}")).header("token", token);
    sent.header("operationID", "op-sdk").header("Content-Type", "application/json").body(BODY.as_bytes())
}

impl World {
    async fn verdict(&self, at: &str, token: &str) -> (u16, i64) {
        self.gateway.send(&call(at, token)).await.verdict()
    }

    /// A session token of somebody, as the gateway sees it.
    async fn sdk(&self, person: &Person) -> (u16, i64) {
        let sent = call("/sdk", &token(person, HOUR, person.record.platform));
        let body = BODY.replace("ann", person.user.as_str());
        self.gateway.send(&sent.body(body.as_bytes())).await.verdict()
    }
}

#[tokio::test]
async fn a_stock_sdk_gets_openims_token_put_in() {
    let w = world().await;
    let shown = token(&w.ann, HOUR, w.ann.record.platform);
    let reply = w.gateway.send(&call("/sdk", &shown)).await;
    assert_eq!(reply.verdict(), (200, 0), "{}", reply.text());
    assert_eq!(reply.header("operationID"), Some("op-sdk"));

    let seen = w.openim.records().pop().unwrap();
    assert_eq!(seen.copies("token"), 1);
    assert_eq!(seen.header("token"), Some(w.ann.token.as_str()));
    assert_eq!(seen.body, BODY.as_bytes());
    let line = w.gateway.line("op-sdk").await;
    assert_eq!((&line["user"], &line["platform"]), (&"ann".into(), &"Android".into()));

    // What opens one door opens no other.
    assert_eq!(w.verdict("/held", &shown).await, (401, 1505));
    assert_eq!(w.verdict("", &shown).await, (401, 20101));
    assert_eq!(w.verdict("/sdk", &w.ann.token).await, (401, 1505));
}

#[tokio::test]
async fn every_verdict_on_a_session_token_ends_the_sdks_tries() {
    let w = world().await;
    let store = writer(&w.redis).await;
    let phone = w.ann.record.platform;
    let revoked = Person::new("rev", &w.redis, &w.openim).await;
    store.revoke_session(&revoked.session, UnixTime::now()).await.unwrap();
    let banned = Person::new("ban", &w.redis, &w.openim).await;
    store.put_ban(&banned.user, &Ban::new(UnixTime(0), "test")).await.unwrap();
    let stranger = Person::unknown("bob", &w.openim);
    let admin = Person::new("imAdmin", &w.redis, &w.openim).await;
    let tokenless = Person::new("tok", &w.redis, &w.openim).await;
    store.delete_token(&tokenless.user).await.unwrap();

    for (name, person, verdict) in [
        ("revoked", &revoked, (401, 1506)),
        ("banned", &banned, (401, 1506)),
        ("unknown", &stranger, (401, 1501)),
        ("without a token", &tokenless, (401, 1507)),
        ("an OpenIM admin", &admin, (403, 1002)),
    ] {
        assert_eq!(w.sdk(person).await, verdict, "{name}");
    }
    let good = token(&w.ann, HOUR, phone);
    let web = Platform::try_from(5).unwrap();
    for (name, shown, verdict) in [
        ("expired", token(&w.ann, Duration::ZERO, phone), (401, 1501)),
        ("lives too long", token(&w.ann, 25 * HOUR, phone), (401, 1505)),
        ("another platform", token(&w.ann, HOUR, web), (401, 1505)),
        ("another version", good.replacen("ig1", "ig2", 1), (401, 1505)),
        (
            "another session",
            good.replace(&w.ann.session.to_string(), &banned.session.to_string()),
            (401, 1505),
        ),
        ("a byte too many", format!("{good}A"), (401, 1505)),
        ("empty", String::new(), (401, 1505)),
    ] {
        assert_eq!(w.verdict("/sdk", &shown).await, verdict, "{name}");
    }
    let twice = call("/sdk", &good).header("Token", &good);
    assert_eq!(w.gateway.send(&twice).await.verdict(), (401, 20102));
    assert!(w.openim.records().is_empty());
    assert_eq!(w.verdict("/sdk", &good).await, (200, 0));
}

#[tokio::test]
async fn a_tokens_bearer_acts_for_nobody_else() {
    let w = world().await;
    let other = BODY.replace("ann", "bob");
    for (at, shown) in [("/sdk", token(&w.ann, HOUR, w.ann.record.platform)), ("/held", w.ann.token.clone())]
    {
        let reply = w.gateway.send(&call(at, &shown).body(other.as_bytes())).await;
        assert_eq!(reply.verdict(), (403, 1002), "{at}");
        assert!(w.openim.records().is_empty(), "{at}");
    }
}

#[tokio::test]
async fn a_route_takes_the_devices_it_names() {
    let w = world().await;
    let mut web = Person::unknown("web", &w.openim);
    web.record.platform = Platform::try_from(5).unwrap();
    web.token = w.openim.mint("web", 5);
    note(&web.token);
    let store = writer(&w.redis).await;
    store.put_session(&web.session, &web.record).await.unwrap();
    store.put_token(&web.user, &web.token).await.unwrap();
    assert_eq!(w.sdk(&web).await, (403, 1002));
    assert_eq!(w.verdict("/held", &web.token).await, (403, 1002));
}

#[tokio::test]
async fn a_session_token_ends_with_its_session() {
    let w = world().await;
    let shown = token(&w.ann, HOUR, w.ann.record.platform);
    assert_eq!(w.verdict("/sdk", &shown).await, (200, 0));
    writer(&w.redis).await.revoke_session(&w.ann.session, UnixTime::now()).await.unwrap();
    eventually("the token is refused", async || w.verdict("/sdk", &shown).await == (401, 1506)).await;
}

#[tokio::test]
async fn a_held_openim_token_is_good_while_it_is_the_stored_one() {
    let w = world().await;
    assert_eq!(w.verdict("/held", &w.ann.token).await, (200, 0));
    let seen = w.openim.records().pop().unwrap();
    assert_eq!(seen.header("token"), Some(w.ann.token.as_str()));

    let bob = w.openim.mint("bob", 2);
    note(&bob);
    assert_eq!(w.verdict("/held", &bob).await, (401, 1507));

    let store = writer(&w.redis).await;
    store.delete_token(&w.ann.user).await.unwrap();
    let old = w.ann.token.clone();
    eventually("the token is refused", async || w.verdict("/held", &old).await == (401, 1507)).await;
}

#[tokio::test]
async fn a_token_that_just_replaced_another_is_taken_at_once() {
    let w = world().await;
    assert_eq!(w.verdict("/held", &w.ann.token).await, (200, 0));
    // From here on the gateway is told of no change, and goes on for a while with what it has.
    w.proxy.set(Role::Tracking, Mode::Hold);
    let new = newer_token(&w.openim);
    writer(&w.redis).await.put_token(&w.ann.user, &new).await.unwrap();
    assert_eq!(w.verdict("/held", &new).await, (200, 0));
    assert_eq!(w.verdict("/held", &w.ann.token).await, (401, 1505));
}

#[tokio::test]
async fn a_store_that_is_away_is_no_verdict_on_a_token() {
    let w = world().await;
    w.proxy.set(Role::Commands, Mode::Cut);
    w.proxy.set(Role::Tracking, Mode::Cut);
    let shown = token(&w.ann, HOUR, w.ann.record.platform);
    eventually("the store is away", async || w.verdict("/sdk", &shown).await == (503, 20401)).await;
    assert_eq!(w.verdict("/held", &w.ann.token).await, (503, 20401));
}

#[tokio::test]
async fn the_command_line_makes_a_token_that_is_let_in() {
    let w = world().await;
    let dir = w.gateway.config().parent().unwrap().to_owned();
    std::fs::write(dir.join("secret"), w.ann.secret().expose()).unwrap();
    let session = w.ann.session.to_string();
    let ran = tokio::task::spawn_blocking(move || {
        let arguments = ["--session", &session, "--secret-file", "secret", "--platform", "android"];
        imgate_telling(&dir, &[&["session", "token"], &arguments[..]].concat())
    });
    let shown = ran.await.unwrap().ok();
    note(shown.trim());
    assert_eq!(w.verdict("/sdk", shown.trim()).await, (200, 0));
}
