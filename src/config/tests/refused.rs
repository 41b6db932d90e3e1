//! What is refused, with the exact text.

use tempfile::TempDir;

use super::{BASE, parse, refused, with};
use crate::config::Config;

#[test]
fn errors_name_the_place_show_the_line_and_help() {
    let cases = [
        (
            ("websocket: chat", "websocket: chta"),
            "imgate.yaml:9:29: routes[0].websocket: no upstream named `chta`\n  |\n\
             9 |   - { path: /ws, websocket: chta, chain: socket }\n  |                             ^^^^\n\
             hint: did you mean `chat`?",
        ),
        (
            ("chain: socket", "chain: user"),
            "imgate.yaml:9:42: routes[0].chain: no chain named `user`\n  |\n\
             9 |   - { path: /ws, websocket: chat, chain: user }\n  |                                          ^^^^\n\
             hint: known are socket",
        ),
        (
            ("websocket: chat", "websoket: chat"),
            "imgate.yaml:9:18: routes[0]: unknown key `websoket`\n  |\n\
             9 |   - { path: /ws, websoket: chat, chain: socket }\n  |                  ^^^^^^^^\n\
             hint: did you mean `websocket`?",
        ),
        (
            ("operation_id: {}", "operation_id: { from: client }"),
            "imgate.yaml:7:30: chains.socket[0].operation_id: unknown key `from`\n  |\n\
             7 |   socket: [{ operation_id: { from: client } }, { verify_socket: {} }]\n  |                              ^^^^\n\
             hint: there are none",
        ),
        (
            ("chain: socket", "chain: socket, chain: socket"),
            "imgate.yaml:9:50: routes[0]: key `chain` stands here twice\n  |\n\
             9 |   - { path: /ws, websocket: chat, chain: socket, chain: socket }\n  \
             |                                                  ^^^^^",
        ),
        (
            ("public_url: https://im.example.com", "public_url: [a]"),
            "imgate.yaml:2:13: public_url: expected a text\n  |\n2 | public_url: [a]\n  |             ^",
        ),
        (("servers: [\"127.0.0.1:10001\"]", ""), "imgate.yaml:5:9: upstreams.chat: `servers` is missing"),
        (
            ("listeners:", "limits: { request_timeout: 9 }\nlisteners:"),
            "imgate.yaml:1:28: limits.request_timeout: `9` is no duration\n  |\n\
             1 | limits: { request_timeout: 9 }\n  |                            ^\n\
             hint: write it with its unit, as in 8s or 100ms",
        ),
        (
            ("listeners:", "limits:\n  body: 64kb\nlisteners:"),
            "imgate.yaml:2:9: limits.body: `64kb` is no size\n  |\n2 |   body: 64kb\n  |         ^^^^\n\
             hint: write a whole number with its unit, as in 512B, 64KiB or 8MiB",
        ),
        (
            ("listeners:", "limits: { body: 9MiB }\nlisteners:"),
            "imgate.yaml:1:17: limits.body: must be at most 8MiB\n  |\n\
             1 | limits: { body: 9MiB }\n  |                 ^^^^",
        ),
        (
            ("path: /ws", "path: /ws, prefix: /ws/"),
            "imgate.yaml:9:5: routes[0]: has several of `path`, `prefix`, `table`\n  |\n\
             9 |   - { path: /ws, prefix: /ws/, websocket: chat, chain: socket }\n  |     ^\n\
             hint: a route has exactly one of them",
        ),
        (
            (", chain: socket", ""),
            "imgate.yaml:9:5: routes[0]: neither a chain nor `public: true`\n  |\n\
             9 |   - { path: /ws, websocket: chat }\n  |     ^\n\
             hint: name a chain, or say that anybody may call this",
        ),
        (
            ("[{ address: 0.0.0.0:8080 }]", "[{ address: 0.0.0.0:8080 }, { address: 127.0.0.1:8080 }]"),
            "imgate.yaml:1:51: listeners[1].address: 127.0.0.1:8080 is taken by listeners[0]\n  |\n\
             1 | listeners: [{ address: 0.0.0.0:8080 }, { address: 127.0.0.1:8080 }]\n  \
             |                                                   ^^^^^^^^^^^^^^",
        ),
        (
            ("\"127.0.0.1:10001\"", "openim"),
            "imgate.yaml:5:21: upstreams.chat.servers[0]: `openim` is no server\n  |\n\
             5 |   chat: { servers: [openim] }\n  |                     ^^^^^^\n\
             hint: write a host and a port, as in 127.0.0.1:10002 or openim:10002",
        ),
        (
            ("listeners:", "threads: many\nlisteners:"),
            "imgate.yaml:1:10: threads: expected a whole number\n  |\n1 | threads: many\n  |          ^^^^",
        ),
        (
            ("listeners:", "errors: { no_route: { errCode: 1501 } }\nlisteners:"),
            "imgate.yaml:1:21: errors.no_route: 1501 logs users out in OpenIM's SDKs, and no_route is no verdict on the user\n  |\n\
             1 | errors: { no_route: { errCode: 1501 } }\n  |                     ^",
        ),
        (
            ("listeners:", "cors: { allow_credentials: true }\nlisteners:"),
            "imgate.yaml:1:7: cors: `allow_credentials` cannot be true while `allow_origins` is `*`\n  |\n\
             1 | cors: { allow_credentials: true }\n  |       ^\n\
             hint: list the origins that may send cookies",
        ),
    ];
    for ((from, to), expected) in cases {
        assert_eq!(refused(from, to), expected);
    }
}

#[test]
fn faults_in_the_meaning_are_reported_together() {
    let text = with("/ws, websocket: chat", "/ws/%41, websocket: chta").replace("0.0.0.0:8080", "8080");
    let error = parse(&text.replace("{ memory: {} }", "{ memory: {} }, admin_users: ['a b']")).unwrap_err();
    let places: Vec<&str> = error.faults().iter().map(|fault| &*fault.place).collect();
    assert_eq!(places, ["listeners[0].address", "identity.admin_users[0]", "routes[0].websocket"]);
}

#[test]
fn an_alias_bomb_is_refused() {
    let aliases = ", *a".repeat(200);
    let many = refused("listeners:", &format!("hosts: [&a im.example.com{aliases}]\nlisteners:"));
    assert!(many.starts_with("imgate.yaml:1:"), "{many}");
    assert!(many.ends_with("\nhint: aliases and nesting are bounded; write it out"), "{many}");
    let doubling: String = (1..30).map(|i| format!("a{i}: &a{i} [*a{}, *a{}]\n", i - 1, i - 1)).collect();
    assert!(parse(&format!("a0: &a0 [x, x]\n{doubling}{BASE}")).is_err());
    let deep = refused("listeners:", &format!("hosts: {}x{}\nlisteners:", "[".repeat(100), "]".repeat(100)));
    assert!(deep.starts_with("imgate.yaml:1:"), "{deep}");
}

#[test]
fn what_only_looks_like_yaml_is_refused_with_its_place() {
    let starts = [
        ("", "imgate.yaml:1:1: "),
        ("- a\n", "imgate.yaml:1:1: expected a map"),
        ("listeners: [\n", "imgate.yaml:"),
        ("listeners:\n\t- a\n", "imgate.yaml:2:"),
        ("listeners: !!binary a\n", "imgate.yaml:1:"),
    ];
    for (text, start) in starts {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(start), "{text:?}: {error}");
    }
    let two = parse(&format!("{BASE}---\n{BASE}")).unwrap_err().to_string();
    assert!(two.starts_with("imgate.yaml:10:1: "), "{two}");
    let merged = refused("{ servers: [\"127.0.0.1:10001\"] }", "{ <<: { servers: [\"127.0.0.1:10001\"] } }");
    assert!(merged.contains("merge keys are not read"), "{merged}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = TempDir::new().unwrap();
    let load = |name: &str| Config::load(&folder.path().join(name)).unwrap_err().to_string();
    let path = folder.path().display();
    assert_eq!(
        load("absent.yaml"),
        format!("{path}/absent.yaml: cannot be read: No such file or directory (os error 2)")
    );
    std::fs::write(folder.path().join("large.yaml"), " ".repeat(1024 * 1024 + 1)).unwrap();
    assert_eq!(load("large.yaml"), format!("{path}/large.yaml: larger than 1 MiB"));
    std::fs::write(folder.path().join("binary.yaml"), [0xff, 0xfe]).unwrap();
    assert_eq!(load("binary.yaml"), format!("{path}/binary.yaml: not UTF-8 text"));
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let cases = [
        ("listeners: []", "listeners: needs at least one entry"),
        ("listeners: [{ address: 8080 }]", "listeners[0].address: `8080` is no address"),
        ("listeners: [{ address: 0.0.0.0:1, ssl: {} }]", "listeners[0]: unknown key `ssl`"),
        ("admin: { address: 0.0.0.0:8080 }", "admin.address: 0.0.0.0:8080 is taken by listeners[0]"),
        ("threads: 0", "threads: must be above 0"),
        ("hosts: []", "hosts: needs at least one entry"),
        ("hosts: ['http://h']", "hosts[0]: `http://h` is no host name"),
        (
            "cors: { allow_origins: ['*', 'https://a.b'] }",
            "cors.allow_origins: `*` allows every origin, so no other can stand beside it",
        ),
        ("cors: { allow_origins: ['https://A.b'] }", "cors.allow_origins[0]: `https://A.b` is no origin"),
        ("cors: { allow_origins: ['https://a.b/'] }", "cors.allow_origins[0]: `https://a.b/` is no origin"),
        (
            "cors: { allow_origins: ['https://a.b:443'] }",
            "cors.allow_origins[0]: `https://a.b:443` is no origin",
        ),
        ("cors: { allow_headers: ['a b'] }", "cors.allow_headers[0]: `a b` is no header name"),
        (
            "errors: { replayed: { errCode: 0 } }",
            "errors.replayed: errCode 0 means success, and replayed is none",
        ),
    ];
    for (text, expected) in cases {
        let text = match text.strip_prefix("listeners: ") {
            Some(listeners) => with("[{ address: 0.0.0.0:8080 }]", listeners),
            None => with("listeners:", &format!("{text}\nlisteners:")),
        };
        let error = parse(&text).expect_err(expected).to_string();
        let first = error.lines().next().unwrap();
        assert!(first.ends_with(expected), "{first}\n{expected}");
    }
    for (upstream, expected) in [
        ("balance: random", "upstreams.chat.balance: unknown word `random`"),
        (
            "balance: { hash: { header: 'a b' } }",
            "upstreams.chat.balance.hash.header: `a b` is no header name",
        ),
        ("resolve: { every: 10ms }", "upstreams.chat.resolve.every: must be at least 1s"),
        (
            "health_check: { ask: { http: healthz } }",
            "upstreams.chat.health_check.ask.http: `healthz` is no path",
        ),
        (
            "health_check: { ask: tcp, interval: 1s, timeout: 2s }",
            "upstreams.chat.health_check.timeout: must be at most `interval`",
        ),
        (
            "health_check: { ask: tcp, healthy_after: 0 }",
            "upstreams.chat.health_check.healthy_after: must be above 0",
        ),
        ("eject: { users: 0 }", "upstreams.chat.eject.users: must be above 0"),
        ("eject: { at_most: 101% }", "upstreams.chat.eject.at_most: `101%` is no share"),
        ("eject: { at_most: 50 }", "upstreams.chat.eject.at_most: `50` is no share"),
        (
            "breaker: { pause: 1m, longest_pause: 1s }",
            "upstreams.chat.breaker.pause: must be at most `longest_pause`",
        ),
        ("tls: { certificate: own.pem }", "upstreams.chat.tls: `key` is missing"),
        ("tls: { key: own.key }", "upstreams.chat.tls: `certificate` is missing"),
        ("tls: { server_name: 'a b' }", "upstreams.chat.tls: `a b` is no name of a server"),
        ("breaker: { trials: 1 }", "upstreams.chat.breaker: unknown key `trials`"),
    ] {
        let error = refused("[\"127.0.0.1:10001\"]", &format!("[\"127.0.0.1:10001\"], {upstream}"));
        let first = error.lines().next().unwrap();
        assert!(first.ends_with(expected), "{first}\n{expected}");
    }
    for (identity, expected) in [
        (
            "keys: { token: 'imgate:{user_id}' }",
            "identity.keys: two key templates overlap: no prefix may begin another",
        ),
        ("cache: { entries: 0 }", "identity.cache.entries: must be above 0"),
        ("store_mark: on", "identity.store_mark: unknown word `on`"),
        ("assertion_key: { env: PATH }", "identity.assertion_key: "),
        ("seal_keys: { env: PATH }", "identity.seal_keys: line 1: "),
        ("accept_plain: true", "identity.accept_plain: `accept_plain` means nothing without `seal_keys`"),
    ] {
        let error = refused("{ memory: {} }", &format!("{{ memory: {{}} }}, {identity}"));
        assert!(error.contains(expected), "{error}");
    }
}
