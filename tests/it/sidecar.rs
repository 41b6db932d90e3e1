//! Routes to the sidecar backend: who calls is told in a signed header, and by nobody but the gateway.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};

use imgate_identity::assertion::{AssertionFault, AssertionVerifier, Caller};
use imgate_identity::time::UnixTime;
use openim_standin::{KNOWN_OBJECT, Options, Standin};

use crate::support::ws::{dial, handshake, next, target};
use crate::support::{
    Act, Client, Closed, Gateway, Got, Person, RedisServer, Sent, Setup, Upstream, eventually, leaks, ok,
};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

/// What a client might try, in every spelling that somebody could fold into ours.
const FORGED: [&str; 4] = ["X-Imgate-Assertion", "x-imgate-assertion", "X-IMGATE-User", "x-imgate-anything"];

struct World {
    openim: Standin,
    _redis: RedisServer,
    _backend: Option<Upstream>,
    gateway: Gateway,
    ann: Person,
    verifier: AssertionVerifier,
    seen: Arc<Mutex<Vec<Got>>>,
}

/// A key as the manual says to make one, and its public half.
fn key_pair() -> (String, String) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pem");
    let private = openssl(&["genpkey", "-algorithm", "ed25519"]);
    std::fs::write(&file, &private).unwrap();
    let public = openssl(&["pkey", "-pubout", "-in", file.to_str().unwrap()]);
    leaks::secret(private.lines().nth(1).unwrap());
    (private, public)
}

async fn world() -> World {
    let seen: Arc<Mutex<Vec<Got>>> = Arc::default();
    let notes = Arc::clone(&seen);
    let backend = Upstream::start(move |got| {
        notes.lock().unwrap().push(got);
        async { vec![Act::Send(ok(r#"{"errCode":0,"errMsg":"","errDlt":""}"#))] }
    })
    .await;
    World { seen, ..world_with(backend.address, Some(backend)).await }
}

async fn world_with(address: SocketAddr, backend: Option<Upstream>) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let (private, public) = key_pair();
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.identity = "  assertion_key: { file: assertion.pem }".to_owned();
    setup.upstreams = format!("  backend: {{ servers: [\"{address}\"], connect_timeout: 1s }}");
    setup.chains = "  session:
    - operation_id: {}
    - verify_signature: {}
    - strip_credentials: {}
    - assert_identity: {}
  open:
    - operation_id: {}
    - strip_credentials: {}"
        .to_owned();
    setup.routes = "  - { prefix: /api/, upstream: backend, chain: session }
  - { prefix: /login/, upstream: backend, chain: open, public: true }
  - { prefix: /files/, upstream: backend, chain: open, public: true, stream: true }
  - { table: work.yaml, at: /work, upstream: backend, chain: session }"
        .to_owned();
    setup.files = vec![
        ("assertion.pem".to_owned(), private),
        ("work.yaml".to_owned(), "post: [/job/start]\nget: [/job/list]\n".to_owned()),
    ];
    World {
        gateway: setup.start().await,
        openim,
        _redis: redis,
        _backend: backend,
        ann,
        verifier: AssertionVerifier::from_pem(public.as_bytes()).unwrap(),
        seen: Arc::default(),
    }
}

impl World {
    fn last(&self) -> Got {
        self.seen.lock().unwrap().pop().expect("a request at the backend")
    }
}

/// The values of a header in a raw head.
fn values<'a>(got: &'a Got, name: &str) -> Vec<&'a str> {
    let lines = got.head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

fn forging(sent: Sent) -> Sent {
    FORGED.iter().fold(sent, |sent, name| sent.header(name, "forged"))
}

#[tokio::test]
async fn the_sidecar_is_told_who_calls_in_a_header_it_can_check() {
    let w = world().await;
    for sent in [w.ann.get("/api/me?x=1"), w.ann.post("/api/me", BODY), w.ann.post("/work/job/start", "{}")] {
        let sent =
            forging(sent).header("operationID", "op-7").header("token", "mine").header("Cookie", "a=b");
        assert_eq!(w.gateway.send(&sent).await.verdict(), (200, 0), "{}", sent.target);
        let got = w.last();
        let [assertion] = values(&got, "x-imgate-assertion")[..] else { panic!("not exactly one assertion") };
        leaks::secret(assertion);
        let now = UnixTime::now();
        let claims = w.verifier.verify(assertion, "backend", now).unwrap();
        let session = w.ann.session;
        let record = &w.ann.record;
        let caller = Caller::User {
            user: w.ann.user.clone(),
            platform: record.platform,
            session: Some(session),
            device: Some(record.device.clone()),
        };
        assert_eq!(claims.caller, caller);
        assert_eq!((&*claims.operation, claims.roles.len()), ("op-7", 0));
        assert_eq!(claims.expires_at.0 - claims.issued_at.0, 30);
        // It is for this upstream alone, and not for long.
        let elsewhere = w.verifier.verify(assertion, "openim_api", now);
        assert_eq!(elsewhere.unwrap_err(), AssertionFault::Audience);
        let later = w.verifier.verify(assertion, "backend", UnixTime(now.0 + 60));
        assert_eq!(later.unwrap_err(), AssertionFault::Expired);
        for gone in ["token", "cookie", "signature", "signature-input", "content-digest"] {
            assert!(values(&got, gone).is_empty(), "{gone}");
        }
    }
}

#[tokio::test]
async fn the_front_of_a_path_stays_here() {
    let w = world().await;
    assert_eq!(w.gateway.send(&w.ann.post("/work/job/start?a=%20b", BODY)).await.verdict(), (200, 0));
    let got = w.last();
    assert!(got.head.starts_with("POST /job/start?a=%20b HTTP/1.1\r\n"), "{}", got.head);
    assert_eq!(got.body, BODY.as_bytes());
    assert_eq!(w.gateway.send(&w.ann.get("/work/job/list")).await.verdict(), (200, 0));
    assert!(w.last().head.starts_with("GET /job/list HTTP/1.1\r\n"));
    let cases =
        [("/job/start", (404, 20201)), ("/work/job/stop", (404, 20201)), ("/work/job/list", (405, 20201))];
    for (path, verdict) in cases {
        assert_eq!(w.gateway.send(&w.ann.post(path, BODY)).await.verdict(), verdict, "{path}");
    }
    assert!(w.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nothing_a_client_says_about_itself_arrives_on_any_route() {
    let w = world().await;
    let public = [
        Sent::new("POST", "/login/start").body(b"{}"),
        Sent::new("GET", "/login/keys"),
        Sent::new("GET", "/files/x"),
        Sent::new("PUT", "/files/x").body(b"hello"),
    ];
    for sent in public {
        // A client may also ask a hop to drop the header, in the hope that the true one goes.
        let sent = forging(sent).header("Connection", "keep-alive, X-Imgate-Assertion");
        assert_eq!(w.gateway.send(&sent).await.verdict(), (200, 0), "{}", sent.target);
        let head = w.last().head.to_ascii_lowercase();
        assert!(!head.contains("imgate") && !head.contains("forged"), "{head}");
    }
    let signed = forging(w.ann.get("/api/me")).header("Connection", "X-Imgate-Assertion");
    assert_eq!(w.gateway.send(&signed).await.verdict(), (200, 0));
    let got = w.last();
    assert_eq!(values(&got, "x-imgate-assertion").len(), 1, "the true one went");
    assert_eq!(got.head.to_ascii_lowercase().matches("imgate").count(), 1, "{}", got.head);
}

#[tokio::test]
async fn openim_never_sees_any_of_it() {
    let w = world().await;
    let token = &w.ann.token;
    let to_openim = [
        w.ann.post(FRIENDS, BODY),
        Sent::new("GET", &format!("/object/{KNOWN_OBJECT}")),
        handshake(&target("ann", token, 2, "")),
        Sent::new("GET", &target("ann", token, 2, "")),
    ];
    for sent in to_openim {
        Client::once(w.gateway.address, &forging(sent)).await;
    }
    let records = w.openim.records();
    assert_eq!(records.len(), 4);
    for record in records {
        let found = record.headers.iter().find(|(name, _)| name.to_ascii_lowercase().contains("imgate"));
        assert!(found.is_none(), "{found:?} on {}", record.path());
    }
}

#[tokio::test]
async fn a_caller_who_is_not_proven_does_not_reach_the_sidecar() {
    let w = world().await;
    let swapped = Sent { body: Some(b"{}".to_vec()), ..w.ann.post("/api/me", BODY) };
    for (sent, verdict) in [
        (Sent::new("GET", "/api/me"), (401, 20101)),
        (forging(Sent::new("GET", "/api/me")), (401, 20101)),
        (Sent::new("POST", "/work/job/start").body(b"{}"), (401, 20101)),
        (swapped, (401, 20104)),
        (w.ann.get("/api/../api/me"), (400, 20202)),
    ] {
        assert_eq!(w.gateway.send(&sent).await.verdict(), verdict, "{}", sent.target);
    }
    assert!(w.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_sidecar_that_is_away_takes_only_its_own_routes_with_it() {
    let gone = Closed::new();
    let w = world_with(gone.address(), None).await;
    for sent in [w.ann.get("/api/me"), Sent::new("GET", "/login/x"), Sent::new("GET", "/files/x")] {
        assert_eq!(w.gateway.send(&sent).await.verdict(), (502, 20402), "{}", sent.target);
    }
    assert_eq!(w.gateway.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    let object = Sent::new("GET", &format!("/object/{KNOWN_OBJECT}"));
    assert_eq!(w.gateway.send(&object).await.status, 302);
    let query = target("ann", &w.ann.token, 2, "&isMsgResp=true");
    let mut socket = dial(w.gateway.address, &query).await.unwrap();
    assert!(next(&mut socket).await.is_some());
    eventually("ready", async || w.gateway.admin_get("/readyz").await.status == 200).await;
    let failed = |upstream: &str| {
        format!("imgate_upstream_failures_total{{cause=\"upstream_unreachable\",upstream=\"{upstream}\"}}")
    };
    assert_eq!(w.gateway.metric(&failed("backend")).await, 3.0);
    assert_eq!(w.gateway.metric(&failed("openim_api")).await, 0.0);
}
