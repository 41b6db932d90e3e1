//! The signing samples of `clients/`, held to the vectors and let loose on the gateway.

mod page;
mod samples;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openim_standin::{Options, Standin};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use self::samples::{GO, KOTLIN, PYTHON, Sample, TYPESCRIPT};
use crate::support::{Act, Gateway, Got, Person, RedisServer, Sent, Setup, Upstream, eventually, leaks, ok};

const FRIENDS: &str = "/friend/get_friend_list";
/// Escaped, because not every driver reads its jobs as UTF-8.
const BODY: &str = r#"{"userID":"ann","pagination":{"pageNumber":1,"showNumber":10},"note":"\u4f60\u597d"}"#;

/// How far behind a client's clock is, in seconds.
const BEHIND: u64 = 600;

#[test]
fn python_agrees_with_the_vectors() {
    agrees_with_the_vectors(&PYTHON);
}

#[test]
fn typescript_agrees_with_the_vectors() {
    agrees_with_the_vectors(&TYPESCRIPT);
}

#[test]
fn go_agrees_with_the_vectors() {
    agrees_with_the_vectors(&GO);
}

#[test]
fn kotlin_agrees_with_the_vectors() {
    agrees_with_the_vectors(&KOTLIN);
}

#[tokio::test]
async fn the_samples_are_let_in_and_correct_their_clocks() {
    let w = world().await;
    for sample in [&PYTHON, &TYPESCRIPT, &GO, &KOTLIN] {
        is_let_in(&w, sample).await;
    }
}

#[tokio::test]
async fn the_samples_try_again_once_and_only_for_their_clocks() {
    for sample in [&PYTHON, &TYPESCRIPT, &GO, &KOTLIN] {
        tries_again_once(sample).await;
    }
}

fn vectors(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn field(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A job and the result it must have.
type Expected = (Vec<String>, Vec<String>);

fn keys() -> impl Iterator<Item = Expected> {
    let http = vectors(include_str!("../../identity/vectors/http-key.json"));
    let job = |secret: &Value, info: &str| vec!["key".to_owned(), field(secret), info.to_owned()];
    let http = http.into_iter().map(move |v| (job(&v["secret"], "imgate/v1/http"), vec![field(&v["key"])]));
    let sdk = tokens_made().into_iter();
    http.chain(sdk.map(move |v| (job(&v["secret"], "imgate/v1/sdk"), vec![field(&v["key"])])))
}

fn tokens_made() -> Vec<Value> {
    let tokens: Value =
        serde_json::from_str(include_str!("../../identity/vectors/session-token.json")).unwrap();
    tokens["accepted"].as_array().unwrap().clone()
}

fn tokens() -> impl Iterator<Item = Expected> {
    tokens_made().into_iter().map(|v| {
        let fields = ["secret", "session_id", "expires", "platform_id"].map(|name| field(&v[name]));
        ([vec!["token".to_owned()], fields.into()].concat(), vec![field(&v["token"])])
    })
}

fn signatures() -> impl Iterator<Item = Expected> {
    let all = vectors(include_str!("../../identity/vectors/signature.json"));
    all.into_iter().filter(|v| v["as_we_sign"] == true).flat_map(|v| {
        let [authority, path] = ["authority", "path"].map(|name| field(&v[name]));
        let query = v["query"].as_str().map_or_else(String::new, |query| format!("?{query}"));
        // However the host is spelled, it is signed in one way.
        let default_port = if authority.contains(":8443") { "" } else { ":443" };
        let shouted = authority.to_uppercase() + default_port;
        [authority, shouted]
            .map(|host| (sign_job(&v, &format!("https://{host}{path}{query}")), sign_result(&v)))
    })
}

fn sign_job(v: &Value, url: &str) -> Vec<String> {
    let body = v["body"].as_str().map_or_else(|| "-".to_owned(), |body| STANDARD.encode(body));
    let [secret, session, method] = ["secret", "session_id", "method"].map(|name| field(&v[name]));
    let created = field(&v["created"]);
    vec!["sign".to_owned(), secret, session, method, url.to_owned(), body, created, field(&v["nonce"])]
}

fn sign_result(v: &Value) -> Vec<String> {
    let digest = v["content_digest"].as_str().unwrap_or("-");
    vec![digest.to_owned(), field(&v["signature_input"]), field(&v["signature"])]
}

fn agrees_with_the_vectors(sample: &Sample) {
    let expected: Vec<Expected> = keys().chain(tokens()).chain(signatures()).collect();
    assert!(expected.len() > 50);
    let jobs: Vec<Vec<String>> = expected.iter().map(|(job, _)| job.clone()).collect();
    for ((job, wanted), result) in expected.iter().zip(sample.run(&jobs)) {
        assert_eq!(result, *wanted, "{}: {job:?}", sample.name);
    }
}

struct World {
    openim: Standin,
    _redis: RedisServer,
    gateway: Gateway,
    ann: Person,
    front: Front,
}

/// The address that clients know, with the gateway behind it. Clients sign for it, so the gateway must be
/// told of it before it has a port of its own.
struct Front {
    url: String,
    task: JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn world() -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.chains = "  sdk:
    - operation_id: {}
    - verify_session_token: {}
    - bind_identity: {}
    - resolve_token: {}
    - strip_credentials: {}
    - inject_token: {}"
        .to_owned();
    setup.files.push(("sdk.yaml".to_owned(), format!("post:\n  - {FRIENDS}: {{ bind: userID }}\n")));
    setup.routes = "  - { table: sdk.yaml, at: /sdk, upstream: openim_api, chain: sdk }".to_owned();
    setup.more = format!("hosts: [\"{address}\"]");
    let gateway = setup.start().await;
    let to = gateway.address;
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut gateway) = TcpStream::connect(to).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut gateway).await;
            });
        }
    });
    World { openim, _redis: redis, gateway, ann, front: Front { url: format!("http://{address}"), task } }
}

/// The job of posting twice by a clock that is behind.
fn post_job(url: &str, ann: &Person, path: &str) -> Vec<String> {
    let platform = ann.record.platform.number().to_string();
    let secret = ann.secret().expose().clone();
    let (session, behind) = (ann.session.to_string(), BEHIND.to_string());
    let fields = ["post", url, &secret, &session, &platform, &behind, path, BODY];
    fields.map(str::to_owned).into()
}

/// Runs a driver beside the stand-in, which lives in this process.
async fn run(sample: &'static Sample, jobs: Vec<Vec<String>>) -> Vec<Vec<String>> {
    tokio::task::spawn_blocking(move || sample.run(&jobs)).await.unwrap()
}

async fn is_let_in(w: &World, sample: &'static Sample) {
    w.openim.clear_records();
    let before = skewed(&w.gateway);
    let result = run(sample, vec![post_job(&w.front.url, &w.ann, FRIENDS)]).await.pop().unwrap();
    assert_eq!(result[..2], ["200 0", "200 0"], "{}", sample.name);
    for seen in w.openim.records() {
        assert_eq!(seen.header("token"), Some(w.ann.token.as_str()), "{}", sample.name);
        let sent: Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!(sent["note"], "\u{4f60}\u{597d}", "{}", sample.name);
    }
    assert_eq!(w.openim.records().len(), 2, "{}", sample.name);
    eventually("one refusal for the clock", async || skewed(&w.gateway) == before + 1).await;

    let token = &result[2];
    leaks::secret(token);
    leaks::secret(token.rsplit_once('.').unwrap().1);
    let sdk = Sent::new("POST", &format!("/sdk{FRIENDS}")).header("token", token).body(BODY.as_bytes());
    let reply = w.gateway.send(&sdk).await;
    assert_eq!(reply.verdict(), (200, 0), "{}: {}", sample.name, reply.text());
}

/// How often the gateway refused a clock.
fn skewed(gateway: &Gateway) -> usize {
    gateway.access_log().iter().filter(|line| line["err_code"] == 20103).count()
}

/// An answer of 401 that finds the client's clock wrong.
fn clock_refused() -> Vec<u8> {
    let body = r#"{"errCode":20103,"errMsg":"ClockSkewError","errDlt":"server_time=1800000000"}"#;
    let length = body.len();
    format!(
        "HTTP/1.1 401 Unauthorized\r\nX-Server-Time: 1800000000\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What becomes of a POST, by its path.
fn act(got: &Got) -> Vec<Act> {
    let away = r#"{"errCode":20401,"errMsg":"StoreUnavailableError","errDlt":""}"#;
    let path = got.head.split(' ').nth(1).unwrap_or_default();
    match path {
        "/clock" => vec![Act::Send(clock_refused())],
        "/away" => vec![Act::Send(ok(away))],
        "/page" => vec![Act::Send(ok("<html>"))],
        _ => vec![Act::Close],
    }
}

async fn tries_again_once(sample: &'static Sample) {
    let seen: Arc<Mutex<Vec<Got>>> = Arc::default();
    let notes = Arc::clone(&seen);
    let gateway = Upstream::start(move |got| {
        let acts = act(&got);
        notes.lock().unwrap().push(got);
        async { acts }
    })
    .await;
    let openim = Standin::start(Options::default()).await.unwrap();
    let ann = Person::unknown("ann", &openim);
    let url = format!("http://{}", gateway.address);
    let cases =
        [("/clock", 4, "401 20103"), ("/away", 2, "200 20401"), ("/page", 2, ""), ("/cut", 2, "error")];
    let results = run(sample, cases.map(|(path, ..)| post_job(&url, &ann, path)).into()).await;

    let seen = seen.lock().unwrap();
    for ((path, attempts, outcome), result) in cases.iter().zip(results) {
        let place = format!("{}: {path}", sample.name);
        let sent: Vec<&Got> = seen.iter().filter(|got| got.head.contains(&format!(" {path} "))).collect();
        assert_eq!(sent.len(), *attempts, "{place}");
        // What is no envelope is an answer to some and an error to others.
        if !outcome.is_empty() {
            assert_eq!(result[..2], [*outcome, *outcome], "{place}");
        }
    }
    let inputs: HashSet<&str> = seen.iter().filter_map(|got| got.header("signature-input")).collect();
    assert_eq!(inputs.len(), seen.len(), "{}: each attempt is signed anew", sample.name);
}
