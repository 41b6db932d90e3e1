//! Agreement with the Python packages `http-message-signatures` and `cryptography`, both ways.
//!
//! Needs `python3` with `venv` and `pip`, and once a package index; without them the tests fail, because
//! an agreement nobody checked is none.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

#[path = "python/sealed.rs"]
mod sealed;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::{HttpKey, Nonce, Presented, Signature, Target, sign};
use imgate_identity::time::UnixTime;
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");
const CREATED: u64 = 1_700_000_000;
const NONCE: &str = "0123456789abcdefABCDEF";

/// The secret, and the key as `vectors/http-key.json` has it: the other side derives nothing of its own.
static KEY: LazyLock<(SessionSecret, Vec<u8>)> = LazyLock::new(|| {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/http-key.json")).unwrap();
    let secret = SessionSecret::from_base64(vectors[1]["secret"].as_str().unwrap()).unwrap();
    let hex = vectors[1]["key"].as_str().unwrap();
    let key = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap());
    (secret, key.collect())
});

struct Request {
    url: &'static str,
    target: Target<'static>,
    body: Option<&'static str>,
}

const REQUESTS: [Request; 8] = [
    get("https://im.example.com/ping", "im.example.com", "/ping", None),
    get("https://im.example.com", "im.example.com", "/", None),
    get("https://im.example.com/?a=", "im.example.com", "/", Some("a=")),
    get("https://IM.example.com:443/b?b=2&a=1&b=%41+%20", "im.example.com", "/b", Some("b=2&a=1&b=%41+%20")),
    get("https://im.example.com:8443/%41%2fb//c;d", "im.example.com:8443", "/%41%2fb//c;d", None),
    get("https://[2001:db8::1]:8443/x?y", "[2001:db8::1]:8443", "/x", Some("y")),
    post("https://im.example.com/msg/send_msg", "/msg/send_msg", r#"{"content":"你好"}"#),
    post("https://im.example.com/msg/send_msg", "/msg/send_msg", ""),
];

const fn get(
    url: &'static str,
    authority: &'static str,
    path: &'static str,
    query: Option<&'static str>,
) -> Request {
    Request { url, target: Target { method: "GET", authority, path, query }, body: None }
}

const fn post(url: &'static str, path: &'static str, body: &'static str) -> Request {
    let target = Target { method: "POST", authority: "im.example.com", path, query: None };
    Request { url, target, body: Some(body) }
}

fn session() -> SessionId {
    SessionId::from_bytes([5; 16])
}

fn our_key() -> HttpKey {
    HttpKey::derive(&KEY.0)
}

impl Request {
    fn to_json(&self) -> Value {
        json!({
            "method": self.target.method,
            "url": self.url,
            "body": self.body,
            "key": STANDARD.encode(&KEY.1),
            "key_id": session().to_string(),
            "created": CREATED,
            "nonce": NONCE,
        })
    }

    fn signed_by_us(&self) -> Value {
        let nonce = Nonce::parse(NONCE).unwrap();
        let body = self.body.map(str::as_bytes);
        let signed = sign(&our_key(), &session(), &self.target, body, UnixTime(CREATED), &nonce);
        let mut headers = json!({ "Signature-Input": signed.signature_input, "Signature": signed.signature });
        if let Some(digest) = signed.content_digest {
            headers["Content-Digest"] = digest.into();
        }
        let mut request = self.to_json();
        request["headers"] = headers;
        request
    }
}

#[test]
fn their_signatures_verify_here() {
    let signed = run("sign", &REQUESTS.iter().map(Request::to_json).collect());
    for (request, headers) in REQUESTS.iter().zip(&signed) {
        let presented = Presented {
            signature_input: headers["Signature-Input"].as_str().unwrap().as_bytes(),
            signature: headers["Signature"].as_str().unwrap().as_bytes(),
            content_digest: headers["Content-Digest"].as_str().map(str::as_bytes),
        };
        let signature = Signature::parse(presented).unwrap_or_else(|e| panic!("{}: {e}", request.url));
        assert_eq!(signature.covers_body(), request.body.is_some(), "{}", request.url);
        assert_eq!(signature.verify(&our_key(), &request.target), Ok(()), "{}", request.url);
        assert_eq!(signature.check_digest(request.body.unwrap_or_default().as_bytes()), Ok(()));
        assert!(signature.verify(&our_key(), &Target { path: "/other", ..request.target }).is_err());
    }
}

#[test]
fn our_signatures_verify_there() {
    let verdicts = run("verify", &REQUESTS.iter().map(Request::signed_by_us).collect());
    for (request, verdict) in REQUESTS.iter().zip(&verdicts) {
        assert_eq!(*verdict, Value::Null, "{}", request.url);
    }
}

#[test]
fn our_signatures_of_other_requests_are_refused_there() {
    let changes = [
        ("method", json!("PUT")),
        ("url", json!("https://im.example.com/msg/revoke_msg")),
        ("url", json!("https://im.example.com/msg/send_msg?a=1")),
        ("url", json!("https://evil.example.com/msg/send_msg")),
        ("body", json!("another")),
        ("key", json!(STANDARD.encode([0; 32]))),
        ("key_id", json!("another")),
    ];
    let changed = |(field, value): &(&str, Value)| {
        let mut request = REQUESTS[6].signed_by_us();
        request[*field] = value.clone();
        request
    };
    let verdicts = run("verify", &changes.iter().map(changed).collect());
    for (change, verdict) in changes.iter().zip(&verdicts) {
        assert!(verdict.is_string(), "{change:?}");
    }
}

/// Runs `agree.py` over `requests` and gives back what it made of each.
fn run(direction: &str, requests: &Vec<Value>) -> Vec<Value> {
    let output = python(&format!("{FOLDER}/agree.py"), &[direction], &serde_json::to_vec(requests).unwrap());
    let answers: Vec<Value> = serde_json::from_slice(&output).unwrap();
    assert_eq!(answers.len(), requests.len());
    answers
}

/// Runs a script on some input and gives back what it printed.
fn python(script: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let python = PYTHON.as_ref().unwrap_or_else(|needs| panic!("{needs}"));
    let mut child = Command::new(python)
        .args(["-B", script])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the interpreter of the virtual environment starts");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} {arguments:?} failed");
    output.stdout
}

/// The interpreter of a virtual environment with the pinned packages, made on first use, or what it lacks.
static PYTHON: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-agree");
    let python = home.join("bin/python");
    let (wanted, installed) = (format!("{FOLDER}/requirements.txt"), home.join("requirements.txt"));
    if fs::read(&wanted).unwrap() == fs::read(&installed).unwrap_or_default() {
        return Ok(python);
    }
    must("python3", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", &wanted];
    must("pip", Command::new(&python).args(pip))?;
    // Last, so that a broken installation is made again.
    fs::copy(&wanted, &installed).unwrap();
    Ok(python)
});

fn must(what: &str, command: &mut Command) -> Result<(), String> {
    let outcome = match command.status() {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(format!(
        "this test needs {what} ({outcome}): install python3 with venv and pip, and let pip reach an index"
    ))
}
