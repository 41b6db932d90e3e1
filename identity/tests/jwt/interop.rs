//! Tokens that others made verify here: the Python package `PyJWT`, the JavaScript package `jose`.
//!
//! Needs `python3` with `venv` and `pip`, `node` with `npm`, and once the indexes of both; without them
//! the tests fail, because an agreement nobody checked is none.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use imgate_identity::jwt::{Fault, KeySet};
use imgate_identity::time::UnixTime;
use serde::Deserialize;
use serde_json::json;

use super::{PUBLIC, verifier};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jwt");
const NOW: UnixTime = UnixTime(1_700_000_000);

/// What a script makes of the claims it is given.
#[derive(Deserialize)]
struct Theirs {
    /// A JWKS of fresh keys.
    jwks: String,
    /// Tokens under those keys.
    tokens: Vec<String>,
    /// A fresh secret.
    secret: String,
    /// A token under it.
    secret_token: String,
}

#[test]
fn tokens_of_pyjwt_verify() {
    let home = home("python-jwt");
    let python = home.join("bin/python");
    install(&home, &["requirements.txt"], || {
        must("python3", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
        let wanted = format!("{FOLDER}/requirements.txt");
        let pip =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", &wanted];
        must("pip", Command::new(&python).args(pip));
    });
    check(&run(Command::new(&python).args(["-B", &format!("{FOLDER}/agree.py")])));
}

#[test]
fn tokens_of_jose_verify() {
    let home = home("node-jwt");
    install(&home, &["package.json", "package-lock.json"], || {
        let npm = ["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"];
        must("npm", Command::new("npm").args(npm).current_dir(&home));
    });
    // Node looks for packages beside the script.
    fs::copy(format!("{FOLDER}/agree.mjs"), home.join("agree.mjs")).unwrap();
    check(&run(Command::new("node").arg(home.join("agree.mjs"))));
}

fn check(theirs: &Theirs) {
    let verifier = verifier("https://id.example.com", "imgate-admin", None);
    let keys = KeySet::from_jwks(theirs.jwks.as_bytes(), &PUBLIC).unwrap();
    let secret = KeySet::from_secret(theirs.secret.as_bytes()).unwrap();
    assert_eq!(keys.ids().count(), 3);
    assert!(theirs.tokens.len() >= 3);
    for token in &theirs.tokens {
        let claims = verifier.verify(token.as_bytes(), &keys, NOW).unwrap();
        assert_eq!((&*claims.subject, &*claims.roles), ("alice", &["im-admin".into(), "审计".into()][..]));
    }
    assert!(verifier.verify(theirs.secret_token.as_bytes(), &secret, NOW).is_ok());
    let confused = verifier.verify(theirs.secret_token.as_bytes(), &keys, NOW);
    assert_eq!(confused.err(), Some(Fault::NoKeyId));
}

/// Runs a script over the claims.
fn run(script: &mut Command) -> Theirs {
    let claims = json!({
        "iss": "https://id.example.com", "aud": ["imgate-admin"], "sub": "alice",
        "roles": ["im-admin", "审计"], "iat": NOW.0 - 5, "nbf": NOW.0 - 5, "exp": NOW.0 + 300,
    });
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(claims.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script:?} failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn home(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Runs `steps` unless they were run for these lists of packages before.
fn install(home: &Path, lists: &[&str], steps: impl FnOnce()) {
    let read = |path: PathBuf| fs::read(path).unwrap_or_default();
    let wanted: Vec<u8> = lists.iter().flat_map(|list| read(Path::new(FOLDER).join(list))).collect();
    let mark = home.join("installed");
    if wanted == read(mark.clone()) {
        return;
    }
    fs::create_dir_all(home).unwrap();
    let _ = fs::remove_file(&mark);
    for list in lists {
        fs::copy(Path::new(FOLDER).join(list), home.join(list)).unwrap();
    }
    steps();
    // Last, so that a broken installation is made again.
    fs::write(mark, wanted).unwrap();
}

fn must(what: &str, command: &mut Command) {
    let outcome = match command.status() {
        Ok(status) if status.success() => return,
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    panic!(
        "this test needs {what} ({outcome}): install python3-venv, nodejs and npm, and let them reach an index"
    );
}
