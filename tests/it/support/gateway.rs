//! The real gateway binary on free ports, with a configuration of the test's own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use openim_standin::Standin;
use tempfile::TempDir;

use super::{Client, RedisServer, Reply, Sent, leaks};

/// The name clients sign for.
pub(crate) const HOST: &str = "im.example.com";

/// How long the gateway may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// The configuration of a test, in pieces that tests change.
pub(crate) struct Setup {
    /// The gateway's binary.
    pub(crate) program: PathBuf,
    /// The entries of `listeners`.
    pub(crate) listeners: String,
    /// Where the access log goes.
    pub(crate) access_log: String,
    pub(crate) store: String,
    pub(crate) cache: String,
    /// More lines of `identity`.
    pub(crate) identity: String,
    pub(crate) api: Vec<SocketAddr>,
    pub(crate) ws: SocketAddr,
    pub(crate) verify: String,
    /// More keys of the table of users' routes.
    pub(crate) users: String,
    pub(crate) routes: String,
    pub(crate) more: String,
    pub(crate) chains: String,
    pub(crate) upstreams: String,
    pub(crate) files: Vec<(String, String)>,
    /// More of its environment.
    pub(crate) environment: Vec<(String, String)>,
}

impl Setup {
    pub(crate) fn new(openim: &Standin, redis: &RedisServer) -> Self {
        Self::at(openim.api(), openim.ws(), redis.address().as_str())
    }

    pub(crate) fn at(api: SocketAddr, ws: SocketAddr, redis: &str) -> Self {
        Self {
            program: env!("CARGO_BIN_EXE_imgate").into(),
            listeners: r#"{ address: "127.0.0.1:0" }"#.to_owned(),
            access_log: "{ file: access.log }".to_owned(),
            store: format!("redis: {{ url: \"redis://{redis}\", timeout: 200ms }}"),
            cache: "ttl: 60s, stale_grace: 10s".to_owned(),
            identity: String::new(),
            api: vec![api],
            ws,
            verify: "replay: local".to_owned(),
            users: String::new(),
            routes: String::new(),
            more: String::new(),
            chains: String::new(),
            upstreams: String::new(),
            files: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Waits for Redis as long as it takes: for tests that are not about a slow one, on busy machines.
    pub(crate) fn patient(mut self) -> Self {
        self.store = self.store.replace("timeout: 200ms", "timeout: 10s, connect_timeout: 10s");
        self
    }

    pub(crate) fn yaml(&self) -> String {
        let api: Vec<String> = self.api.iter().map(|address| format!("\"{address}\"")).collect();
        format!(
            r#"
listeners: [{listeners}]
admin: {{ address: "127.0.0.1:0" }}
public_url: https://{HOST}
access_log: {{ output: {access_log} }}
identity:
  store: {{ {store} }}
  admin_users: [imAdmin]
  cache: {{ {cache} }}
{identity}
upstreams:
  openim_api: {{ servers: [{api}], connect_timeout: 1s, read_timeout: 5s }}
  openim_ws: {{ servers: ["{ws}"], connect_timeout: 1s }}
{upstreams}
chains:
  user:
    - operation_id: {{}}
    - verify_signature: {{ {verify} }}
    - bind_identity: {{}}
    - resolve_token: {{}}
    - strip_credentials: {{}}
    - inject_token: {{}}
  socket:
    - verify_socket: {{ mode: passthrough }}
{chains}
routes:
{routes}
  - {{ path: /ws, websocket: openim_ws, chain: socket }}
  - {{ table: {table}, upstream: openim_api, chain: user{users} }}
  - {{ prefix: /object/, methods: [GET, HEAD], upstream: openim_api, stream: true, public: true }}
{more}
"#,
            listeners = self.listeners,
            access_log = self.access_log,
            store = self.store,
            cache = self.cache,
            identity = self.identity,
            api = api.join(", "),
            ws = self.ws,
            verify = self.verify,
            users = self.users,
            table = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/openim-user.yaml"),
            routes = self.routes,
            more = self.more,
            chains = self.chains,
            upstreams = self.upstreams,
        )
    }

    pub(crate) async fn start(self) -> Gateway {
        Gateway::start(&self).await
    }
}

/// A running gateway. Dropping it ends the process and looks for secrets in all it wrote.
pub(crate) struct Gateway {
    child: Child,
    dir: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Gateway {
    async fn start(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in &setup.files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::fs::write(dir.path().join("imgate.yaml"), setup.yaml()).unwrap();
        let stderr = std::fs::File::create(dir.path().join("stderr.log")).unwrap();
        let child = Command::new(&setup.program)
            .args(["run", "-c", "imgate.yaml"])
            .current_dir(dir.path())
            .envs(setup.environment.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let none: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let mut gateway = Self { child, dir, address: none, admin: none };
        gateway.address = gateway.announced("listening").await;
        gateway.admin = gateway.announced("admin listening").await;
        gateway
    }

    /// Waits for the line by which the gateway says where it listens.
    async fn announced(&mut self, message: &str) -> SocketAddr {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(address) = self.addresses(message).first() {
                return *address;
            }
            let (gone, text) = (self.child.try_wait().unwrap(), self.stderr());
            assert!(gone.is_none() && Instant::now() < give_up, "gateway did not start ({gone:?}):\n{text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The addresses in the lines with this message so far.
    fn addresses(&self, message: &str) -> Vec<SocketAddr> {
        let text = self.stderr();
        let lines = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
        let said = lines.filter(|line| line["message"] == message);
        said.filter_map(|line| line["address"].as_str()?.parse().ok()).collect()
    }

    /// The addresses clients connect to, in the order of the configuration.
    pub(crate) fn listening(&self) -> Vec<SocketAddr> {
        self.addresses("listening")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("imgate.yaml")
    }

    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr.log")).unwrap()
    }

    /// The lines of the access log so far.
    pub(crate) fn access_log(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The line of one operation, waiting until it is written.
    pub(crate) async fn line(&self, operation_id: &str) -> serde_json::Value {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.access_log().into_iter().find(|l| l["operation_id"] == operation_id) {
                return line;
            }
            assert!(Instant::now() < give_up, "no access line for {operation_id}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn send(&self, sent: &Sent) -> Reply {
        let reply = Client::once(self.address, sent).await;
        leaks::none_in("an answer", &reply.text());
        reply
    }

    pub(crate) async fn admin_get(&self, path: &str) -> Reply {
        let reply = Client::once(self.admin, &Sent::new("GET", path)).await;
        leaks::none_in("the admin listener", &reply.text());
        reply
    }

    /// The value of a metric, by name and labels as rendered.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.admin_get("/metrics").await.text();
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.unwrap_or_else(|| panic!("no metric {name} in\n{text}")).parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < give_up, "gateway did not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // SIGTERM, so that the access log is written out before it is searched. The id of a process that
        // has ended may be somebody else's by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("-TERM");
        }
        let give_up = Instant::now() + Duration::from_secs(5);
        while Instant::now() < give_up && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- gateway's stderr\n{}", self.stderr());
            return;
        }
        leaks::none_in("the log", &self.stderr());
        let log = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        leaks::none_in("the access log", &log);
    }
}
