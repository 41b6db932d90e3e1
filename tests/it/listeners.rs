//! Listeners with routes of their own: users on one, administrators on the other, one process.

use std::net::SocketAddr;

use imgate_identity::user::UserId;
use openim_standin::{Options, Standin};
use serde_json::json;

use crate::admin_rest::{jwks, jwt};
use crate::support::command::imgate;
use crate::support::{Client, Gateway, Person, RedisServer, Reply, Sent, Setup, eventually, leaks, writer};

/// A path that users and administrators call alike.
const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

/// Whose pages may read what administrators get.
const CONSOLE: &str = "https://console.example.com";

struct World {
    gateway: Gateway,
    public: SocketAddr,
    admin: SocketAddr,
    ann: Person,
    yaml: String,
    _openim: Standin,
    _redis: RedisServer,
}

fn setup(openim: &Standin, redis: &RedisServer) -> Setup {
    let mut setup = Setup::new(openim, redis).patient();
    setup.listeners =
        r#"{ name: public, address: "127.0.0.1:0" }, { name: admin, address: "127.0.0.2:0" }"#.to_owned();
    setup.users = ", listeners: [public]".to_owned();
    setup.files.push(("admins.jwks".to_owned(), jwks(&[0])));
    setup.chains = format!(
        "  admin:
    - operation_id: {{}}
    - cors: {{ allow_origins: [\"{CONSOLE}\"] }}
    - verify_jwt: {{ jwks_file: admins.jwks, issuer: \"https://id.example.com\", audience: imgate-admin }}
    - resolve_token: {{ of: imAdmin }}
    - strip_credentials: {{}}
    - inject_token: {{}}"
    );
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/openim-admin.yaml");
    setup.routes =
        format!("  - {{ table: {table}, upstream: openim_api, chain: admin, listeners: [admin] }}");
    setup
}

async fn world() -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let token = openim.mint_admin("imAdmin");
    leaks::secret(&token);
    writer(&redis).await.put_admin_token(&UserId::parse("imAdmin").unwrap(), &token).await.unwrap();
    let setup = setup(&openim, &redis);
    let yaml = setup.yaml();
    let gateway = setup.start().await;
    let listening = gateway.listening();
    let [public, admin] = listening[..] else { panic!("{listening:?}") };
    World { gateway, public, admin, ann, yaml, _openim: openim, _redis: redis }
}

impl World {
    async fn reload_with(&self, yaml: &str) {
        let reloads = "imgate_config_reloads_total{result=\"ok\"}";
        let before = self.gateway.metric(reloads).await;
        std::fs::write(self.gateway.config(), yaml).unwrap();
        self.gateway.signal("-HUP");
        eventually("the reload is done", async || self.gateway.metric(reloads).await > before).await;
    }

    /// What the user gets, and what the administrator gets.
    async fn verdicts(&self, listener: SocketAddr) -> [(u16, i64); 2] {
        let user = send(listener, &self.ann.post(FRIENDS, BODY)).await;
        let admin = send(listener, &by_admin(FRIENDS, BODY)).await;
        [user.verdict(), admin.verdict()]
    }
}

async fn send(listener: SocketAddr, sent: &Sent) -> Reply {
    let reply = Client::once(listener, sent).await;
    leaks::none_in("an answer", &reply.text());
    reply
}

fn by_admin(path: &str, body: &str) -> Sent {
    let sent = Sent::new("POST", path).header("Authorization", &format!("Bearer {}", jwt(0, &json!({}))));
    sent.header("Content-Type", "application/json").body(body.as_bytes())
}

/// What each gets where users' routes are, and where administrators' are.
const USERS: [(u16, i64); 2] = [(200, 0), (401, 20101)];
const ADMINS: [(u16, i64); 2] = [(401, 20101), (200, 0)];

#[tokio::test]
async fn a_table_is_on_its_own_listener_alone() {
    let w = world().await;
    assert_eq!((w.verdicts(w.public).await, w.verdicts(w.admin).await), (USERS, ADMINS));
    // The same host and the same path, and nothing says that there is something elsewhere.
    let check = by_admin("/user/account_check", r#"{"checkUserIDs":["ann"]}"#);
    assert_eq!(send(w.admin, &check).await.verdict(), (200, 0));
    assert_eq!(send(w.public, &check).await.verdict(), (404, 20201));
    let of_users = w.ann.post("/friend/get_full_friend_user_ids", BODY);
    assert_eq!(send(w.admin, &of_users).await.verdict(), (404, 20201));
    assert_ne!(send(w.public, &of_users).await.verdict(), (404, 20201));
    // A route that names no listener is on both.
    for listener in [w.public, w.admin] {
        let object = send(listener, &Sent::new("POST", "/object/x")).await;
        assert_eq!((object.status, object.header("allow")), (405, Some("GET, HEAD")));
    }
}

#[tokio::test]
async fn a_preflight_is_answered_by_the_policy_of_its_own_listener() {
    let w = world().await;
    let preflight = Sent::new("OPTIONS", FRIENDS)
        .header("Origin", CONSOLE)
        .header("Access-Control-Request-Method", "POST");
    for (listener, allowed) in [(w.public, "*"), (w.admin, CONSOLE)] {
        let reply = send(listener, &preflight).await;
        assert_eq!(reply.header("access-control-allow-origin"), Some(allowed));
    }
}

#[tokio::test]
async fn a_reload_keeps_listeners_apart_and_may_name_them_anew() {
    let w = world().await;
    w.reload_with(&w.yaml).await;
    assert_eq!((w.verdicts(w.public).await, w.verdicts(w.admin).await), (USERS, ADMINS));

    // Names belong to addresses.
    let swapped = w
        .yaml
        .replace("name: public", "name: other")
        .replace("name: admin", "name: public")
        .replace("name: other", "name: admin");
    w.reload_with(&swapped).await;
    assert_eq!((w.verdicts(w.public).await, w.verdicts(w.admin).await), (ADMINS, USERS));

    // A listener that is not in the file any more is not the one that has its name now.
    w.reload_with(&w.yaml.replace("127.0.0.2:0", "127.0.0.3:0")).await;
    assert!(w.gateway.stderr().contains("\"what\":\"listeners\""));
    assert_eq!((w.verdicts(w.public).await, w.verdicts(w.admin).await), (USERS, [(404, 20201); 2]));
    assert_eq!(send(w.admin, &Sent::new("POST", "/object/x")).await.status, 405);

    w.reload_with(&w.yaml).await;
    assert_eq!((w.verdicts(w.public).await, w.verdicts(w.admin).await), (USERS, ADMINS));
}

#[tokio::test]
async fn operators_see_what_is_on_which_listener() {
    let nobody = "127.0.0.1:9".parse().unwrap();
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { store: "memory: {}".to_owned(), api: vec![nobody], ..setup(&openim, &redis) };
    std::fs::write(dir.path().join("imgate.yaml"), setup.yaml()).unwrap();
    std::fs::write(dir.path().join("admins.jwks"), jwks(&[0])).unwrap();
    let explain = |more: &[&str]| {
        let arguments = ["explain", "-c", "imgate.yaml"];
        imgate(dir.path(), &[&arguments[..], more, &["POST", FRIENDS]].concat())
    };
    for (more, listener, chain) in [
        (&[][..], "public", "user"),
        (&["--listener", "public"], "public", "user"),
        (&["--listener", "admin"], "admin", "admin"),
    ] {
        let said = explain(more).ok();
        assert!(said.starts_with(&format!("POST {FRIENDS} on listener {listener}\n")), "{said}");
        assert!(said.contains(&format!("  chain     {chain}\n")), "{said}");
    }
    let unknown = explain(&["--listener", "admn"]);
    assert_eq!(unknown.code, 64);
    assert!(unknown.stderr.contains("no listener named `admn`\nhint: did you mean `admin`?"));

    let list =
        |more: &[&str]| imgate(dir.path(), &[&["routes", "list", "-c", "imgate.yaml"], more].concat()).ok();
    let text = list(&["--host", "im.example.com"]);
    for heading in [
        "chain admin, to openim_api, listener admin: callers are proven",
        "chain user, to openim_api, listener public: callers are proven",
        "no chain, to openim_api: public: anybody may call it",
    ] {
        assert!(text.contains(heading), "{heading} in {text}");
    }
    let routes: Vec<serde_json::Value> = serde_json::from_str(&list(&["--format", "json"])).unwrap();
    let listeners = |path: &str| -> Vec<_> {
        routes.iter().filter(|route| route["path"] == path).map(|route| route["listeners"].clone()).collect()
    };
    assert_eq!(listeners(FRIENDS), [json!(["admin"]), json!(["public"])]);
    assert_eq!(listeners("/object/*"), [serde_json::Value::Null]);
}
