//! An admin's JWT in, the OpenIM admin's token out; and what is refused on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use imgate_identity::time::UnixTime;
use imgate_identity::user::UserId;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use openim_standin::{Options, Standin};
use serde_json::{Value, json};

use crate::support::{
    Act, Gateway, Person, RedisServer, Sent, Setup, Upstream, eventually, leaks, ok, within, writer,
};

/// A key made up for tests, and another.
const KEYS: [&str; 2] = [
    "MC4CAQAwBQYDK2VwBCIEIGRlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AgYKD",
    "MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
];

fn key(index: usize) -> EncodingKey {
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", KEYS[index]);
    EncodingKey::from_ed_pem(pem.as_bytes()).unwrap()
}

/// The JWKS of these keys; their names are their places.
pub(crate) fn jwks(indexes: &[usize]) -> String {
    let public = |index: &usize| {
        let mut jwk = Jwk::from_encoding_key(&key(*index), Algorithm::EdDSA).unwrap();
        jwk.common.key_id = Some(index.to_string());
        jwk
    };
    json!({ "keys": indexes.iter().map(public).collect::<Vec<_>>() }).to_string()
}

/// A token of the issuer that tests trust, signed with this key.
pub(crate) fn jwt(index: usize, changes: &Value) -> String {
    let now = UnixTime::now().0;
    let mut claims = json!({
        "iss": "https://id.example.com", "aud": "imgate-admin", "sub": "alice@example.com",
        "roles": ["im-admin"], "iat": now, "exp": now + 600,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(index.to_string());
    let token = encode(&header, &claims, &key(index)).unwrap();
    leaks::secret(&token);
    token
}

const CHECK: &str = "/user/account_check";
const BODY: &str = r#"{"checkUserIDs":["ann"]}"#;

fn post(token: &str) -> Sent {
    let sent = Sent::new("POST", CHECK).header("Authorization", &format!("Bearer {token}"));
    sent.header("Content-Type", "application/json").body(BODY.as_bytes())
}

struct World {
    openim: Standin,
    gateway: Gateway,
    token: String,
    ann: Person,
    _redis: RedisServer,
}

/// A gateway whose admins' keys come from where `keys` says.
async fn world(keys: &str) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let token = openim.mint_admin("imAdmin");
    leaks::secret(&token);
    writer(&redis).await.put_admin_token(&UserId::parse("imAdmin").unwrap(), &token).await.unwrap();
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.files.push(("admins.jwks".to_owned(), jwks(&[0])));
    setup.chains = format!(
        "  admin:
    - operation_id: {{}}
    - verify_jwt: {{ {keys}, issuer: \"https://id.example.com\", audience: imgate-admin }}
    - resolve_token: {{ of: imAdmin }}
    - strip_credentials: {{}}
    - inject_token: {{}}"
    );
    setup.routes = format!(
        "  - {{ path: {CHECK}, methods: [POST], upstream: openim_api, chain: admin, roles: [im-admin, im-root] }}"
    );
    let gateway = setup.start().await;
    World { openim, gateway, token, ann, _redis: redis }
}

#[tokio::test]
async fn an_admin_reaches_openim_as_its_admin() {
    let w = world("jwks_file: admins.jwks").await;
    let sent = post(&jwt(0, &json!({}))).header("operationID", "op-1").header("token", "mine");
    let reply = w.gateway.send(&sent).await;
    assert_eq!(reply.verdict(), (200, 0), "{}", reply.text());
    let seen = w.openim.records().pop().unwrap();
    assert_eq!((seen.copies("token"), seen.header("token")), (1, Some(&*w.token)));
    assert_eq!((seen.copies("authorization"), &seen.body[..]), (0, BODY.as_bytes()));
    let line = w.gateway.line("op-1").await;
    assert_eq!((&line["admin"], &line["user"]), (&json!("alice@example.com"), &Value::Null));
}

#[tokio::test]
async fn each_refusal_of_an_admin_has_its_code_and_reaches_nobody() {
    let w = world("jwks_file: admins.jwks").await;
    let now = UnixTime::now().0;
    let cases = [
        ("nothing", post("").without("Authorization"), (401, 20101)),
        ("a signature", w.ann.post(CHECK, BODY), (401, 20101)),
        ("no token", post("x"), (401, 20102)),
        ("an OpenIM token", post(&w.token), (401, 20104)),
        ("a user's OpenIM token", post(&w.ann.token), (401, 20104)),
        ("another key", post(&jwt(1, &json!({}))), (401, 20104)),
        ("expired", post(&jwt(0, &json!({ "exp": now - 60 }))), (401, 20104)),
        ("too early", post(&jwt(0, &json!({ "nbf": now + 60 }))), (401, 20103)),
        ("another audience", post(&jwt(0, &json!({ "aud": "imgate" }))), (401, 20104)),
        ("another role", post(&jwt(0, &json!({ "roles": ["im-admins"] }))), (403, 1002)),
        ("no role", post(&jwt(0, &json!({ "roles": [] }))), (403, 1002)),
    ];
    for (what, sent, verdict) in cases {
        let reply = w.gateway.send(&sent).await;
        assert_eq!(reply.verdict(), verdict, "{what}: {}", reply.text());
        assert_eq!(reply.header("WWW-Authenticate").is_some(), verdict.0 == 401, "{what}");
    }
    assert!(w.openim.records().is_empty());
}

#[tokio::test]
async fn an_admins_token_is_of_no_use_on_a_users_route() {
    let w = world("jwks_file: admins.jwks").await;
    let sent = Sent { target: "/friend/get_friend_list".to_owned(), ..post(&jwt(0, &json!({}))) };
    assert_eq!(w.gateway.send(&sent).await.verdict(), (401, 20101));
}

#[tokio::test]
async fn keys_at_a_url_come_late_stay_and_change() {
    // The issuer is away, then well, then has a new key, then is away again.
    let stage = Arc::new(AtomicUsize::new(0));
    let answers = Arc::clone(&stage);
    let issuer = Upstream::start(move |got| {
        assert!(got.head.starts_with("GET /jwks HTTP/1.1"));
        let answer = match answers.load(Ordering::SeqCst) {
            1 => ok(&jwks(&[0])),
            2 => ok(&jwks(&[0, 1])),
            _ => b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec(),
        };
        async move { vec![Act::Send(answer), Act::Close] }
    })
    .await;
    let w = world(&format!("jwks_url: \"http://{}/jwks\", refresh: 10s", issuer.address)).await;
    let url = format!("url=\"http://{}/jwks\"", issuer.address);
    let failed = format!("imgate_jwks_fetches_total{{result=\"failed\",{url}}}");
    eventually("the issuer was asked in vain", async || w.gateway.metric(&failed).await >= 1.0).await;
    let reply = w.gateway.send(&post(&jwt(0, &json!({})))).await;
    assert_eq!((reply.verdict(), reply.header("Retry-After")), ((503, 20401), Some("1")));
    let served = |index: usize| {
        let gateway = &w.gateway;
        async move { gateway.send(&post(&jwt(index, &json!({})))).await.verdict() == (200, 0) }
    };
    stage.store(1, Ordering::SeqCst);
    // Ten seconds lie between two attempts.
    let patience = Duration::from_secs(40);
    within(patience, "the issuer is tried again", || served(0)).await;
    assert_eq!(w.gateway.send(&post(&jwt(1, &json!({})))).await.verdict(), (401, 20104));
    stage.store(2, Ordering::SeqCst);
    within(patience, "the new key is known", || served(1)).await;
    assert!(served(0).await);
    stage.store(3, Ordering::SeqCst);
    w.gateway.signal("-HUP");
    eventually("the reload is done", async || {
        w.gateway.metric("imgate_config_reloads_total{result=\"ok\"}").await >= 1.0
    })
    .await;
    assert!(served(0).await && served(1).await);
    assert_eq!(w.gateway.metric(&format!("imgate_jwks_keys{{{url}}}")).await, 2.0);
    assert!(w.gateway.metric(&format!("imgate_jwks_age_seconds{{{url}}}")).await >= 0.0);
}
