//! Requests signed as the files in `conf/examples` have it, by clients that never saw those files.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use imgate_identity::session::SessionId;
use imgate_identity::time::UnixTime;
use openim_standin::{Options, Standin};
use serde_json::{Value, json};

use crate::support::{Gateway, Person, RedisServer, Sent, Setup, command, leaks};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann","pagination":{"pageNumber":1,"showNumber":10}}"#;
const OTHER_BODY: &str = r#"{"userID":"ann","pagination":{"pageNumber":2,"showNumber":10}}"#;

/// A file in `conf/examples`, and the client in `identity/vectors/canonical.py` written for it.
struct Example {
    file: &'static str,
    client: &'static str,
    /// The header with the session's id, the time, the signature; the digest, if one has it.
    session: &'static str,
    time: &'static str,
    signature: &'static str,
    digest: Option<&'static str>,
    /// Whether a query is signed.
    query: bool,
}

const EXAMPLES: [Example; 3] = [
    Example {
        file: "plain.yaml",
        client: "plain",
        session: "x-app-session",
        time: "x-app-time",
        signature: "x-app-signature",
        digest: None,
        query: false,
    },
    Example {
        file: "apisix-hmac-auth-like.yaml",
        client: "apisix",
        session: "authorization",
        time: "date",
        signature: "authorization",
        digest: Some("digest"),
        query: true,
    },
    Example {
        file: "aws-like.yaml",
        client: "aws",
        session: "authorization",
        time: "x-amz-date",
        signature: "authorization",
        digest: Some("x-amz-content-sha256"),
        query: true,
    },
];

impl Example {
    /// What the file says of the scheme.
    fn scheme(&self) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples").join(self.file);
        let config: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        config["chains"]["user"][1]["verify_signature"]["scheme"].clone()
    }
}

struct World {
    openim: Standin,
    redis: RedisServer,
    gateway: Gateway,
    ann: Person,
}

async fn world(scheme: &Value) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let mut setup = Setup::new(&openim, &redis).patient();
    // JSON is YAML.
    setup.verify = format!("replay: redis, scheme: {scheme}");
    setup.routes = format!(
        "  - {{ path: {FRIENDS}, methods: [PUT], upstream: openim_api, chain: user, bind: none }}\n  \
         - {{ prefix: /api/, upstream: openim_api, chain: user, bind: none }}"
    );
    let gateway = setup.start().await;
    World { openim, redis, gateway, ann }
}

/// A client of the app.
#[derive(Clone)]
struct App<'a> {
    example: &'a Example,
    secret: String,
    session: SessionId,
    millis: u64,
    nonce: &'a str,
}

impl<'a> App<'a> {
    fn new(example: &'a Example, person: &Person) -> Self {
        Self {
            example,
            secret: person.secret().expose().clone(),
            session: person.session,
            millis: UnixTime::now().0 * 1000,
            nonce: "the-nonce-of-one-request",
        }
    }

    /// Has the client sign a request.
    fn sign(&self, method: &str, target: &str, body: Option<&str>) -> Sent {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let request = json!({
            "method": method, "authority": "im.example.com", "path": path, "query": query, "body": body,
            "secret": self.secret, "session": self.session.to_string(),
        });
        let job = json!({
            "scheme": self.example.client, "request": request, "millis": self.millis, "nonce": self.nonce,
        });
        let headers = python(&job);
        let mut sent = Sent::new(method, target);
        for (name, value) in headers.as_object().unwrap() {
            sent = sent.header(name, value.as_str().unwrap());
        }
        leaks::secret(
            value(&sent, self.example.signature).rsplit(['=', '"']).find(|part| part.len() > 40).unwrap(),
        );
        match body {
            Some(body) => sent.body(body.as_bytes()),
            None => sent,
        }
    }

    fn post(&self) -> Sent {
        self.sign("POST", FRIENDS, Some(BODY))
    }
}

fn python(job: &Value) -> Value {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("identity/vectors/canonical.py");
    let mut child = Command::new("python3")
        .arg("-B")
        .arg(client)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(job.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn value<'a>(sent: &'a Sent, name: &str) -> &'a str {
    let found = sent.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    &found.unwrap_or_else(|| panic!("no {name}")).1
}

fn with(sent: Sent, name: &str, value: &str) -> Sent {
    sent.without(name).header(name, value)
}

/// The headers of the one with the body of the other.
fn swapped(sent: &Sent, other: &Sent) -> Sent {
    Sent { body: other.body.clone(), ..sent.clone() }
}

#[tokio::test]
async fn clients_that_sign_their_own_way_are_accepted_and_their_headers_go_no_further() {
    for example in &EXAMPLES {
        let w = world(&example.scheme()).await;
        let app = App::new(example, &w.ann);
        let sent = app.post();
        let reply = w.gateway.send(&sent.clone().header("X-Kept", "1").header("operationID", "op-1")).await;
        assert_eq!(reply.verdict(), (200, 0), "{}: {}", example.file, reply.text());
        let seen = w.openim.records().pop().unwrap();
        assert_eq!(seen.header("token"), Some(w.ann.token.as_str()));
        assert_eq!(seen.body, BODY.as_bytes());
        assert_eq!(seen.copies("x-kept"), 1);
        for (name, _) in sent.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
            assert_eq!(seen.copies(name), 0, "{}: {name}", example.file);
        }
        assert_eq!(w.gateway.line("op-1").await["user"], "ann");

        // Without a body, and with a query where the scheme signs one. OpenIM has no such route; it says so.
        let target = if example.query { "/api/x?b=%41&a=1&a=" } else { "/api/x" };
        let get = App { nonce: "another-nonce", ..app }.sign("GET", target, None);
        let before = w.openim.records().len();
        assert_ne!(w.gateway.send(&get).await.status, 401, "{}", example.file);
        assert_eq!(w.openim.records().len(), before + 1, "{}", example.file);
    }
}

#[tokio::test]
async fn whatever_is_changed_on_the_way_is_refused_and_reaches_nobody() {
    for example in &EXAMPLES {
        let w = world(&example.scheme()).await;
        let bob = Person::new("bob", &w.redis, &w.openim).await;
        let cases = tampered(example, &w.ann, &bob);
        let before = w.openim.records().len();
        for (name, sent, verdict) in &cases {
            let reply = w.gateway.send(sent).await;
            assert_eq!(reply.verdict(), *verdict, "{}: {name}: {}", example.file, reply.text());
        }
        assert_eq!(w.openim.records().len(), before, "{}", example.file);

        // None of them has used up what was signed; once is once.
        let good = App::new(example, &w.ann).post();
        assert_eq!(w.gateway.send(&good).await.verdict(), (200, 0), "{}", example.file);
        assert_eq!(w.gateway.send(&good).await.verdict(), (401, 20105), "{}: replay", example.file);
        assert_eq!(w.openim.records().len(), before + 1, "{}", example.file);
    }
}

type Tampered = (&'static str, Sent, (u16, i64));

fn tampered(example: &Example, ann: &Person, bob: &Person) -> Vec<Tampered> {
    let app = App::new(example, ann);
    let good = app.post();
    let edit =
        |name: &str, from: &str, to: &str| with(good.clone(), name, &value(&good, name).replace(from, to));
    let later = App { millis: app.millis + 1000, ..app.clone() }.post();
    let old = App { millis: app.millis - 100_000, ..app.clone() }.post();
    let early = App { millis: app.millis + 100_000, ..app.clone() }.post();
    let other = app.sign("POST", FRIENDS, Some(OTHER_BODY));
    let (mine, his) = (ann.session.to_string(), bob.session.to_string());
    let nobody = SessionId::from_bytes([7; 16]).to_string();
    let target = |target: &str| Sent { target: target.to_owned(), ..good.clone() };
    let query = if example.query { (401, 20104) } else { (401, 20102) };
    let mut cases = vec![
        ("method", Sent { method: "PUT".to_owned(), ..good.clone() }, (401, 20104)),
        ("path", target("/friend/get_friend_id"), (401, 20104)),
        ("query", target("/friend/get_friend_list?a=1"), query),
        ("bare question mark", target("/friend/get_friend_list?"), (400, 20202)),
        ("body", swapped(&good, &other), (401, 20104)),
        ("no body", Sent { body: None, ..good.clone() }, (401, 20104)),
        ("time", with(good.clone(), example.time, value(&later, example.time)), (401, 20104)),
        ("too old", old, (401, 20103)),
        ("too early", early, (401, 20103)),
        ("session of another", edit(example.session, &mine, &his), (401, 20104)),
        ("session of nobody", edit(example.session, &mine, &nobody), (401, 1501)),
        (
            "signature of another request",
            with(good.clone(), example.signature, value(&other, example.signature)),
            (401, 20104),
        ),
        ("no signature at all", Sent::new("POST", FRIENDS).body(BODY.as_bytes()), (401, 20101)),
        ("no time", good.clone().without(example.time), (401, 20102)),
        (
            "signature twice",
            good.clone().header(example.signature, value(&good, example.signature)),
            (401, 20102),
        ),
        ("another host", with(good.clone(), "host", "evil.example"), (400, 20202)),
        ("a signature after RFC 9421", ann.post(FRIENDS, BODY), (401, 20101)),
    ];
    match example.digest {
        Some(digest) => {
            let moved = with(good.clone(), digest, value(&other, digest));
            cases.push(("digest", moved.clone(), (401, 20104)));
            cases.push(("digest and body together", swapped(&moved, &other), (401, 20104)));
        }
        None => cases.push(("nonce", with(good.clone(), "x-app-nonce", "another-nonce"), (401, 20104))),
    }
    cases
}

#[tokio::test]
async fn a_chain_after_rfc_9421_takes_no_other_signature() {
    let w = world(&json!("rfc9421")).await;
    for example in &EXAMPLES {
        let reply = w.gateway.send(&App::new(example, &w.ann).post()).await;
        assert_eq!(reply.verdict(), (401, 20101), "{}", example.file);
    }
    assert_eq!(w.gateway.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
}

#[tokio::test]
async fn a_weak_scheme_is_warned_of_at_the_start() {
    let mut scheme = EXAMPLES[0].scheme();
    scheme["canonical"]["string_to_sign"] = json!("{path}\n{timestamp}\n{nonce}\n{digest}");
    scheme["canonical"]["weak"] = json!(true);
    let w = world(&scheme).await;
    let log = w.gateway.stderr();
    assert!(log.contains("weak: signatures leave out {method}, {query}"), "{log}");
    assert!(log.contains("chains.user[1] (verify_signature)"), "{log}");
}

#[tokio::test]
async fn the_command_line_signs_as_a_chain_has_it() {
    for example in &EXAMPLES {
        let w = world(&example.scheme()).await;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), w.ann.secret().expose()).unwrap();
        let (session, config) = (w.ann.session.to_string(), w.gateway.config());
        let url = format!("https://im.example.com{FRIENDS}");
        let arguments = [
            "sign",
            "--session",
            &session,
            "--secret-file",
            "secret",
            "--chain",
            "user",
            "-c",
            config.to_str().unwrap(),
            "--data",
            BODY,
            &url,
        ];
        let said = command::imgate(dir.path(), &arguments).ok();
        let mut sent = Sent::new("POST", FRIENDS).body(BODY.as_bytes());
        for (name, value) in said.lines().filter_map(|line| line.split_once(": ")) {
            sent = sent.header(name, value);
        }
        assert_eq!(w.gateway.send(&sent).await.verdict(), (200, 0), "{}: {said}", example.file);
    }
}
