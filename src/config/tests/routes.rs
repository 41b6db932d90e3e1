//! Routes, tables and the chains they name.

use std::path::Path;
use std::time::Duration;

use http::Method;
use tempfile::TempDir;

use super::{BASE, deps, parse, with, with_route};
use crate::config::{Config, Line, Mode};
use crate::route::Found;

#[test]
fn routes_that_make_no_sense_are_refused() {
    let cases = [
        ("{ path: /ws, websocket: chat, chain: socket }", "GET /ws is taken by routes[0] (imgate.yaml:9:13)"),
        ("{ path: /ws, upstream: chat, public: true }", "GET /ws is taken by routes[0] (imgate.yaml:9:13)"),
        ("{ path: /x, public: true }", "has none of `upstream`, `websocket`"),
        (
            "{ path: /x, upstream: chat, websocket: chat, public: true }",
            "has several of `upstream`, `websocket`",
        ),
        ("{ upstream: chat, public: true }", "has none of `path`, `prefix`, `table`"),
        ("{ path: /x, upstream: chat }", "neither a chain nor `public: true`"),
        ("{ path: /x//y, upstream: chat, public: true }", "a path has no empty segment"),
        ("{ path: /a%20b, upstream: chat, public: true }", "a path is written without escapes"),
        ("{ prefix: /x, upstream: chat, public: true }", "a prefix ends in `/`"),
        ("{ path: /x, at: /api/, upstream: chat, public: true }", "a mount point has no `/` at its end"),
        (
            "{ path: /x, websocket: chat, stream: true, public: true }",
            "`stream` means nothing for a WebSocket",
        ),
        (
            "{ path: /x, websocket: chat, methods: [GET], public: true }",
            "`methods` means nothing for a WebSocket",
        ),
        (
            "{ path: /x, upstream: chat, idle_timeout: 60s, public: true }",
            "`idle_timeout` means nothing but for a WebSocket",
        ),
        (
            "{ path: /x, upstream: chat, stream: true, replay_safe: true, public: true }",
            "`replay_safe` means nothing for a stream",
        ),
        (
            "{ prefix: /x/, upstream: chat, object_names: true, public: true }",
            "`object_names` means nothing but for a stream below a prefix",
        ),
        (
            "{ path: /x, upstream: chat, stream: true, object_names: true, public: true }",
            "`object_names` means nothing but for a stream below a prefix",
        ),
        ("{ path: /x, websocket: chat, idle_timeout: 30s, public: true }", "below 31 s"),
        ("{ path: /x, upstream: chat, methods: [], public: true }", "needs at least one entry"),
        ("{ path: /x, upstream: chat, methods: [get], public: true }", "unknown word `get`"),
        ("{ path: /x, upstream: chat, hosts: [], public: true }", "needs at least one entry"),
        ("{ path: /x, upstream: chat, hosts: ['h:80'], public: true }", "`h:80` is no host name"),
        ("{ path: /x, upstream: chat, timeout: 0s, public: true }", "must be above 0"),
        ("{ path: /x, upstream: chat, max_body: 9MiB, public: true }", "must be at most 8MiB"),
    ];
    for (route, problem) in cases {
        let error = parse(&with_route(route)).expect_err(route).to_string();
        let first = error.lines().next().unwrap();
        assert!(first.starts_with("imgate.yaml:10:") && first.contains(": routes[1]"), "{route}: {error}");
        assert!(first.ends_with(problem), "{route}: {error}");
    }
}

/// Loads the base with this table mounted at /api.
fn with_table(table: &str) -> Result<Config, String> {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("t.yaml"), table).unwrap();
    let text = with_route("{ table: t.yaml, at: /api, upstream: chat, public: true }");
    let loaded = Config::parse(&text, "imgate.yaml", folder.path());
    loaded.map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
}

#[test]
fn a_table_lists_paths_by_method() {
    let config = with_table("get: [/a]\npost:\n  - /a\n  - /b/c: { max_body: 1MiB, timeout: 2s }\n").unwrap();
    let find = |method: &Method, path: &str| match config.routes.find(None, "", method, path) {
        Found::Route(route) => Some((route.methods.to_string(), route.strip, route.timeout, route.mode)),
        Found::MethodNotAllowed(_) | Found::None => None,
    };
    let (nine, two) = (Duration::from_secs(9), Duration::from_secs(2));
    let mode = |max_body| Mode::Exchange { max_body, replay_safe: false };
    assert_eq!(find(&Method::GET, "/api/a"), Some(("GET".into(), 4, nine, mode(65_536))));
    assert_eq!(find(&Method::POST, "/api/a"), Some(("POST".into(), 4, nine, mode(65_536))));
    assert_eq!(find(&Method::POST, "/api/b/c"), Some(("POST".into(), 4, two, mode(1 << 20))));
    for path in ["/a", "/api", "/api/", "/api/b", "/api/b/c/"] {
        assert_eq!(find(&Method::POST, path), None, "{path}");
    }
}

#[test]
fn faults_in_a_table_point_into_it() {
    let cases = [
        (
            "post:\n  - /a\n  - /a\n",
            "DIR/t.yaml:3:5: post[1]: POST /api/a is taken by routes[1] (DIR/t.yaml:2:5)\n  |\n3 |   - /a\n  |     ^^",
        ),
        ("post:\n  - a\n", "DIR/t.yaml:2:5: post[0]: a path begins with `/`\n  |\n2 |   - a\n  |     ^"),
        (
            "pots: [/a]\n",
            "DIR/t.yaml:1:1: unknown key `pots`\n  |\n1 | pots: [/a]\n  | ^^^^\nhint: did you mean `post`?",
        ),
        (
            "post:\n  - /a: { max_bdy: 1B }\n",
            "DIR/t.yaml:2:11: post[0]./a: unknown key `max_bdy`\n  |\n\
             2 |   - /a: { max_bdy: 1B }\n  |           ^^^^^^^\nhint: did you mean `max_body`?",
        ),
    ];
    for (table, expected) in cases {
        assert_eq!(with_table(table).unwrap_err(), expected);
    }
    let two = with_table("post:\n  - /a: {}\n    /b: {}\n").unwrap_err();
    assert!(two.contains("one path per entry\n"), "{two}");
    let none =
        parse(&with_route("{ table: absent.yaml, upstream: chat, public: true }")).unwrap_err().to_string();
    assert!(
        none.starts_with(
            "imgate.yaml:10:14: routes[1].table: table /nonexistent/absent.yaml cannot be read: "
        )
    );
}

#[test]
fn a_table_names_what_it_leaves_out_and_routes_none_of_it() {
    let config = with_table(
        "post: [/a: { line: released }]\nclosed:\n  - /b: not for users, ever\n  - /c/*name: { why: by GET, line: development }\n",
    )
    .unwrap();
    let closed: Vec<_> = config
        .closed
        .iter()
        .map(|c| (&*c.path, &*c.public, &*c.why, c.line, &*c.upstream, &*c.place))
        .collect();
    assert_eq!(
        closed,
        [
            ("/b", "/api/b", "not for users, ever", None, "chat", "routes[1]"),
            ("/c/*name", "/api/c/*name", "by GET", Some(Line::Development), "chat", "routes[1]"),
        ]
    );
    assert!(matches!(config.routes.find(None, "", &Method::POST, "/api/b"), Found::None));
    let Found::Route(open) = config.routes.find(None, "", &Method::POST, "/api/a") else {
        panic!("no route")
    };
    assert_eq!((open.line, open.table.as_deref()), (Some(Line::Released), Some(Path::new("t.yaml"))));
}

#[test]
fn what_is_left_out_has_a_reason_and_stands_once() {
    let cases = [
        (
            "post: [/a]\nclosed:\n  - /a: no\n",
            "DIR/t.yaml:3:5: closed[0]: /a stands here already, in post[0]\n  |\n3 |   - /a: no\n  |     ^\n\
             hint: a table takes a path or leaves it out, once",
        ),
        (
            "closed:\n  - /a: no\n  - /a: never\n",
            "DIR/t.yaml:3:5: closed[1]: /a stands here already, in closed[0]\n  |\n3 |   - /a: never\n  |     ^\n\
             hint: a table takes a path or leaves it out, once",
        ),
        ("closed:\n  - a: no\n", "DIR/t.yaml:2:5: closed[0]: a path begins with `/`"),
        ("closed:\n  - /a\n", "DIR/t.yaml:2:5: closed[0]: a path is left out for a reason"),
        ("closed:\n  - /a: ''\n", "DIR/t.yaml:2:9: closed[0]./a: a path is left out for a reason"),
        ("closed:\n  - /a: { line: released }\n", "DIR/t.yaml:2:11: closed[0]./a: `why` is missing"),
        (
            "closed:\n  - /a: { why: no, line: old }\n",
            "DIR/t.yaml:2:26: closed[0]./a.line: unknown word `old`",
        ),
        ("closed:\n  - /a: { wyh: no }\n", "DIR/t.yaml:2:11: closed[0]./a: unknown key `wyh`"),
        ("closed:\n  - { /a: no, /b: no }\n", "DIR/t.yaml:2:"),
        ("post:\n  - /a: { line: stable }\n", "DIR/t.yaml:2:17: post[0]./a.line: unknown word `stable`"),
    ];
    for (table, expected) in cases {
        let error = with_table(table).unwrap_err();
        assert!(error.starts_with(expected), "{table}: {error}");
    }
}

#[test]
fn chains_are_checked_against_their_routes() {
    let chains = |text: &str| match parse(text).unwrap().build_chains(&deps()) {
        Ok(chains) => format!("{} chains", chains.len()),
        Err(error) => error.to_string().lines().next().unwrap().to_owned(),
    };
    assert_eq!(chains(BASE), "1 chains");
    let error =
        parse(&with("operation_id: {}", "operatoin_id: {}")).unwrap().build_chains(&deps()).err().unwrap();
    assert!(
        error.to_string().starts_with("imgate.yaml:7:12: chains.socket[0]: unknown filter `operatoin_id`")
    );
    assert!(error.to_string().ends_with("hint: did you mean `operation_id`?"));
    assert_eq!(
        chains(&with("{ operation_id: {} }", "{ operation_id: {}, shadow: true }")),
        "imgate.yaml:7:12: chains.socket[0] (operation_id): cannot run in shadow mode"
    );
    assert_eq!(
        chains(&with_route("{ path: /x, upstream: chat, public: true, bind: userID }")),
        "imgate.yaml:10:13: /x: no filter of its chain enforces `bind`"
    );
    assert_eq!(
        chains(&with("{ operation_id: {} }", "{ operation_id: {} }, { inject_token: {} }")),
        "imgate.yaml:7:34: chains.socket[1] (inject_token): reads the OpenIM token, but no filter before it writes that"
    );
    assert_eq!(
        chains(&with("{ verify_socket: {} }", "{ strip_credentials: {} }")),
        "imgate.yaml:9:5: routes[0]: its chain does not check the handshake"
    );
    assert_eq!(
        chains(
            &with("{ verify_socket: {} }", "{ strip_credentials: {} }")
                .replace("websocket: chat", "upstream: chat")
        ),
        "imgate.yaml:9:5: routes[0]: its chain proves no caller"
    );
    assert_eq!(
        chains(
            &with("{ verify_socket: {} }", "{ verify_signature: {} }")
                .replace("websocket: chat", "upstream: chat, stream: true")
        ),
        "imgate.yaml:9:5: routes[0]: `verify_signature` reads the body, so this route cannot stream"
    );
}

#[test]
fn a_user_acts_as_an_admin_only_where_the_body_names_the_caller() {
    let chain = "socket: [{ verify_socket: {} }]\n  send: [{ verify_signature: {} }, { bind_identity: {} }, { strip_credentials: {} }, { inject_token: { as: imAdmin } }]";
    let base = with("socket: [{ operation_id: {} }, { verify_socket: {} }]", chain);
    let built = |rules: &str| {
        let text = format!("{base}  - {{ path: /send, upstream: chat, chain: send{rules} }}\n");
        parse(&text).unwrap().build_chains(&deps()).err().map(|error| error.to_string())
    };
    assert_eq!(built(", bind: sendID"), None);
    let unstated = built("").unwrap();
    assert!(unstated.contains("/send: `bind_identity` needs to know `bind` of each route"), "{unstated}");
    for weak in ["none", "{ optional: [sendID] }", "{ any: [sendID, recvID] }"] {
        let refused = built(&format!(", bind: {weak}")).expect(weak);
        assert!(refused.contains("is not sure to name the caller"), "{weak}: {refused}");
    }
    let prefix = "  - { prefix: /msg/, upstream: chat, chain: send, bind: sendID }";
    let wide = parse(&format!("{base}{prefix}\n")).unwrap().build_chains(&deps()).err().unwrap().to_string();
    assert!(wide.contains("on all that is below a prefix"), "{wide}");
}

#[test]
fn a_route_for_admins_says_which_roles_unless_its_chain_does() {
    let url = "jwks_url: 'https://id.example.com/jwks', issuer: id, audience: imgate";
    let built = |filter: &str, route: &str| {
        let chain =
            format!("socket: [{{ verify_socket: {{}} }}]\n  admin: [{{ verify_jwt: {{ {url}{filter} }} }}]");
        let base = with("socket: [{ operation_id: {} }, { verify_socket: {} }]", &chain);
        let text = format!("{base}  - {{ path: /x, upstream: chat, chain: admin{route} }}\n");
        parse(&text).unwrap().build_chains(&deps()).err().map(|error| error.to_string())
    };
    for (filter, route) in [
        ("", ", roles: im-admin"),
        ("", ", roles: any"),
        (", roles: any", ""),
        (", roles: [a]", ", roles: [b]"),
    ] {
        assert_eq!(built(filter, route), None, "{filter} {route}");
    }
    let unstated = built("", "").unwrap();
    assert!(unstated.contains("/x: `verify_jwt` needs to know `roles` of each route"), "{unstated}");
    let short = built(", cooldown: 1s", ", roles: any").unwrap();
    assert!(short.contains("chains.admin[0] (verify_jwt): cooldown is below 10 s"), "{short}");
}

#[test]
fn a_route_that_sends_our_token_reads_the_answer() {
    for steps in
        ["{ resolve_token: { of: imAdmin } }, { inject_token: {} }", "{ inject_token: { as: imAdmin } }"]
    {
        let keys = "jwks_url: 'https://id.example.com/jwks', issuer: id, audience: imgate, roles: any";
        let chain = format!(
            "socket: [{{ verify_socket: {{}} }}]\n  admin: [{{ verify_socket: {{}} }}, {{ verify_jwt: {{ {keys} }} }}, {{ strip_credentials: {{}} }}, {steps}]"
        );
        let base = with("socket: [{ operation_id: {} }, { verify_socket: {} }]", &chain);
        let built = |target: &str| {
            let text = format!("{base}  - {{ path: /x, chain: admin, {target} }}\n");
            parse(&text).unwrap().build_chains(&deps()).err().map(|error| error.to_string())
        };
        assert_eq!(built("upstream: chat"), None);
        for target in ["upstream: chat, stream: true", "websocket: chat"] {
            let unread = built(target).expect(target);
            assert!(
                unread.contains("`inject_token` sends an OpenIM token, so this route can neither stream"),
                "{unread}"
            );
        }
    }
}

#[test]
fn storage_gets_no_credentials_of_ours() {
    let built = |chain: &str, route: &str| {
        let chain = format!("socket: [{{ verify_socket: {{}} }}]\n  objects: [{chain}]");
        let base = with("socket: [{ operation_id: {} }, { verify_socket: {} }]", &chain);
        let route = format!("prefix: /o/, upstream: chat, stream: true, public: true{route}");
        let text = format!("{base}  - {{ {route} }}\n");
        parse(&text).unwrap().build_chains(&deps()).err().map(|error| error.to_string())
    };
    let stripped = "{ operation_id: {} }, { strip_credentials: { keep_sigv4: true } }";
    assert_eq!(built(stripped, ", object_names: true, chain: objects"), None);
    assert_eq!(built("{ operation_id: {} }", ", chain: objects"), None);
    for unstripped in [", object_names: true, chain: objects", ", object_names: true"] {
        let error = built("{ operation_id: {} }", unstripped).expect(unstripped);
        assert!(error.contains("/o/*: sends the client's credentials to the storage"), "{error}");
    }
}

#[test]
fn what_a_mount_asks_is_not_undone_by_its_table() {
    let folder = TempDir::new().unwrap();
    let loaded = |mount: &str, path: &str| {
        std::fs::write(folder.path().join("t.yaml"), format!("post:\n  - /a: {{ {path} }}\n  - /b\n"))
            .unwrap();
        let text = with_route(&format!("{{ table: t.yaml, upstream: chat, public: true{mount} }}"));
        let config = Config::parse(&text, "imgate.yaml", folder.path()).map_err(|error| error.to_string())?;
        let rules = |path: &str| match config.routes.find(None, "", &Method::POST, path) {
            Found::Route(route) => route.rules.to_string(),
            Found::MethodNotAllowed(_) | Found::None => panic!("no route"),
        };
        Ok::<_, String>([rules("/a"), rules("/b")])
    };
    for (key, all, one) in [("roles", "[boss]", "[helper]"), ("platforms", "[IOS]", "[Web]")] {
        let error = loaded(&format!(", {key}: {all}"), &format!("{key}: {one}")).unwrap_err();
        assert!(error.contains("t.yaml:2:") && error.contains("stands at the table's route, too"), "{error}");
        let word = all.trim_matches(['[', ']']);
        assert_eq!(
            loaded(&format!(", {key}: {all}"), "").unwrap(),
            [(); 2].map(|()| format!("{key} {word}"))
        );
        let word = one.trim_matches(['[', ']']);
        assert_eq!(loaded("", &format!("{key}: {one}")).unwrap(), [format!("{key} {word}"), String::new()]);
    }
}
