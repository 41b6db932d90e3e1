//! A real S3 server that checks every signature, and somebody else's code that makes them.
//!
//! The server is `s3s-fs`, installed by cargo; signatures are made by `botocore`, installed by pip. Both
//! stay outside the repository. Without them the tests fail: an agreement nobody checked is none.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::leaks;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/objects_s3");
/// The newest that builds with the compiler of the workspace's lower bound for tools.
const VERSION: &str = "0.14.1";
const ACCESS: &str = "openim-access";
const SECRET: &str = "a-secret-of-the-storage-for-tests";
const REGION: &str = "us-east-1";

/// The bucket that is there.
pub(super) const BUCKET: &str = "openim";

/// A running S3 server with one bucket. Dropping it ends it.
pub(super) struct Storage {
    pub(super) address: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl Storage {
    pub(super) fn start() -> Self {
        leaks::secret(SECRET);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let mut child = Command::new(&*SERVER)
            .args(["--host", "127.0.0.1", "--port", "0", "--access-key", ACCESS, "--secret-key", SECRET])
            .arg(dir.path())
            .env("RUST_LOG", "s3s_fs=info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("running at http://").map(|(_, address)| address.trim().to_owned())
        });
        let address = said.expect("the server says where it listens").parse().unwrap();
        // It says more; a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { address, child, _dir: dir }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A URL as a client uses it: `target` goes to the gateway with `host` as its `Host`.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) host: String,
    pub(super) target: String,
}

/// Signs URLs for a host: each an operation and its parameters, of which the bucket is known.
pub(super) fn urls(host: &str, jobs: &[(&str, Value)]) -> Vec<Signed> {
    let job = |(operation, params): &(&str, Value)| {
        let mut params = params.clone();
        params["Bucket"] = BUCKET.into();
        json!({ "kind": "url", "endpoint": format!("https://{host}"), "operation": operation, "params": params })
    };
    sign(&jobs.iter().map(job).collect::<Vec<_>>()).iter().map(|url| parse(url.as_str().unwrap())).collect()
}

fn parse(url: &str) -> Signed {
    let (host, target) = url.strip_prefix("https://").unwrap().split_once('/').unwrap();
    let signature = target.split("X-Amz-Signature=").nth(1).unwrap();
    leaks::secret(signature.split('&').next().unwrap());
    Signed { host: host.to_owned(), target: format!("/{target}") }
}

/// Signs a request in its headers, its body left out.
pub(super) fn headers(method: &str, host: &str, target: &str) -> Vec<(String, String)> {
    let url = format!("https://{host}{target}");
    let made = sign(&[json!({ "kind": "headers", "method": method, "url": url })]).remove(0);
    let made = made.as_object().unwrap().iter();
    made.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// The fields of a form that uploads one object.
pub(super) fn form(host: &str, key: &str) -> Vec<(String, String)> {
    let endpoint = format!("https://{host}");
    let made =
        sign(&[json!({ "kind": "form", "endpoint": endpoint, "bucket": BUCKET, "key": key })]).remove(0);
    let made = made.as_object().unwrap().iter();
    made.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn sign(jobs: &[Value]) -> Vec<Value> {
    let mut child = Command::new("timeout")
        .arg("60")
        .arg(&*PYTHON)
        .args(["-B", &format!("{FOLDER}/sign.py"), ACCESS, SECRET, REGION])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "sign.py failed: {}", output.status);
    let results: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!(results.len(), jobs.len());
    results
}

/// Where tools are kept that Debian does not package; the Makefile has the same rule.
fn tools() -> PathBuf {
    let given = std::env::var_os("TOOLS").map(PathBuf::from);
    let cache = || std::env::var_os("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("imgate"));
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/imgate");
    given.or_else(cache).unwrap_or_else(home)
}

/// The server, built once on each machine. Its speed is not what is tested.
static SERVER: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = tools().join(format!("s3s-fs-{VERSION}"));
    let program = root.join("bin/s3s-fs");
    if !program.exists() {
        let mut install = Command::new(env!("CARGO"));
        install.args(["install", "--quiet", "--locked", "s3s-fs", "--version", VERSION]);
        install.args(["--features", "binary", "--root"]).arg(&root);
        install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        install.env("CARGO_PROFILE_RELEASE_LTO", "off").env_remove("CARGO_TARGET_DIR");
        must("cargo install s3s-fs", &mut install);
    }
    program
});

/// Python with botocore.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-s3");
    let (python, mark) = (home.join("bin/python"), home.join("installed"));
    let wanted = format!("{FOLDER}/requirements.txt");
    let list = fs::read(&wanted).unwrap();
    if fs::read(&mark).is_ok_and(|installed| installed == list) {
        return python;
    }
    must("python3 with venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", &wanted];
    must("pip", Command::new(&python).args(pip));
    // Last, so that a broken installation is made again.
    fs::write(mark, list).unwrap();
    python
});

fn must(what: &str, command: &mut Command) {
    let outcome = match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => return,
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    panic!("this test needs {what} ({outcome}), and once the index of its packages");
}
