//! HTTP/2 as hostile clients speak it: whatever they do, it ends, memory is bounded and others are served.
//!
//! Needs `python3` with `venv` and `pip`, and once a package index; and `h2load`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use openim_standin::{Options, Standin};
use serde_json::Value;

use crate::support::certificates::Authority;
use crate::support::{Act, Gateway, HOST, Person, RedisServer, Setup, Upstream, ok};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/http2");

/// What one hostile connection may cost, in bytes, with what a busy process grows by anyway.
const ROOM: f64 = 48.0 * 1024.0 * 1024.0;

struct World {
    gateway: Gateway,
    ann: Person,
    _upstream: Upstream,
    _openim: Standin,
    _redis: RedisServer,
}

/// A gateway with these limits, and an answer of this size at `/large`.
async fn world(limits: &str, size: usize) -> World {
    let authority = Authority::new();
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let large = ok(&"x".repeat(size));
    let upstream = Upstream::start(move |_| {
        let large = large.clone();
        async { vec![Act::Send(large)] }
    })
    .await;
    let mut setup = Setup::new(&openim, &redis).patient();
    let pair = authority.issue(&[HOST]);
    setup.files = vec![
        ("im.crt".to_owned(), pair.certificate),
        ("im.key".to_owned(), pair.key),
        ("ca.pem".to_owned(), authority.pem()),
    ];
    setup.listeners =
        r#"{ address: "127.0.0.1:0", http2: true, tls: { certificate: im.crt, key: im.key } }"#.to_owned();
    setup.upstreams = format!("  seen: {{ servers: [\"{}\"] }}", upstream.address);
    setup.routes = "  - { path: /large, upstream: seen, stream: true, public: true }".to_owned();
    setup.more = format!("limits: {{ {limits} }}");
    World { gateway: setup.start().await, ann, _upstream: upstream, _openim: openim, _redis: redis }
}

/// A gateway that soon loses patience.
async fn impatient() -> World {
    world("client_timeout: 2s, keepalive_timeout: 3s", 300_000).await
}

/// How a hostile connection ended.
#[derive(Debug)]
struct Ended {
    /// By the server.
    closed: bool,
    /// The error of its GOAWAY.
    code: Option<i64>,
    /// How many frames it took until then.
    sent: i64,
    /// How many requests were reset, by error.
    resets: Value,
}

impl World {
    fn folder(&self) -> PathBuf {
        self.gateway.config().parent().unwrap().to_owned()
    }

    async fn memory(&self) -> f64 {
        self.gateway.metric("process_resident_memory_bytes").await
    }

    /// Lets a client do its worst, and sees that others are served meanwhile and memory is bounded.
    async fn suffers(&self, attack: &'static str) -> Ended {
        let before = self.memory().await;
        let (port, ca) = (self.gateway.address.port().to_string(), self.folder().join("ca.pem"));
        let running = tokio::task::spawn_blocking(move || {
            Command::new(python())
                .arg(Path::new(FOLDER).join("abuse.py"))
                .args([attack, &port])
                .arg(ca)
                .output()
        });
        while !running.is_finished() {
            self.serves();
            let grown = self.memory().await - before;
            assert!(grown < ROOM, "{attack}: {grown} bytes");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        let ended = parse(attack, &running.await.unwrap().unwrap());
        self.serves();
        ended
    }

    /// Somebody else's request goes through, by HTTP/2.
    fn serves(&self) {
        let sent = self.ann.post("/friend/get_friend_list", r#"{"userID":"ann"}"#);
        let port = self.gateway.address.port();
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-H", "Content-Type: application/json"]);
        curl.args(["--http2", "--cacert", "ca.pem", "--max-time", "20", "-d", r#"{"userID":"ann"}"#]);
        for (name, value) in &sent.headers {
            curl.args(["-H", &format!("{name}: {value}")]);
        }
        let ran = curl
            .args(["--connect-to", &format!("{HOST}:443:127.0.0.1:{port}"), "-w", " %{http_version}"])
            .arg(format!("https://{HOST}/friend/get_friend_list"))
            .current_dir(self.folder())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let error = String::from_utf8_lossy(&ran.stderr);
        assert!(said.contains("\"errCode\":0") && said.ends_with(" 2"), "{said} {error}");
    }
}

fn parse(attack: &str, ran: &Output) -> Ended {
    let error = String::from_utf8_lossy(&ran.stderr);
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{attack}: {error}"));
    Ended {
        closed: said["closed"].as_bool().unwrap(),
        code: said["code"].as_i64(),
        sent: said["sent"].as_i64().unwrap(),
        resets: said["resets"].clone(),
    }
}

/// The interpreter of a virtual environment with the pinned packages, made on first use.
fn python() -> PathBuf {
    use std::sync::LazyLock;
    static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-http2");
        let python = home.join("bin/python");
        let (wanted, installed) = (Path::new(FOLDER).join("requirements.txt"), home.join("requirements.txt"));
        if std::fs::read(&wanted).unwrap() == std::fs::read(&installed).unwrap_or_default() {
            return python;
        }
        must("python3 with venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"];
        must("pip and an index", Command::new(&python).args(pip).arg(&wanted));
        // Last, so that a broken installation is made again.
        std::fs::copy(&wanted, &installed).unwrap();
        python
    });
    PYTHON.clone()
}

fn must(what: &str, command: &mut Command) {
    let status = command.status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "needs {what}: {status:?}");
}

/// Connections that are closed for what they do, after so many frames at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_connections_are_closed() {
    let w = impatient().await;
    for (attack, most) in [
        ("rapid_reset", 60_000),
        ("made_you_reset", 60_000),
        ("continuation_flood", 1_000),
        ("empty_data_flood", 200_000),
        ("settings_flood", 10_000_000),
        ("ping_flood", 10_000_000),
        ("hpack_bomb", 5_000),
        ("window_stall", 1_000),
        ("silence", 10),
    ] {
        let ended = w.suffers(attack).await;
        assert!(ended.closed && ended.sent <= most, "{attack}: {ended:?}");
    }
}

/// What costs the server nothing may go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_odd_costs_nothing() {
    let w = impatient().await;
    let ended = w.suffers("priority_flood").await;
    assert!(ended.closed || ended.sent > 100_000, "{ended:?}");
    let ended = w.suffers("many_streams").await;
    let refused = ended.resets["7"].as_i64().unwrap_or(0);
    assert!(ended.closed || refused > 0 || ended.code.is_some(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_is_served_without_an_error() {
    let w = world("shed: { target: 0s }", 20_000).await;
    let ran = Command::new("h2load")
        .args(["-n", "1000", "-c", "10", "-m", "20", "--connect-to"])
        .arg(w.gateway.address.to_string())
        .arg(format!("https://{HOST}/large"))
        .output()
        .expect("h2load of nghttp2-client");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let last = w.gateway.access_log().pop();
    assert!(said.contains("1000 succeeded, 0 failed, 0 errored, 0 timeout"), "{last:?} {said}");
    assert!(said.contains("1000 2xx"), "{said}");
}
