//! Shadow mode from outside: everybody passes, and what would have happened can be read in three places.

use openim_standin::{Options, Standin};
use serde_json::json;

use crate::support::command::imgate;
use crate::support::ws::{dial, target};
use crate::support::{Gateway, Person, RedisServer, Setup, eventually, within};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

/// Chains that would stop everybody from the second request on, were they not in shadow mode.
const CHAINS: &str = "  watched:
    - operation_id: {}
    - rate_limit: { per: address, rate: 1/h, burst: 1 }
      shadow: true
    - verify_signature: {}
    - respond: { status: 503, errCode: 20404 }
      shadow: true
    - resolve_token: {}
    - strip_credentials: {}
    - inject_token: {}
  watched_socket:
    - rate_limit: { per: address, rate: 1/h, burst: 1, name: sockets }
      shadow: true
    - verify_socket: {}";

const ROUTES: &str = "  - { path: /ws, hosts: [im.example.com], websocket: openim_ws, chain: watched_socket }
  - { path: /friend/get_friend_list, hosts: [im.example.com], methods: [POST], upstream: openim_api, chain: watched }";

struct World {
    openim: Standin,
    _redis: RedisServer,
    gateway: Gateway,
    ann: Person,
}

async fn world() -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let mut setup = Setup::new(&openim, &redis).patient();
    (setup.chains, setup.routes) = (CHAINS.to_owned(), ROUTES.to_owned());
    World { gateway: setup.start().await, openim, _redis: redis, ann }
}

fn withheld(filter: &str, cause: &str) -> String {
    format!("imgate_shadow_refusals_total{{cause=\"{cause}\",filter=\"{filter}\"}}")
}

#[tokio::test]
async fn everybody_passes_and_what_was_withheld_is_logged_and_counted() {
    let w = world().await;
    let ask = async |operation: &str| {
        let sent = w.ann.post(FRIENDS, BODY).header("operationID", operation);
        assert_eq!(w.gateway.send(&sent).await.verdict(), (200, 0), "{operation}");
        w.gateway.line(operation).await
    };
    assert_eq!(ask("first").await["shadowed"], json!(["respond:fixed_reply"]));
    for operation in ["second", "third"] {
        let line = ask(operation).await;
        assert_eq!(line["shadowed"], json!(["rate_limit:rate_limited", "respond:fixed_reply"]));
        assert_eq!((line.get("cause"), line.get("filter")), (None, None), "{line}");
    }
    assert_eq!(w.openim.records().len(), 3);
    assert_eq!(w.gateway.metric(&withheld("rate_limit", "rate_limited")).await, 2.0);
    assert_eq!(w.gateway.metric(&withheld("respond", "fixed_reply")).await, 3.0);
    // Nobody was refused, and the counter of those who were says so.
    assert_eq!(w.gateway.metric("imgate_refusals_total{cause=\"rate_limited\"}").await, 0.0);
}

#[tokio::test]
async fn a_socket_says_at_its_end_what_was_withheld_at_its_beginning() {
    let w = world().await;
    for expected in [json!(null), json!(["rate_limit:rate_limited"])] {
        let operation = format!("operationID={}", if expected.is_null() { "first" } else { "second" });
        let target = target("ann", &w.ann.token, 2, "").replace("operationID=op", &operation);
        drop(dial(w.gateway.address, &target).await.unwrap());
        let (_, operation) = operation.split_once('=').unwrap();
        let line = w.gateway.line(operation).await;
        assert_eq!((&line["status"], &line["shadowed"]), (&101.into(), &expected), "{line}");
    }
    let metric = withheld("rate_limit", "rate_limited");
    eventually("it is counted", async || w.gateway.metric(&metric).await == 1.0).await;
}

#[tokio::test]
async fn taking_the_word_away_puts_the_filter_in_force() {
    let w = world().await;
    let ask = async || w.gateway.send(&w.ann.post(FRIENDS, BODY)).await.verdict();
    assert_eq!([ask().await, ask().await], [(200, 0); 2]);
    let yaml = std::fs::read_to_string(w.gateway.config()).unwrap();
    std::fs::write(w.gateway.config(), yaml.replace("      shadow: true\n", "")).unwrap();
    w.gateway.signal("-HUP");
    let patience = std::time::Duration::from_secs(15);
    // The count it has kept in shadow mode goes on.
    within(patience, "the limit is in force", async || ask().await == (429, 20301)).await;
}

/// A configuration in a folder of its own, with this in the place of the socket's chain.
fn written(chain: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let nobody = "127.0.0.1:9".parse().unwrap();
    let mut setup = Setup::at(nobody, nobody, "");
    setup.store = "memory: {}".to_owned();
    (setup.chains, setup.routes) = (format!("{CHAINS}\n  tried:\n{chain}"), ROUTES.to_owned());
    setup.more = "  - { prefix: /tried/, upstream: openim_api, chain: tried, public: true }".to_owned();
    std::fs::write(dir.path().join("imgate.yaml"), setup.yaml()).unwrap();
    dir
}

#[test]
fn explain_says_which_filters_only_watch() {
    let dir = written("    - operation_id: {}");
    let host = ["--host", "im.example.com"];
    let arguments = [&["explain", "-c", "imgate.yaml"], &host[..], &["POST", FRIENDS]].concat();
    let said = imgate(dir.path(), &arguments).ok();
    let lines: Vec<String> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "2. rate_limit in shadow mode: lets through 1/h per address, 1 at once",
        "4. respond in shadow mode: answers everything with 503, errCode 20404",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} in {lines:#?}");
    }
    assert_eq!(said.matches("in shadow mode").count(), 2, "{said}");
}

#[test]
fn what_others_lean_on_is_refused_with_its_place_and_a_hint() {
    for (filter, options, before) in [
        ("operation_id", "{}", ""),
        ("verify_signature", "{}", ""),
        ("verify_socket", "{}", ""),
        ("strip_credentials", "{}", ""),
        ("resolve_token", "{}", "    - verify_signature: {}\n"),
        ("inject_token", "{}", "    - verify_signature: {}\n    - resolve_token: {}\n"),
    ] {
        let dir = written(&format!("{before}    - {filter}: {options}\n      shadow: true"));
        let yaml = std::fs::read_to_string(dir.path().join("imgate.yaml")).unwrap();
        let above = yaml[..yaml.find("  tried:").unwrap()].lines().count();
        let index = before.lines().count();
        let ran = imgate(dir.path(), &["check", "-c", "imgate.yaml"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (78, ""), "{filter}: {}", ran.stderr);
        let place = format!("imgate.yaml:{}:7: chains.tried[{index}] ({filter}): ", above + 2 + index);
        assert!(
            ran.stderr.contains(&format!("{place}cannot run in shadow mode\n")),
            "{place} in {}",
            ran.stderr
        );
        let hint = "hint: only a filter that does nothing but refuse can; others lean on what this one does";
        assert!(ran.stderr.contains(hint), "{filter}: {}", ran.stderr);
    }
}
