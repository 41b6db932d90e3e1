//! The admin listener, the metrics on it, and the access log under hostile input.

use std::collections::BTreeSet;

use openim_standin::{Answer, Options, Standin};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::ws::handshake;
use crate::support::{Client, Closed, Gateway, Person, RedisServer, Sent, Setup, eventually, leaks};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

struct World {
    openim: Standin,
    _redis: RedisServer,
    gateway: Gateway,
    ann: Person,
}

async fn world() -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let gateway = Setup::new(&openim, &redis).patient().start().await;
    World { openim, _redis: redis, gateway, ann }
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served_to_get_alone() {
    let w = world().await;
    eventually("ready", async || w.gateway.admin_get("/readyz").await.status == 200).await;
    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let reply = w.gateway.admin_get(path).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, body), "{path}");
    }
    let metrics = w.gateway.admin_get("/metrics").await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4"));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        for path in ["/healthz", "/metrics", "/nowhere"] {
            let reply = Client::once(w.gateway.admin, &Sent::new(method, path)).await;
            assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    for path in ["/", "/metrics/", "/Metrics", "/debug", "/friend/get_friend_list"] {
        assert_eq!(w.gateway.admin_get(path).await.status, 404, "{path}");
    }
    let mut client = Client::connect(w.gateway.admin).await;
    for _ in 0..3 {
        let head = client.send(&Sent::new("HEAD", "/healthz")).await;
        assert_eq!((head.status, head.header("content-length")), (200, Some("3")));
        assert_eq!(client.send(&Sent::new("GET", "/healthz?probe=1")).await.text(), "ok\n");
    }
}

#[tokio::test]
async fn admin_paths_are_nothing_on_a_public_listener() {
    let w = world().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(w.gateway.send(&Sent::new("GET", path)).await.verdict(), (404, 20201), "{path}");
    }
}

#[tokio::test]
async fn a_gateway_whose_store_is_away_is_alive_but_not_ready() {
    let openim = Standin::start(Options::default()).await.unwrap();
    let gone = Closed::new();
    let gateway = Setup::at(openim.api(), openim.ws(), &gone.address().to_string()).start().await;
    assert_eq!(gateway.admin_get("/healthz").await.status, 200);
    let ready = gateway.admin_get("/readyz").await;
    assert_eq!((ready.status, ready.text().as_str()), (503, "not ready: store not reached yet\n"));
    assert_eq!(gateway.metric("imgate_store_up").await, 0.0);
}

/// The name and the labels of a sample. Panics if the line is not one. Source: Prometheus'
/// "Exposition formats", text format 0.0.4.
fn sample(line: &str) -> (String, Vec<(String, String)>) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let number = matches!(value, "+Inf" | "-Inf" | "NaN") || value.parse::<f64>().is_ok();
    assert!(number, "no number: {line}");
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
        None => (series, ""),
    };
    let is_name = |text: &str| {
        let mut bytes = text.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    assert!(is_name(name), "no name: {line}");
    let pair = |label: &str| {
        let (key, value) = label.split_once("=\"").unwrap();
        assert!(is_name(key), "no label: {line}");
        (key.to_owned(), value.to_owned())
    };
    // No value of ours holds a quote or a comma.
    let labels = labels.strip_suffix('"').map(|inner| inner.split("\",").map(pair).collect());
    (name.to_owned(), labels.unwrap_or_default())
}

#[tokio::test]
async fn metrics_are_what_prometheus_reads() {
    let w = world().await;
    w.gateway.send(&w.ann.post(FRIENDS, BODY)).await;
    let text = w.gateway.admin_get("/metrics").await.text();
    assert!(text.ends_with('\n') && !text.contains("\n\n"));
    let (mut help, mut types, mut series) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').unwrap();
            assert!(words.len() > 5 && help.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(help.contains(name) && types.insert(name.to_owned()), "{line}");
        } else {
            let (name, labels) = sample(line);
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let known = types.contains(&name) || bare.is_some_and(|bare| types.contains(bare));
            assert!(known, "no TYPE before {line}");
            assert!(series.insert((name, labels)), "twice: {line}");
        }
    }
    let ours = types.iter().filter(|name| name.starts_with("imgate_")).count();
    assert!(ours > 15, "{types:?}");
    assert!(types.contains("process_resident_memory_bytes"));
}

/// The series there are, without their values.
async fn series(gateway: &Gateway) -> BTreeSet<String> {
    let text = gateway.admin_get("/metrics").await.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[tokio::test]
async fn no_request_can_make_a_new_series() {
    let w = world().await;
    let before = series(&w.gateway).await;
    let long = "x".repeat(4000);
    let odd = [
        Sent::new("GET", "/no/such/path"),
        Sent::new("GET", &format!("/object/{long}")),
        Sent::new("BREW", "/friend/get_friend_list"),
        Sent::new("get", "/object/x"),
        Sent::new("GET", "/object/\"},evil=\"1"),
        Sent::new("GET", "/ws?v=1"),
        Sent::new("GET", "/object/x").without("Host").header("Host", "evil.example"),
        Sent::new("GET", "/object/x").header("User-Agent", "evil\"\\n} 1"),
        Sent::new("GET", "/object/x").header("operationID", "evil-operation"),
        Sent::new("POST", FRIENDS).header("Signature", "evil").body(b"{}"),
        w.ann.post(FRIENDS, BODY),
        w.ann.post(FRIENDS, "[not json"),
        handshake("/ws?sendID=evil-user&token=x"),
    ];
    for sent in odd {
        let mut client = Client::connect(w.gateway.address).await;
        client.write(&sent.wire()).await;
        // Some of these are no HTTP that anybody answers.
        let _ = client.try_read(&sent.method).await;
    }
    let after = series(&w.gateway).await;
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(!after.iter().any(|series| series.contains("evil") || series.contains("xxxx")));
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let w = world().await;
    let g = &w.gateway;
    for _ in 0..3 {
        g.send(&w.ann.post(FRIENDS, BODY)).await;
    }
    w.openim.answer_next(FRIENDS, Answer::json(200, r#"{"errCode":1001,"errMsg":"ArgsError","errDlt":""}"#));
    g.send(&w.ann.post(FRIENDS, BODY)).await;
    g.send(&Sent::new("POST", FRIENDS).body(b"{}")).await;
    g.send(&Sent::new("GET", FRIENDS)).await;
    let replayed = w.ann.post(FRIENDS, BODY);
    g.send(&replayed).await;
    g.send(&replayed).await;
    g.send(&Sent::new("GET", "/nowhere")).await;
    g.send(&Sent::new("GET", "/object/imAdmin/known.txt")).await;
    g.send(&Sent::new("GET", "/object/../x")).await;
    let route =
        |class: &str, route: &str| format!("imgate_requests_total{{class=\"{class}\",route=\"{route}\"}}");
    let refused = |cause: &str| format!("imgate_refusals_total{{cause=\"{cause}\"}}");
    let answered =
        |class: &str| format!("imgate_upstream_err_codes_total{{class=\"{class}\",upstream=\"openim_api\"}}");
    // A request is counted when its answer has been written, which the client may see a moment before.
    eventually("the last request is counted", async || g.metric(&refused("bad_request")).await == 1.0).await;
    for (metric, value) in [
        (route("2xx", FRIENDS), 5.0),
        (route("4xx", FRIENDS), 2.0),
        (route("3xx", "/object/*"), 1.0),
        (route("4xx", "/object/*"), 0.0),
        (refused("credential_missing"), 1.0),
        (refused("method_not_allowed"), 1.0),
        (refused("replayed"), 1.0),
        (refused("no_route"), 1.0),
        (refused("session_unknown"), 0.0),
        (answered("0"), 4.0),
        (answered("application"), 1.0),
        (answered("15xx"), 0.0),
        (format!("imgate_request_seconds_count{{route=\"{FRIENDS}\"}}"), 7.0),
        ("imgate_upstream_seconds_count{upstream=\"openim_api\"}".to_owned(), 5.0),
        ("imgate_store_up".to_owned(), 1.0),
        ("imgate_access_log_dropped_lines".to_owned(), 0.0),
    ] {
        eventually(&metric, async || g.metric(&metric).await == value).await;
    }
    let mut held = Client::connect(g.address).await;
    held.send(&Sent::new("GET", "/nowhere")).await;
    assert!(g.metric("imgate_connections").await >= 1.0);
    drop(held);
    eventually("connections are counted down", async || g.metric("imgate_connections").await == 0.0).await;
}

#[tokio::test]
async fn hostile_text_stays_one_line_of_json_each() {
    let w = world().await;
    let huge = "A".repeat(7 * 1024);
    let hostile = [
        ("quotes", "/object/\"},{\"path\":\"/x", "a\"b\\c\",\"user\":\"imAdmin"),
        ("huge", "/object/x", &huge),
        ("long", &format!("/object/{}", "p".repeat(5000)), "ua"),
        ("markup", "/object/x", "${jndi:ldap://evil}"),
        ("bidi", "/object/x", "\u{202e}evil\u{2066}"),
    ];
    for (name, path, agent) in &hostile {
        let sent = Sent::new("GET", path).header("User-Agent", agent).header("operationID", name);
        let status = w.gateway.send(&sent).await.status;
        let line = w.gateway.line(name).await;
        assert_eq!(line["status"], status, "{name}");
        let shown = line["path"].as_str().unwrap();
        assert!(path.starts_with(shown) && shown.len() <= 512, "{name}: {shown}");
        assert_eq!(line.get("user"), None, "{name}");
        assert!(line["user_agent"].as_str().is_none_or(|ua| ua.len() <= 512), "{name}");
    }
    // Bytes that no client library would send.
    for raw in [
        "GET /object/x\x1b[31m HTTP/1.1\r\nHost: im.example.com\r\n\r\n",
        "GET /object/x HTTP/1.1\r\nHost: im.example.com\r\nUser-Agent: \x1b[2Jx\r\n\r\n",
        "GET /object/x HTTP/1.1\r\nHost: im.example.com\r\nUser-Agent: a\nb: c\r\n\r\n",
        "GET /object/x HTTP/1.1\r\nHost: im.example.com\r\nUser-Agent: a\rb\r\n\r\n",
        "GET /object/\u{fffd}\u{202e} HTTP/1.1\r\nHost: im.example.com\r\n\r\n",
        "GET /object/x\n{\"status\":200} HTTP/1.1\r\nHost: im.example.com\r\n\r\n",
        "GET /object/x HTTP/1.1\r\nHost: im.example.com\r\noperationID: \u{85}\u{9b}\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(w.gateway.address).await.unwrap();
        stream.write_all(raw.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        crate::support::ws::read_to_end(&mut stream).await;
    }
    w.gateway.send(&Sent::new("GET", "/nowhere").header("operationID", "the-last")).await;
    w.gateway.line("the-last").await;
    let log = w.gateway.config().with_file_name("access.log");
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.bytes().all(|b| b == b'\n' || b >= b' '), "a control character in the log");
    for line in text.lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(json["time"].is_string() && json["status"].is_number(), "{line}");
        assert!(line.len() < 4096, "{} bytes", line.len());
    }
}

#[tokio::test]
async fn a_query_is_never_logged() {
    let w = world().await;
    let secret = "a-token-in-a-query-string";
    leaks::secret(secret);
    let targets = ["/nowhere?token=", "/object/x?token=", "/ws?token=", "/friend/get_friend_list?token="];
    for (i, target) in targets.iter().enumerate() {
        let operation = format!("op-{i}");
        let sent = Sent::new("GET", &format!("{target}{secret}")).header("operationID", &operation);
        Client::once(w.gateway.address, &sent).await;
        let line = w.gateway.line(&operation).await;
        assert_eq!(line["path"].as_str(), target.split('?').next());
        // The gateway's other messages and the log as a whole are searched when it ends.
        leaks::none_in("the line", &line.to_string());
    }
}
