//! The filters of an edge, on every way to an upstream: headers, paths, addresses, sizes, origins.

use std::sync::{Arc, Mutex};

use openim_standin::{Options, Standin};

use crate::support::command::imgate;
use crate::support::ws::Door;
use crate::support::{
    Act, Client, Gateway, Got, Person, RedisServer, Reply, Sent, Setup, Upstream, eventually, ok,
};

/// A page that the global policy lets in, and one that only a chain does.
const EVERYWHERE: &str = "https://app.example.com";
const PARTNER: &str = "https://partner.example";

/// A gateway without a store's help, and what reached its backend.
struct World {
    gateway: Gateway,
    seen: Arc<Mutex<Vec<Got>>>,
    _backend: Upstream,
}

/// A gateway with these chains and routes; `backend` is an upstream that answers with headers of its own.
async fn world(chains: &str, routes: &str, files: &[(&str, &str)]) -> World {
    let seen: Arc<Mutex<Vec<Got>>> = Arc::default();
    let notes = Arc::clone(&seen);
    let backend = Upstream::start(move |got| {
        notes.lock().unwrap().push(got);
        let body = r#"{"errCode":0}"#;
        let head = "HTTP/1.1 200 OK\r\nServer: secret/1.2\r\nX-Kept: 1\r\nAccess-Control-Allow-Origin: *\r\n";
        let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        async { vec![Act::Send(answer.into_bytes())] }
    })
    .await;
    let mut setup = setup(backend.address, chains, routes);
    setup.files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    World { gateway: setup.start().await, seen, _backend: backend }
}

fn setup(backend: std::net::SocketAddr, chains: &str, routes: &str) -> Setup {
    let mut setup = Setup::at(backend, backend, "");
    setup.store = "memory: {}".to_owned();
    setup.upstreams = format!("  backend: {{ servers: [\"{backend}\"], connect_timeout: 1s }}");
    setup.chains = chains.to_owned();
    setup.routes = routes.to_owned();
    setup.more = format!("cors: {{ allow_origins: [\"{EVERYWHERE}\"] }}");
    setup
}

impl World {
    async fn get(&self, target: &str) -> Reply {
        self.gateway.send(&Sent::new("GET", target)).await
    }

    fn last(&self) -> Got {
        self.seen.lock().unwrap().pop().expect("a request at the backend")
    }

    fn nobody_was_reached(&self) {
        assert!(self.seen.lock().unwrap().is_empty());
    }
}

/// The request line of what an upstream got.
fn line(got: &Got) -> &str {
    got.head.lines().next().unwrap_or("")
}

#[tokio::test]
async fn headers_are_edited_on_every_way_in_both_directions() {
    let w = world(
        "  edited:
    - headers:
        request: { set: { x-edge: eu-1 }, add: { x-many: ours }, remove: [x-debug] }
        response: { set: { strict-transport-security: max-age=60 }, remove: [server] }",
        "  - { prefix: /whole/, upstream: backend, chain: edited, public: true }
  - { prefix: /flow/, upstream: backend, chain: edited, public: true, stream: true }",
        &[],
    )
    .await;
    for path in ["/whole/x", "/flow/x"] {
        let sent = Sent::new("GET", path).header("X-Edge", "forged").header("X-Debug", "1");
        let reply = w.gateway.send(&sent.header("X-Many", "theirs")).await;
        assert_eq!((reply.status, reply.header("x-kept")), (200, Some("1")), "{path}");
        assert_eq!(reply.header("strict-transport-security"), Some("max-age=60"), "{path}");
        assert_eq!(reply.copies("server"), 0, "{path}");
        let got = w.last();
        let values = |name: &str| -> Vec<&str> {
            let lines = got.head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
        };
        assert_eq!(values("x-edge"), ["eu-1"], "{path}");
        assert_eq!(values("x-many"), ["theirs", "ours"], "{path}");
        assert!(values("x-debug").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_signed_request_is_forwarded_under_another_path() {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let backend =
        Upstream::start(|got| async move { vec![Act::Send(ok(&format!("[\"{}\"]", line(&got))))] }).await;
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.upstreams = format!("  backend: {{ servers: [\"{}\"] }}", backend.address);
    setup.chains = "  moved:
    - verify_signature: {}
    - rewrite_path: { strip_prefix: /shop, add_prefix: /v1, paths: { /shop/old: /new } }
    - headers: { request: { set: { x-edge: eu-1 } } }"
        .to_owned();
    setup.routes = "  - { prefix: /shop/, upstream: backend, chain: moved }
  - { prefix: /shop/, at: /m, upstream: backend, chain: moved }"
        .to_owned();
    let gateway = setup.start().await;
    for (sent, forwarded) in [
        (ann.get("/shop/a%20b?x=%2F&&y=/shop/"), "GET /v1/a%20b?x=%2F&&y=/shop/ HTTP/1.1"),
        (ann.post("/shop/old?x=1", "{}"), "POST /new?x=1 HTTP/1.1"),
        (ann.get("/m/shop/a"), "GET /v1/a HTTP/1.1"),
    ] {
        assert_eq!(gateway.send(&sent).await.text(), format!("[\"{forwarded}\"]"), "{}", sent.target);
    }
    // Routing knows nothing of it.
    assert_eq!(gateway.send(&ann.get("/v1/a")).await.status, 404);
    assert_eq!(gateway.send(&ann.get("/shop/../v1/a")).await.status, 400);

    let dir = gateway.config().parent().unwrap().to_owned();
    let explained = |path: &'static str| {
        let text = imgate(&dir, &["explain", "-c", "imgate.yaml", "GET", path]).ok();
        text.lines().find_map(|line| line.split_once("), as ")).unwrap().1.to_owned()
    };
    assert_eq!(explained("/shop/a"), "/v1/a");
    assert_eq!(explained("/shop/old"), "/new");
    assert_eq!(explained("/m/shop/a?b"), "/v1/a");
}

#[tokio::test]
async fn a_streamed_request_is_forwarded_under_another_path() {
    let w = world(
        "  moved:\n    - rewrite_path: { strip_prefix: /files }",
        "  - { prefix: /files/, upstream: backend, chain: moved, public: true, stream: true }",
        &[],
    )
    .await;
    assert_eq!(w.get("/files/a/b?c=%2F").await.status, 200);
    assert_eq!(line(&w.last()), "GET /a/b?c=%2F HTTP/1.1");
}

#[tokio::test]
async fn addresses_are_let_in_or_refused_whatever_they_say_of_themselves() {
    let w = world(
        "  denied:\n    - ip_deny: { addresses: [127.0.0.0/8] }
  watched:\n    - ip_deny: { addresses: ['::ffff:127.0.0.1'] }\n      shadow: true
  office:\n    - ip_allow: { addresses: [10.0.0.0/8] }
  local:\n    - ip_deny: { addresses: [10.0.0.0/8] }\n    - ip_allow: { addresses: ['::1'], file: local.txt }",
        "  - { prefix: /denied/, upstream: backend, chain: denied, public: true }
  - { prefix: /stream/, upstream: backend, chain: denied, public: true, stream: true }
  - { prefix: /office/, upstream: backend, chain: office, public: true }
  - { prefix: /watched/, upstream: backend, chain: watched, public: true }
  - { prefix: /local/, upstream: backend, chain: local, public: true }",
        &[("local.txt", "127.0.0.1 # here\n")],
    )
    .await;
    for (path, reason) in [
        ("/denied/x", "address_denied"),
        ("/stream/x", "address_denied"),
        ("/office/x", "address_not_allowed"),
    ] {
        let forged =
            Sent::new("GET", path).header("X-Forwarded-For", "10.0.0.1").header("X-Real-IP", "10.0.0.1");
        let reply = w.gateway.send(&forged).await;
        assert_eq!(reply.verdict(), (403, 1002), "{path}");
        assert_eq!(reply.json()["errDlt"], reason, "{path}");
    }
    w.nobody_was_reached();
    for path in ["/watched/x", "/local/x"] {
        assert_eq!(w.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_list_of_addresses_is_read_again_at_a_reload() {
    let w = world(
        "  listed:\n    - ip_deny: { file: list.txt }",
        "  - { prefix: /x/, upstream: backend, chain: listed, public: true }",
        &[("list.txt", "# nobody yet\n")],
    )
    .await;
    assert_eq!(w.get("/x/").await.status, 200);
    let list = w.gateway.config().parent().unwrap().join("list.txt");
    std::fs::write(&list, "\n127.0.0.0/8\n").unwrap();
    w.gateway.signal("-HUP");
    eventually("the address is refused", async || w.get("/x/").await.status == 403).await;
    // A list that cannot be read changes nothing.
    std::fs::write(&list, "127.0.0.0/8\n10.0.0.1/8\n").unwrap();
    w.gateway.signal("-HUP");
    eventually("the refusal is said", async || w.gateway.stderr().contains("configuration refused")).await;
    assert!(w.gateway.stderr().contains("list.txt:2 has bits of a host"), "{}", w.gateway.stderr());
    assert_eq!(w.get("/x/").await.status, 403);
}

#[tokio::test]
async fn a_body_over_the_chains_bound_is_refused_on_every_way() {
    let w = world(
        "  small:\n    - body_limit: { max: 16B }
  large:\n    - body_limit: { max: 1GiB }",
        "  - { prefix: /whole/, upstream: backend, chain: small, public: true }
  - { prefix: /flow/, upstream: backend, chain: small, public: true, stream: true }
  - { prefix: /route/, upstream: backend, chain: large, public: true, max_body: 16B }",
        &[],
    )
    .await;
    for path in ["/whole/x", "/flow/x", "/route/x"] {
        let fits = w.gateway.send(&Sent::new("POST", path).body(&[b'x'; 16])).await;
        assert_eq!(fits.status, 200, "{path}");
        assert_eq!(w.last().body.len(), 16, "{path}");
        let over = w.gateway.send(&Sent::new("POST", path).body(&[b'x'; 17])).await;
        assert_eq!(over.verdict(), (413, 20203), "{path}");
        w.nobody_was_reached();
    }
    let mut client = Client::connect(w.gateway.address).await;
    client.write(&Sent::new("POST", "/whole/x").header("Transfer-Encoding", "chunked").wire()).await;
    client.write(b"9\r\n123456789\r\n9\r\n123456789\r\n").await;
    assert_eq!(client.read("POST").await.verdict(), (413, 20203));
    w.nobody_was_reached();
}

#[tokio::test]
async fn a_stream_in_pieces_ends_where_the_chains_bound_is() {
    let door = Door::open().await;
    let gateway = setup(
        door.address(),
        "  small:\n    - body_limit: { max: 16B }",
        "  - { prefix: /flow/, upstream: backend, chain: small, public: true, stream: true, max_body: 1MiB }",
    )
    .start()
    .await;
    let mut client = Client::connect(gateway.address).await;
    client.write(&Sent::new("POST", "/flow/x").header("Transfer-Encoding", "chunked").wire()).await;
    client.write(b"9\r\n123456789\r\n").await;
    let (_upstream, _) = door.accept().await;
    client.write(b"9\r\n123456789\r\n").await;
    assert_eq!(client.read("POST").await.verdict(), (413, 20203));
}

fn preflight(path: &str, method: &str, origin: &str) -> Sent {
    Sent::new("OPTIONS", path)
        .header("Origin", origin)
        .header("Access-Control-Request-Method", method)
        .header("Access-Control-Request-Headers", "signature")
}

#[tokio::test]
async fn a_chain_has_a_cross_origin_policy_of_its_own() {
    let w = world(
        &format!(
            "  partner:\n    - cors: {{ allow_origins: [\"{PARTNER}\"], allow_credentials: true, max_age: 1m }}
  proven:\n    - verify_signature: {{}}\n    - cors: {{ allow_origins: [\"{PARTNER}\"] }}"
        ),
        "  - { prefix: /own/, methods: [GET, POST], upstream: backend, chain: partner, public: true }
  - { prefix: /flow/, upstream: backend, chain: partner, public: true, stream: true }
  - { prefix: /proven/, upstream: backend, chain: proven }
  - { prefix: /global/, upstream: backend, public: true }",
        &[],
    )
    .await;
    let allowed = |reply: &Reply| {
        assert!(reply.copies("access-control-allow-origin") <= 1);
        reply.header("access-control-allow-origin").map(str::to_owned)
    };
    // What is asked for decides: path and method, else the global policy.
    for (path, method, theirs) in [
        ("/own/x", "POST", PARTNER),
        ("/own/x?y", "GET", PARTNER),
        ("/flow/x", "PUT", PARTNER),
        ("/proven/x", "POST", PARTNER),
        ("/global/x", "POST", EVERYWHERE),
        ("/own/x", "DELETE", EVERYWHERE),
        ("/own/x", "bad method", EVERYWHERE),
        ("/no/such", "POST", EVERYWHERE),
        ("/own/../x", "POST", EVERYWHERE),
    ] {
        for origin in [EVERYWHERE, PARTNER, "https://evil.example"] {
            let reply = w.gateway.send(&preflight(path, method, origin)).await;
            let expected = (origin == theirs).then(|| origin.to_owned());
            assert_eq!((reply.status, allowed(&reply)), (204, expected), "{path} {method} {origin}");
        }
    }
    let own = w.gateway.send(&preflight("/own/x", "POST", PARTNER)).await;
    assert_eq!(own.header("access-control-max-age"), Some("60"));
    assert_eq!(own.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(own.header("access-control-allow-headers"), Some("signature"));
    w.nobody_was_reached();
    // So it is with every answer: the upstream's, whole or streamed, and ours.
    for (method, path, status, theirs) in [
        ("GET", "/own/x", 200, PARTNER),
        ("GET", "/flow/x", 200, PARTNER),
        ("GET", "/proven/x", 401, PARTNER),
        ("GET", "/global/x", 200, EVERYWHERE),
        ("DELETE", "/own/x", 405, EVERYWHERE),
        ("GET", "/no/such", 404, EVERYWHERE),
    ] {
        for origin in [EVERYWHERE, PARTNER, "https://evil.example"] {
            let reply = w.gateway.send(&Sent::new(method, path).header("Origin", origin)).await;
            let expected = (origin == theirs).then(|| origin.to_owned());
            assert_eq!((reply.status, allowed(&reply)), (status, expected), "{method} {path} {origin}");
            assert_eq!(reply.header("vary"), Some("Origin"), "{method} {path} {origin}");
        }
    }
    let refused = w.gateway.send(&Sent::new("GET", "/proven/x").header("Origin", PARTNER)).await;
    assert_eq!(refused.json()["errCode"], 20101);
    assert!(refused.header("access-control-expose-headers").unwrap().contains("X-Server-Time"));
}

#[test]
fn what_cannot_stand_in_a_chain_is_refused_with_its_place() {
    let inject = "- verify_signature: {}\n    - resolve_token: {}\n    - strip_credentials: {}\n    - inject_token: {}";
    let cases = [
        (
            format!("- rewrite_path: {{ strip_prefix: /im }}\n    {inject}"),
            "chains.x[0] (rewrite_path): changes the path of requests with a bound body or an injected token",
            "hint: name OpenIM's own path in the route",
        ),
        (
            "- verify_signature: {}\n    - body_limit: { max: 1MiB }".to_owned(),
            "chains.x[1] (body_limit): bounds a body that `verify_signature` has read already",
            "hint: put it above verify_signature",
        ),
        (
            "- headers: { request: { remove: [x-a] } }\n    - verify_signature: {}".to_owned(),
            "chains.x[0] (headers): edits headers of the request before `verify_signature` has read",
            "hint: put it below verify_signature",
        ),
        (
            "- headers: { request: { set: { Token: a } } }".to_owned(),
            "chains.x[0] (headers): `token` is not to be edited",
            "hint: it is a credential",
        ),
        (
            "- cors: {}\n    - cors: {}".to_owned(),
            "chains.x[1] (cors): gives the chain a second cross-origin policy",
            "hint: a chain has one",
        ),
        (
            "- cors: { allow_credentials: true }".to_owned(),
            "chains.x[0] (cors): `allow_credentials` cannot be true",
            "hint: list the origins",
        ),
        (
            "- ip_deny: { addresses: [10.0.0.1/8] }".to_owned(),
            "chains.x[0].ip_deny.addresses[0]: `10.0.0.1/8` has bits of a host",
            "hint: the network is 10.0.0.0/8",
        ),
        (
            "- ip_allow: { file: no-such.txt }".to_owned(),
            "chains.x[0] (ip_allow): no-such.txt cannot be read: entity not found",
            "",
        ),
        (
            "- rewrite_path: { add_prefix: /v1/ }".to_owned(),
            "chains.x[0].rewrite_path.add_prefix: a prefix has no `/` at its end",
            "hint: /api stands for /api and all below it",
        ),
        (
            "- body_limit: { max: 1MB }".to_owned(),
            "chains.x[0].body_limit.max: `1MB` is no size",
            "hint: write a whole number with its unit",
        ),
    ];
    for (steps, problem, hint) in cases {
        let dir = tempfile::tempdir().unwrap();
        let backend = "127.0.0.1:9".parse().unwrap();
        let setup = setup(backend, &format!("  x:\n    {steps}"), "");
        std::fs::write(dir.path().join("imgate.yaml"), setup.yaml()).unwrap();
        let ran = imgate(dir.path(), &["check", "-c", "imgate.yaml"]);
        assert_eq!(ran.code, 78, "{steps}: {}", ran.stdout);
        assert!(ran.stderr.contains(problem) && ran.stderr.contains(hint), "{steps}: {}", ran.stderr);
    }
}
