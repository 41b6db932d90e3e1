//! Answers that stand in the configuration, as clients get them.

use openim_standin::{Options, Standin};
use serde_json::json;

use crate::support::command::imgate;
use crate::support::ws::{handshake, target};
use crate::support::{Person, RedisServer, Sent, Setup};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

const ANSWER: &str =
    "{ status: 503, errCode: 20404, errMsg: Maintenance, errDlt: 'back \"soon\"', retry_after: 90s }";

#[tokio::test]
async fn one_line_at_the_top_closes_a_chain() {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.chains = format!(
        "  closed:
    - operation_id: {{}}
    - respond: {ANSWER}
    - verify_signature: {{}}
    - resolve_token: {{}}
    - strip_credentials: {{}}
    - inject_token: {{}}
  closed_socket:
    - verify_socket: {{}}
    - respond: {ANSWER}
  gone:
    - respond: {{ status: 410, errCode: 20901, errMsg: GoneError }}
  fine:
    - respond: {{ status: 200, errCode: 0 }}"
    );
    setup.routes = "  - { path: /ws, hosts: [im.example.com], websocket: openim_ws, chain: closed_socket }
  - { path: /friend/get_friend_list, hosts: [im.example.com], methods: [POST], upstream: openim_api, chain: closed }
  - { prefix: /v1/, upstream: openim_api, chain: gone, public: true }
  - { prefix: /files/, upstream: openim_api, chain: gone, public: true, stream: true }
  - { path: /fine, upstream: openim_api, chain: fine, public: true }"
        .to_owned();
    let gateway = setup.start().await;
    let socket = target("ann", &ann.token, 2, "");
    let large = vec![b'x'; 30_000];
    let closed = [
        ann.post(FRIENDS, BODY),
        Sent::new("POST", FRIENDS).body(&large),
        handshake(&socket).header("Origin", "https://app.example.com"),
    ];
    for (i, sent) in closed.iter().enumerate() {
        let reply = gateway.send(&sent.clone().header("operationID", &format!("closed-{i}"))).await;
        let envelope = json!({ "errCode": 20404, "errMsg": "Maintenance", "errDlt": "back \"soon\"" });
        assert_eq!((reply.status, reply.json()), (503, envelope), "{i}");
        for (name, value) in [
            ("retry-after", "90"),
            ("content-type", "application/json"),
            ("access-control-allow-origin", "*"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{i}: {name}");
        }
    }
    let line = gateway.line("closed-0").await;
    assert_eq!((&line["status"], &line["err_code"]), (&503.into(), &20404.into()));
    assert_eq!(line["filter"], "respond");
    assert_eq!((line.get("cause"), line.get("shadowed")), (None, None), "it is no refusal: {line}");
    for (sent, verdict) in [
        (Sent::new("GET", "/v1/x"), (410, 20901)),
        (Sent::new("POST", "/v1/x").body(b"{}"), (410, 20901)),
        (Sent::new("PUT", "/files/x").body(&large), (410, 20901)),
        (Sent::new("GET", "/fine"), (200, 0)),
    ] {
        assert_eq!(gateway.send(&sent).await.verdict(), verdict, "{}", sent.target);
    }
    assert!(openim.records().is_empty(), "something reached OpenIM");
}

#[test]
fn an_answer_that_misleads_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = "127.0.0.1:9".parse().unwrap();
    let mut setup = Setup::at(nobody, nobody, "");
    setup.store = "memory: {}".to_owned();
    setup.chains = "  closed: [{ respond: { status: 503, errCode: 1501 } }]".to_owned();
    setup.routes = "  - { path: /x, upstream: openim_api, chain: closed, public: true }".to_owned();
    std::fs::write(dir.path().join("imgate.yaml"), setup.yaml()).unwrap();
    let ran = imgate(dir.path(), &["check", "-c", "imgate.yaml"]);
    let why = "chains.closed[0] (respond): errCode 1501 logs users out in OpenIM's SDKs";
    assert!(ran.code == 78 && ran.stderr.contains(why), "{}", ran.stderr);
}
