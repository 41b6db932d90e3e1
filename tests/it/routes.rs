//! `imgate routes`: what operators see of their routes, and of a new release of OpenIM.

use std::path::Path;

use serde_json::Value;

use crate::support::command::{Ran, imgate};

const CONFIG: &str = r#"
listeners: [{ address: "127.0.0.1:0" }]
public_url: https://im.example.com
identity: { store: { memory: {} } }
upstreams:
  openim: { servers: ["127.0.0.1:10002"] }
  chat: { servers: ["127.0.0.1:10001"] }
  backend: { servers: ["127.0.0.1:8090"] }
chains:
  user: [{ verify_signature: {} }, { bind_identity: {} }, { resolve_token: {} }, { strip_credentials: {} }, { inject_token: {} }]
  socket: [{ verify_socket: {} }]
routes:
  - { path: /ws, websocket: chat, chain: socket }
  - { table: user.yaml, upstream: openim, chain: user, at: /api }
  - { path: /msg/send, upstream: openim, chain: user, bind: sendID, platforms: [IOS, Android], hosts: [a.example.com] }
  - { prefix: /object/, methods: [GET], upstream: openim, stream: true, public: true }
  - { prefix: /login/, upstream: backend, public: true }
"#;

const TABLE: &str = "
post:
  - /user/update: { bind: { check: [userInfo.userID] }, max_body: 1MiB }
  - /user/config: { bind: { optional: [userID], force: [account] }, line: development, timeout: 2s }
  - /group/info: { bind: none }
closed:
  - /user/all: lists all users
  - /msg/old: { why: nobody calls it, line: released }
  - /third/prometheus: leads into Grafana
";

/// OpenIM as the table above knows it.
const ROUTER: &str = r#"package api

func newRouter(cfg *Config) *gin.Engine {
	r := gin.New()
	user := r.Group("/user")
	user.POST("/update", u.Update)
	user.POST("/config", u.Config)
	user.POST("/all", u.All)
	{
		g := r.Group("/group", mw.Check)
		g.POST("/info", a.Info)
		//g.POST("/commented", a.Out)
	}
	objects(r.Group("/object"), t)
	r.GET("/third/prometheus", t.Prometheus)
	r.POST("/msg/send", m.Send)
	return r
}

func objects(g *gin.RouterGroup, t Api) {
	g.GET("/*name", t.Redirect)
}
"#;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("imgate.yaml", CONFIG), ("user.yaml", TABLE), ("router.go", ROUTER)] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn list(more: &[&str]) -> String {
    imgate(folder().path(), &[&["routes", "list", "-c", "imgate.yaml"], more].concat()).ok()
}

/// The lines without their indentation.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn every_route_is_listed_with_its_rules() {
    let listed = lines(&list(&[]));
    assert_eq!(
        listed,
        [
            "routes[0] chain socket, to chat: OpenIM authenticates, by the token in the query",
            "GET /ws WebSocket",
            "",
            "routes[1] table user.yaml, chain user, to openim: callers are proven",
            "POST /api/user/update binds userInfo.userID = caller; body at most 1048576 bytes",
            "POST /api/user/config binds userID = caller or empty, account := caller; timeout 2000 ms; development line only",
            "POST /api/group/info binds nothing",
            "",
            "routes[2] chain user, to openim, on a.example.com: callers are proven",
            "GET|HEAD|POST|PUT|PATCH|DELETE /msg/send binds sendID = caller; platforms IOS, Android",
            "",
            "routes[3] no chain, to openim: public: anybody may call it",
            "GET /object/* stream",
            "",
            "routes[4] no chain, to backend: public: anybody may call it",
            "GET|HEAD|POST|PUT|PATCH|DELETE /login/*",
            "",
            "7 routes; 3 paths are left out on purpose (see --closed)",
        ]
    );
    let elsewhere = list(&["--host", "b.example.com"]);
    assert!(!elsewhere.contains("/msg/send") && elsewhere.contains("/api/group/info"), "{elsewhere}");
    assert!(list(&["--host", "A.example.com:443"]).contains("/msg/send"));
}

#[test]
fn what_is_left_out_is_listed_with_its_reason() {
    let listed = lines(&list(&["--closed"]));
    assert_eq!(
        listed,
        [
            "routes[1] table user.yaml",
            "/api/user/all lists all users",
            "/api/msg/old nobody calls it (released line only)",
            "/api/third/prometheus leads into Grafana",
        ]
    );
    let dir = folder();
    let explained = imgate(dir.path(), &["explain", "-c", "imgate.yaml", "POST", "/api/user/all"]).ok();
    assert_eq!(
        lines(&explained),
        ["POST /api/user/all", "refused: 404, no route", "left out lists all users (user.yaml:7:5)"]
    );
}

#[test]
fn machines_read_the_list_as_json() {
    let read = |more: &[&str]| -> Vec<Value> {
        serde_json::from_str(&list(&[&["--format", "json"], more].concat())).unwrap()
    };
    let routes = read(&[]);
    assert_eq!(routes.len(), 7);
    let update = &routes[1];
    assert_eq!(
        (&update["methods"], &update["path"]),
        (&serde_json::json!(["POST"]), &"/api/user/update".into())
    );
    assert_eq!((&update["upstream"], &update["upstream_path"]), (&"openim".into(), &"/user/update".into()));
    assert_eq!((&update["chain"], &update["access"]), (&"user".into(), &"callers are proven".into()));
    assert_eq!(
        update["bind"],
        serde_json::json!({ "check": ["userInfo.userID"], "optional": [], "each": [], "any": [], "force": [], "empty": [] })
    );
    assert_eq!((&update["max_body"], &update["timeout_ms"]), (&1_048_576.into(), &9000.into()));
    assert_eq!((&update["place"], &update["source"]), (&"routes[1]".into(), &"user.yaml:3:5".into()));
    assert_eq!(
        (&routes[2]["line"], &routes[4]["platforms"]),
        (&"development".into(), &"IOS, Android".into())
    );
    assert_eq!(routes[0]["bind"], Value::Null);
    let closed = read(&["--closed"]);
    assert_eq!((&closed[0]["path"], &closed[0]["why"]), (&"/api/user/all".into(), &"lists all users".into()));
    assert_eq!((&closed[1]["upstream_path"], &closed[1]["line"]), (&"/msg/old".into(), &"released".into()));
}

/// Compares with the router after this was done to it.
fn diff(change: impl FnOnce(&str) -> String, more: &[&str]) -> Ran {
    let dir = folder();
    std::fs::write(dir.path().join("router.go"), change(ROUTER)).unwrap();
    let arguments = ["routes", "diff", "-c", "imgate.yaml", "--router", "router.go"];
    imgate(dir.path(), &[&arguments[..], more].concat())
}

#[test]
fn a_router_that_the_tables_know_is_clean() {
    let ran = diff(str::to_owned, &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(
        lines(&ran.stdout),
        [
            "gone, as the tables say (1)",
            "/msg/old user.yaml:8:5 left out of the released line",
            "",
            "7 routes against 1 table: every route is known",
        ]
    );
    // On its own line it should be there; on the other, what is there should not.
    let ran = diff(str::to_owned, &["--line", "released"]);
    assert_eq!(ran.code, 0);
    let said = lines(&ran.stdout);
    assert!(said.contains(&"gone: a table has it, OpenIM has not (1)".to_owned()), "{said:#?}");
    assert!(
        said.contains(&"/user/config user.yaml:4:5 said to be of the development line".to_owned()),
        "{said:#?}"
    );
}

#[test]
fn a_route_that_no_table_knows_is_named_and_fails() {
    type Change = fn(&str) -> String;
    let cases: [(Change, &str, &str); 8] = [
        (
            |r| r.replace("//g.POST(\"/commented\"", "g.POST(\"/dump\""),
            "new: OpenIM has it, no table takes it or leaves it out (1)",
            "POST /group/dump router.go:12",
        ),
        (
            |r| {
                r.replace(
                    "user.POST(\"/all\", u.All)",
                    "user.POST(\"/all\", u.All).PUT(\n\"/more\",\nu.More)",
                )
            },
            "new: OpenIM has it, no table takes it or leaves it out (1)",
            "PUT /user/more router.go:8",
        ),
        (
            |r| {
                r.replace(
                    "g.GET(\"/*name\", t.Redirect)",
                    "g.GET(\"/*name\", t.Redirect)\n\tg.GET(\"/list\", t.List)",
                )
            },
            "new: OpenIM has it, no table takes it or leaves it out (1)",
            "GET /object/list router.go:22 let through by the prefix at imgate.yaml:16:15",
        ),
        (
            |r| r.replace("user.POST(\"/update\"", "user.GET(\"/update\""),
            "method changed (1)",
            "GET /user/update router.go:6 here POST at user.yaml:3:5",
        ),
        (
            |r| r.replace("user.POST(\"/update\"", "user.Any(\"/update\""),
            "method changed (1)",
            "ANY /user/update router.go:6 here POST at user.yaml:3:5",
        ),
        (
            |r| r.replace("g.GET(\"/*name\"", "g.Any(\"/*name\""),
            "new: OpenIM has it, no table takes it or leaves it out (1)",
            "ANY /object/*name router.go:21 let through by the prefix at imgate.yaml:16:15",
        ),
        (
            |r| r.replace("g.POST(\"/info\", a.Info)", "for p, h := range a.Routes() { g.POST(p, h) }"),
            "not understood: it may register routes (1)",
            "g.POST(...) router.go:11 the path is no constant",
        ),
        (
            |r| r.replace("return r\n", "pprof.Register(r)\nreturn r\n"),
            "not understood: it may register routes (1)",
            "r router.go:17 the group is passed on",
        ),
    ];
    for (change, title, line) in cases {
        let ran = diff(change, &[]);
        let said = lines(&ran.stdout);
        assert_eq!(ran.code, 1, "{said:#?}");
        for expected in [title, line] {
            assert!(said.iter().any(|said| said == expected), "{expected} in {said:#?}");
        }
        assert!(said.last().unwrap().ends_with("some routes are not known"), "{said:#?}");
    }
}

#[test]
fn what_is_gone_is_told_and_does_no_harm() {
    let ran = diff(
        |r| r.replace("user.POST(\"/update\", u.Update)", "").replace("user.POST(\"/config\", u.Config)", ""),
        &[],
    );
    let said = lines(&ran.stdout);
    assert_eq!(ran.code, 0, "{said:#?}");
    for expected in ["/user/update user.yaml:3:5", "/user/config user.yaml:4:5 of the development line"] {
        assert!(said.iter().any(|said| said == expected), "{expected} in {said:#?}");
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let cases: [(&str, &[&str], u8, &str); 5] = [
        ("package api\n", &[], 64, "nothing registers a route there"),
        ("package api\nvar a = \"", &[], 64, "router.go: no Go source: line 2: a string does not end"),
        (ROUTER, &["--router", "absent.go"], 66, "absent.go: No such file"),
        (ROUTER, &["--upstream", "opnim"], 64, "no upstream named `opnim`"),
        (ROUTER, &["--upstream", "backend"], 0, ""),
    ];
    for (router, more, code, text) in cases {
        let ran = diff(|_| router.to_owned(), more);
        if code == 0 {
            // Asked of an upstream that is not OpenIM's, nothing is known.
            assert_eq!(ran.code, 1);
            assert!(ran.stdout.contains("7 routes against 0 tables"), "{}", ran.stdout);
            continue;
        }
        assert_eq!((ran.code, ran.stdout.as_str()), (i32::from(code), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
    assert_eq!(imgate(Path::new("."), &["routes"]).code, 2);
}
