//! The real gateway as a process of its own, before the stand-in and on the Redis it is given.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use openim_standin::Standin;
use tempfile::TempDir;

use crate::redis_server::RedisServer;

/// The name clients sign for.
pub(crate) const HOST: &str = "im.example.com";

/// How long the gateway may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running gateway. Dropping it ends the process.
pub(crate) struct Gateway {
    child: Child,
    _dir: TempDir,
    pub(crate) address: SocketAddr,
}

impl Gateway {
    /// Starts it on a free port and waits until it serves.
    pub(crate) async fn start(openim: &Standin, redis: &RedisServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("imgate.yaml"), yaml(openim, redis)).unwrap();
        let stderr = std::fs::File::create(dir.path().join("stderr.log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_imgate"))
            .args(["run", "-c", "imgate.yaml"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let address = announced(&mut child, &dir.path().join("stderr.log")).await;
        Self { child, _dir: dir, address }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn yaml(openim: &Standin, redis: &RedisServer) -> String {
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
public_url: https://{HOST}
access_log: {{ output: off }}
identity:
  store: {{ redis: {{ url: "redis://{redis}" }} }}
upstreams:
  openim_api: {{ servers: ["{api}"] }}
chains:
  user:
    - operation_id: {{}}
    - verify_signature: {{}}
    - resolve_token: {{}}
    - strip_credentials: {{}}
    - inject_token: {{}}
routes:
  - {{ path: /msg/newest_seq, methods: [POST], upstream: openim_api, chain: user }}
"#,
        redis = redis.address(),
        api = openim.api(),
    )
}

/// Waits for the line by which the gateway says where it listens.
async fn announced(child: &mut Child, stderr: &Path) -> SocketAddr {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(stderr).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut listening = lines.filter(|line| line["message"] == "listening");
        if let Some(address) = listening.find_map(|line| line["address"].as_str()?.parse().ok()) {
            return address;
        }
        let gone = child.try_wait().unwrap();
        assert!(gone.is_none() && Instant::now() < give_up, "gateway did not start ({gone:?}):\n{text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
