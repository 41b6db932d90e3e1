//! A gateway that somebody else builds, with a filter of theirs: `examples/own_filter.rs`, run as it is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::SystemTime;

use openim_standin::{Options, Standin};
use serde_json::json;

use crate::support::command::{imgate, program};
use crate::support::{Gateway, Person, RedisServer, Setup};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

/// The example's binary. `cargo test` builds it along; a run of this test alone may have to do so itself.
static OWN_FILTER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_BIN_EXE_imgate")).parent().unwrap();
    let binary = folder.join("examples/own_filter");
    let built = binary.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if built < newest_source() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", "own_filter"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            build.arg("--release");
        }
        // What cargo tells this test about itself would have build scripts run anew, here and next time.
        let told = |name: &OsStr| {
            ["CARGO_PKG_", "CARGO_MANIFEST_"]
                .iter()
                .any(|t| name.as_encoded_bytes().starts_with(t.as_bytes()))
        };
        std::env::vars_os().filter(|(name, _)| told(name)).for_each(|(name, _)| {
            build.env_remove(name);
        });
        assert!(build.status().unwrap().success(), "the example does not build");
    }
    binary
});

/// When a file that the example is made of was last changed.
fn newest_source() -> SystemTime {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders =
        ["src", "filters/src", "identity/src", "standin/src", "examples"].map(|f| root.join(f)).to_vec();
    let mut newest = root.join("Cargo.lock").metadata().unwrap().modified().unwrap();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => newest = newest.max(entry.metadata().unwrap().modified().unwrap()),
            }
        }
    }
    newest
}

/// The user chain with the example's filter in it.
fn chain(filter: &str) -> String {
    format!(
        "  versioned:
    - operation_id: {{}}
    - {filter}
    - verify_signature: {{}}
    - resolve_token: {{}}
    - strip_credentials: {{}}
    - inject_token: {{}}"
    )
}

const ROUTE: &str = "  - { path: /friend/get_friend_list, hosts: [im.example.com], methods: [POST], upstream: openim_api, chain: versioned }";

struct World {
    openim: Standin,
    _redis: RedisServer,
    gateway: Gateway,
    ann: Person,
}

async fn world(filter: &str) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.program.clone_from(&OWN_FILTER);
    (setup.chains, setup.routes) = (chain(filter), ROUTE.to_owned());
    World { gateway: setup.start().await, openim, _redis: redis, ann }
}

impl World {
    /// Asks as an app that says these versions.
    async fn ask(&self, versions: &[&str], operation: &str) -> (u16, i64, serde_json::Value) {
        let sent = self.ann.post(FRIENDS, BODY).header("operationID", operation);
        let sent = versions.iter().fold(sent, |sent, version| sent.header("X-App-Version", version));
        let reply = self.gateway.send(&sent).await;
        let (status, err_code) = reply.verdict();
        (status, err_code, reply.json()["errDlt"].clone())
    }
}

#[tokio::test]
async fn a_filter_of_ones_own_refuses_in_the_envelope_and_under_its_name() {
    let w = world("min_app_version: { at_least: 7.4.0 }").await;
    for (i, versions) in [["7.4.0"], ["7.10.1"], ["10.0.0"]].iter().enumerate() {
        assert_eq!(w.ask(versions, &format!("new-{i}")).await, (200, 0, json!("")), "{versions:?}");
    }
    let refused: [(&[&str], u16, i64, &str); 6] = [
        (&["7.3.9"], 403, 1002, "app_too_old"),
        (&["6.99.99"], 403, 1002, "app_too_old"),
        (&[], 400, 20202, "app_version_missing"),
        (&["7.4.0", "7.4.0"], 400, 20202, "app_version_missing"),
        (&["7.4"], 400, 20202, "app_version_malformed"),
        (&["seven"], 400, 20202, "app_version_malformed"),
    ];
    for (i, (versions, status, err_code, reason)) in refused.into_iter().enumerate() {
        let operation = format!("old-{i}");
        assert_eq!(w.ask(versions, &operation).await, (status, err_code, json!(reason)), "{versions:?}");
        let line = w.gateway.line(&operation).await;
        assert_eq!((&line["filter"], &line["reason"]), (&"min_app_version".into(), &reason.into()));
    }
    assert_eq!(w.openim.records().len(), 3);
}

#[tokio::test]
async fn in_shadow_it_counts_under_its_name_and_refuses_nobody() {
    let w = world("min_app_version: { at_least: 7.4.0 }\n      shadow: true").await;
    assert_eq!(w.ask(&["7.3.0"], "old").await, (200, 0, json!("")));
    assert_eq!(w.gateway.line("old").await["shadowed"], json!(["min_app_version:app_too_old"]));
    let metric = "imgate_shadow_refusals_total{cause=\"forbidden\",filter=\"min_app_version\"}";
    assert_eq!(w.gateway.metric(metric).await, 1.0);
}

/// A configuration in a folder of its own, with this filter in its chain.
fn written(filter: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let nobody = "127.0.0.1:9".parse().unwrap();
    let mut setup = Setup::at(nobody, nobody, "");
    setup.store = "memory: {}".to_owned();
    (setup.chains, setup.routes) = (chain(filter), ROUTE.to_owned());
    std::fs::write(dir.path().join("imgate.yaml"), setup.yaml()).unwrap();
    dir
}

#[test]
fn the_whole_command_line_knows_the_filter() {
    let good = written("min_app_version: { at_least: 7.4.0 }");
    let said = program(&OWN_FILTER, good.path(), &["check", "-c", "imgate.yaml"]).ok();
    assert!(said.contains("imgate.yaml: ok, "), "{said}");
    let explain = ["explain", "-c", "imgate.yaml", "--host", "im.example.com", "POST", FRIENDS];
    let said = program(&OWN_FILTER, good.path(), &explain).ok();
    let line = said.lines().find(|line| line.contains("2. min_app_version"));
    assert!(line.is_some_and(|line| line.ends_with(" refuses apps below 7.4.0")), "{said}");
    let said = program(&OWN_FILTER, good.path(), &["demo", "--once"]).ok();
    assert!(!said.contains("NO"), "{said}");
    let help = program(&OWN_FILTER, good.path(), &["run", "--help"]).ok();
    assert!(help.contains("Usage: own_filter run"), "{help}");
}

#[test]
fn the_examples_configuration_is_a_good_one() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    program(&OWN_FILTER, Path::new(folder), &["check", "-c", "own_filter.yaml"]).ok();
}

#[test]
fn what_is_wrong_with_its_options_is_said_with_the_place() {
    for (filter, text) in [
        (
            "min_app_version: { at_lest: 7.4.0 }",
            "(min_app_version): unknown field `at_lest`, expected `at_least`",
        ),
        ("min_app_version: {}", "(min_app_version): missing field `at_least`"),
        (
            "min_app_version: { at_least: 7.4.x }",
            "(min_app_version): a version is three numbers, as in 7.4.0",
        ),
        ("min_ap_version: { at_least: 7.4.0 }", ": unknown filter `min_ap_version`"),
    ] {
        let dir = written(filter);
        let yaml = std::fs::read_to_string(dir.path().join("imgate.yaml")).unwrap();
        let line = yaml[..yaml.find("- min_ap").unwrap()].lines().count();
        let place = format!("error: imgate.yaml:{line}:7: chains.versioned[1]");
        let place = if text.starts_with(':') { place } else { format!("{place} ") };
        for command in ["check", "run"] {
            let ran = program(&OWN_FILTER, dir.path(), &[command, "-c", "imgate.yaml"]);
            assert_eq!((ran.code, ran.stdout.as_str()), (78, ""), "{command}: {}", ran.stderr);
            assert!(ran.stderr.starts_with(&format!("{place}{text}")), "{place}{text}: {}", ran.stderr);
        }
    }
    let slip = program(&OWN_FILTER, written("min_ap_version: {}").path(), &["check", "-c", "imgate.yaml"]);
    assert!(slip.stderr.contains("hint: did you mean `min_app_version`?"), "{}", slip.stderr);
}

#[test]
fn the_stock_binary_knows_nothing_of_it() {
    let dir = written("min_app_version: { at_least: 7.4.0 }");
    let ran = imgate(dir.path(), &["check", "-c", "imgate.yaml"]);
    assert_eq!(ran.code, 78);
    assert!(ran.stderr.contains("chains.versioned[1]: unknown filter `min_app_version`"), "{}", ran.stderr);
}
