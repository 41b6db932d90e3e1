//! The `imgate` command as operators run it: what it prints, how it exits, and what it never shows.

mod doctor;
mod keeping;
mod schema;

use std::path::Path;
use std::time::{Duration, Instant};

use imgate_identity::session::SessionId;
use openim_standin::{Options, Standin};
use serde_json::Value;

use crate::support::command::{imgate, imgate_telling, shell};
use crate::support::{Closed, Gateway, Person, RedisServer, Sent, Setup, eventually, leaks, writer};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann","note":"it's \"quoted\" $HOME"}"#;

/// OpenIM's shared secret in these tests.
const ADMIN_SECRET: &str = "the-shared-secret-of-openim";

struct World {
    openim: Standin,
    redis: RedisServer,
    gateway: Gateway,
}

async fn world() -> World {
    leaks::secret(ADMIN_SECRET);
    let options = Options { secret: ADMIN_SECRET.to_owned(), ..Options::default() };
    let openim = Standin::start(options).await.unwrap();
    let redis = RedisServer::start();
    let gateway = Setup::new(&openim, &redis).patient().start().await;
    World { openim, redis, gateway }
}

impl World {
    fn dir(&self) -> std::path::PathBuf {
        self.gateway.config().parent().unwrap().to_owned()
    }

    /// Puts a secret into a file and gives its name.
    fn file(&self, name: &str, secret: &str) -> String {
        std::fs::write(self.dir().join(name), secret).unwrap();
        name.to_owned()
    }

    /// What Redis holds under this key.
    async fn stored(&self, key: &str) -> String {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("GET").arg(key).query_async(&mut connection).await.unwrap()
    }

    /// Runs a command that takes the gateway's configuration. The stand-in lives in this process, so
    /// the command runs beside it.
    async fn run(&self, arguments: &[&str]) -> crate::support::command::Ran {
        self.run_as(imgate, arguments).await
    }

    async fn run_as(
        &self,
        how: fn(&Path, &[&str]) -> crate::support::command::Ran,
        arguments: &[&str],
    ) -> crate::support::command::Ran {
        let (dir, arguments) = (self.dir(), arguments.iter().map(|&a| a.to_owned()).collect::<Vec<_>>());
        let run = move || how(&dir, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.unwrap()
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

/// A configuration in a folder of its own, with this done to it.
fn written(change: impl FnOnce(String) -> String) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let nobody = "127.0.0.1:9".parse().unwrap();
    let mut setup = Setup::at(nobody, nobody, "");
    setup.store = "memory: {}".to_owned();
    std::fs::write(dir.path().join("imgate.yaml"), change(setup.yaml())).unwrap();
    dir
}

#[test]
fn help_lists_every_subcommand() {
    let help = imgate(Path::new("."), &["--help"]).ok();
    for command in [
        "run", "check", "explain", "doctor", "schema", "routes", "sign", "session", "token", "ban", "store",
        "seal-key", "demo",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command}");
        assert!(imgate(Path::new("."), &[command, "--help"]).ok().contains("Usage: imgate"), "{command}");
    }
    let version = imgate(Path::new("."), &["--version"]).ok();
    assert_eq!(version.trim(), format!("imgate {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(imgate(Path::new("."), &["serve"]).code, 2);
}

#[test]
fn a_good_configuration_is_checked_without_opening_a_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = written(|yaml| yaml.replacen("127.0.0.1:0", &address, 1));
    let said = imgate(dir.path(), &["check", "-c", "imgate.yaml"]).ok();
    assert!(said.contains("imgate.yaml: ok, ") && said.contains(" routes, 2 chains"), "{said}");
    // The shipped files are good ones, too.
    let conf = concat!(env!("CARGO_MANIFEST_DIR"), "/conf");
    imgate(Path::new(conf), &["check", "-c", "imgate.yaml"]).ok();
}

#[test]
fn a_bad_configuration_is_refused_by_check_and_run_alike() {
    type Change = fn(String) -> String;
    let cases: [(Change, &str, &str); 4] = [
        (
            |yaml| yaml.replacen("chain: user", "chain: usr", 1),
            "no chain named `usr`",
            "did you mean `user`?",
        ),
        (|yaml| yaml.replacen("admin:", "amdin:", 1), "unknown key `amdin`", "did you mean `admin`?"),
        (
            |yaml| yaml.replacen("memory: {}", "redis: { url: \"redis://:pw@h\" }", 1),
            "holds a password",
            "{ file",
        ),
        (|_| "listeners: [".to_owned(), "imgate.yaml:1:", ""),
    ];
    for (change, text, hint) in cases {
        let dir = written(change);
        for command in ["check", "run"] {
            let ran = imgate(dir.path(), &[command, "-c", "imgate.yaml"]);
            assert_eq!((ran.code, ran.stdout.as_str()), (78, ""), "{command}: {}", ran.stderr);
            assert!(ran.stderr.starts_with("error: imgate.yaml:"), "{command}: {}", ran.stderr);
            assert!(ran.stderr.contains(text) && ran.stderr.contains(hint), "{command}: {}", ran.stderr);
            assert!(!ran.stderr.contains(":pw@"), "{}", ran.stderr);
        }
    }
    let ran = imgate(Path::new("/"), &["check", "-c", "/no/such.yaml"]);
    assert_eq!(ran.code, 78);
    assert!(ran.stderr.contains("/no/such.yaml: cannot be read: No such file"), "{}", ran.stderr);
}

#[test]
fn a_taken_port_ends_the_start_at_once_with_the_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for nth in ["listeners: [{ address: \"127.0.0.1:0\"", "admin: { address: \"127.0.0.1:0\""] {
        let dir = written(|yaml| yaml.replacen(nth, &nth.replace("127.0.0.1:0", &address), 1));
        let began = Instant::now();
        let ran = imgate(dir.path(), &["run", "-c", "imgate.yaml"]);
        assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
        assert_eq!(ran.code, 69, "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("error: cannot listen on {address}: Address already in use")));
    }
}

#[test]
fn explain_tells_the_way_of_a_request() {
    let dir = written(|yaml| yaml);
    let explain = |method: &str, path: &str| {
        let text = imgate(dir.path(), &["explain", "-c", "imgate.yaml", method, path]).ok();
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let cases: [(&str, &str, &[&str]); 7] = [
        (
            "POST",
            FRIENDS,
            &[
                "route /friend/get_friend_list",
                "access callers are proven",
                "chain user",
                "1. operation_id",
                "2. verify_signature",
                "3. bind_identity",
                "4. resolve_token",
                "5. strip_credentials removes signature, signature-input, content-digest, authorization, proxy-authorization, cookie, token",
                "6. inject_token",
                "rules binds userID = caller",
                "way exchange: whole request (at most 65536 bytes), whole answer",
                "upstream openim_api (127.0.0.1:9), as /friend/get_friend_list",
                "timeout 9000 ms until the answer begins",
            ],
        ),
        (
            "POST",
            "/third/logs/upload",
            &["way exchange: whole request (at most 8388608 bytes), whole answer"],
        ),
        (
            "GET",
            "/ws?token=a-token-that-nobody-repeats",
            &[
                "GET /ws",
                "chain socket",
                "1. verify_socket",
                "way tunnel: WebSocket, ended after 120 s of silence",
                "upstream openim_ws (127.0.0.1:9), as /ws",
            ],
        ),
        (
            "GET",
            "/object/u/x.png",
            &["route /object/*", "access public: anybody may call it", "way stream: bytes as they come"],
        ),
        ("GET", "/no/such", &["refused: 404, no route"]),
        ("GET", FRIENDS, &["refused: 405, this path takes POST"]),
        ("GET", "/object/../x", &["refused: 400, the path can be read in two ways (path_dot_segment)"]),
    ];
    for (method, path, expected) in cases {
        let lines = explain(method, path);
        for line in expected {
            assert!(lines.iter().any(|l| l.starts_with(line)), "{line} in {lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.contains("nobody-repeats")), "{lines:?}");
    }
}

#[tokio::test]
async fn signed_headers_are_accepted_by_the_gateway() {
    let w = world().await;
    let mut ann = Person::unknown("ann", &w.openim);
    // It begins with `-`, as one of 64 does, and is no option for that.
    ann.session = SessionId::from_bytes([0xfb; 16]);
    let store = writer(&w.redis).await;
    store.put_mark().await.unwrap();
    store.put_session(&ann.session, &ann.record).await.unwrap();
    store.put_token(&ann.user, &ann.token).await.unwrap();
    let secret = w.file("secret", &format!("{}\n", ann.secret().expose()));
    let session = ann.session.to_string();
    let url = format!("http://{}{FRIENDS}?a=%20b", w.gateway.address);
    let common = ["sign", "--session", &session, "--secret-file", &secret, "--authority", "im.example.com"];
    let sign = async |more: &[&str]| w.run(&[&common[..], more].concat()).await.ok();

    let headers = sign(&["--data", BODY, &url]).await;
    let target = format!("{FRIENDS}?a=%20b");
    let sent = headers
        .lines()
        .filter_map(|line| line.split_once(": "))
        .fold(Sent::new("POST", &target).without("Host"), |sent, (name, value)| sent.header(name, value));
    assert_eq!(w.gateway.send(&sent.clone().body(BODY.as_bytes())).await.verdict(), (200, 0));
    assert_eq!(w.gateway.send(&sent.body(b"{}")).await.status, 401);

    // The command that it prints survives a shell, and each one is good once.
    let curl = sign(&["--data", BODY, "--curl", &url]).await;
    for verdict in [0, 20105] {
        let curl = curl.clone();
        let said = tokio::task::spawn_blocking(move || shell(&curl)).await.unwrap().ok();
        assert_eq!(json(&said)["errCode"], verdict, "{said}");
    }
    let body = w.file("body.json", BODY);
    let curl = sign(&["--data-file", &body, "--curl", &url]).await;
    let said = tokio::task::spawn_blocking(move || shell(&curl)).await.unwrap().ok();
    assert_eq!(json(&said)["errCode"], 0, "{said}");
}

#[tokio::test]
async fn what_cannot_be_signed_is_explained() {
    let w = world().await;
    let ann = Person::unknown("ann", &w.openim);
    let session = ann.session.to_string();
    let good = w.file("secret", ann.secret().expose());
    let bad = w.file("no-secret", "c2hvcnQ=");
    let cases = [
        ([&*session, &good, "im.example.com/x"], 64),
        ([&*session, &good, "/x"], 64),
        ([&*session, &bad, "http://h/x"], 64),
        ([&*session, "no-such-file", "http://h/x"], 66),
        (["no session", &good, "http://h/x"], 64),
    ];
    for ([session, secret, url], code) in cases {
        let ran = w.run(&["sign", "--session", session, "--secret-file", secret, url]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: ") && !ran.stderr.contains("c2hvcnQ"), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn a_session_made_by_hand_works_until_it_is_revoked() {
    let w = world().await;
    w.openim.register("ann");
    let created = ["session", "create", "-c", "imgate.yaml", "--user", "ann", "--platform", "android"];
    w.run(&["store", "mark", "-c", "imgate.yaml"]).await.ok();
    let shown = json(&w.run_as(imgate_telling, &created).await.ok());
    let (id, secret) = (shown["session_id"].as_str().unwrap(), shown["secret"].as_str().unwrap());
    // It is shown this once and never again.
    leaks::secret(secret);
    assert_eq!((&shown["user_id"], &shown["platform_id"]), (&"ann".into(), &2.into()));

    let admin = w.file("admin", ADMIN_SECRET);
    let mint = ["token", "mint", "-c", "imgate.yaml", "--user", "ann", "--platform", "2"];
    let minted = json(&w.run(&[&mint[..], &["--admin-secret-file", &admin]].concat()).await.ok());
    assert_eq!(minted["tokens"][0]["platform"], "Android");
    let token = w.stored("im:token:ann").await;
    leaks::secret(&token);
    leaks::none_in("what mint printed", &minted.to_string());
    let shown = json(&w.run(&["token", "show", "-c", "imgate.yaml", "--user", "ann"]).await.ok());
    assert_eq!((&shown["banned"], shown["tokens"].as_array().unwrap().len()), (&false.into(), 1));

    let secret_file = w.file("secret", secret);
    let url = format!("http://{}{FRIENDS}", w.gateway.address);
    let ask = async || {
        let sign = ["sign", "--session", id, "--secret-file", &secret_file, "--authority", "im.example.com"];
        let curl = w.run(&[&sign[..], &["--data", BODY, "--curl", &url]].concat()).await.ok();
        let said = tokio::task::spawn_blocking(move || shell(&curl)).await.unwrap().ok();
        json(&said)["errCode"].as_i64().unwrap()
    };
    assert_eq!(ask().await, 0);

    let named = |verb: &'static str| ["session", verb, "-c", "imgate.yaml", id];
    let live = json(&w.run(&named("show")).await.ok());
    assert_eq!((&live["standing"], &live["user_id"]), (&"live".into(), &"ann".into()));
    assert_eq!(live.get("secret"), None);

    w.run(&["token", "delete", "-c", "imgate.yaml", "--user", "ann"]).await.ok();
    eventually("the token is gone", async || ask().await == 1507).await;
    assert_eq!(w.run(&named("revoke")).await.ok(), "revoked\n");
    eventually("the session is revoked", async || ask().await == 1506).await;
    assert!(w.run(&named("revoke")).await.ok().starts_with("revoked already, at "));
    assert_eq!(json(&w.run(&named("show")).await.ok())["standing"], "revoked");
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_said_plainly() {
    let w = world().await;
    w.openim.register("ann");
    let wrong = w.file("wrong", "a-wrong-secret-of-openim");
    leaks::secret("a-wrong-secret-of-openim");
    let right = w.file("right", ADMIN_SECRET);
    writer(&w.redis).await.put_mark().await.unwrap();
    // It begins with `-`, as one of 64 does, and is no option for that.
    let unknown = SessionId::from_bytes([0xf8; 16]).to_string();
    let mint = |user: &'static str, platform: &'static str, file: &str| {
        let of = [
            "token",
            "mint",
            "-c",
            "imgate.yaml",
            "--user",
            user,
            "--platform",
            platform,
            "--admin-secret-file",
        ];
        of.iter().map(|&a| a.to_owned()).chain([file.to_owned()]).collect::<Vec<_>>()
    };
    let owned = |arguments: &[&str]| arguments.iter().map(|&a| a.to_owned()).collect::<Vec<_>>();
    let create = |user: &str, platform: &str| {
        owned(&["session", "create", "-c", "imgate.yaml", "--user", user, "--platform", platform])
    };
    let cases = [
        (mint("ann", "2", &wrong), 69, "refused with 1002 NoPermissionError"),
        (mint("nobody", "2", &right), 69, "/auth/get_user_token: refused with "),
        (mint("imAdmin", "2", &right), 64, "an OpenIM admin"),
        (mint("ann", "10", &right), 2, "no session may be an admin's"),
        (mint("ann", "2", "no-such-file"), 66, "no-such-file: No such file"),
        (owned(&["session", "show", "-c", "imgate.yaml", &unknown]), 69, "there is no such session"),
        (owned(&["session", "revoke", "-c", "imgate.yaml", &unknown]), 69, "there is no such session"),
        (owned(&["session", "show", "-c", "imgate.yaml", "x"]), 2, "invalid value 'x'"),
        (create("imAdmin", "2"), 64, "no session may be an admin's"),
        (create("ann", "toaster"), 2, "not one of OpenIM's platforms"),
        (create("a b", "2"), 2, "invalid value 'a b'"),
    ];
    for (arguments, code, text) in cases {
        let ran = w.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(text), "{arguments:?}: {}", ran.stderr);
    }
    // A refused mint wrote nothing.
    let shown = json(&w.run(&["token", "show", "-c", "imgate.yaml", "--user", "ann"]).await.ok());
    assert_eq!(shown["tokens"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_store_or_an_openim_that_is_away_is_named() {
    let gone = Closed::new();
    let mut w = world().await;
    w.openim.register("ann");
    let secret = w.file("admin", ADMIN_SECRET);
    let api = gone.address().to_string();
    let ran = w
        .run(&[
            "token",
            "mint",
            "-c",
            "imgate.yaml",
            "--user",
            "ann",
            "--platform",
            "2",
            "--admin-secret-file",
            &secret,
            "--api",
            &api,
        ])
        .await;
    assert_eq!(ran.code, 69, "{}", ran.stderr);
    assert!(ran.stderr.contains("OpenIM/auth/get_admin_token: upstream refused"), "{}", ran.stderr);

    assert_eq!(w.run(&["check", "-c", "imgate.yaml", "--store"]).await.code, 69, "the store has no mark");
    writer(&w.redis).await.put_mark().await.unwrap();
    w.run(&["check", "-c", "imgate.yaml", "--store"]).await.ok();
    w.redis.kill();
    for arguments in [
        &["check", "-c", "imgate.yaml", "--store"][..],
        &["token", "show", "-c", "imgate.yaml", "--user", "ann"],
        &["session", "create", "-c", "imgate.yaml", "--user", "ann", "--platform", "2"],
    ] {
        let ran = w.run(arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{arguments:?}");
        assert!(ran.stderr.contains("the store cannot be used"), "{}", ran.stderr);
    }
}
