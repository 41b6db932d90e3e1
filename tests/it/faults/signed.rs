//! Signed requests with one thing wrong: what was not signed as it came is refused, and reaches nobody.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use imgate_identity::time::UnixTime;
use openim_standin::{Options, Standin};
use tokio::io::AsyncWriteExt as _;

use super::recorder::Recorder;
use crate::support::{Client, Gateway, Person, RedisServer, Sent, Setup};

const TARGET: &str = "/api/me?b=2&a=A";
const BODY: &str = r#"{"amount":10}"#;

const FRIENDS: &str = "/friend/get_friend_list";

struct World {
    gateway: Gateway,
    ann: Person,
    bob: Person,
    sidecar: Recorder,
    openim: Standin,
    _redis: RedisServer,
}

async fn world() -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let bob = Person::new("bob", &redis, &openim).await;
    let sidecar = Recorder::start().await;
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.upstreams = format!("  backend: {{ servers: [\"{}\"] }}", sidecar.address);
    setup.chains = "  session:
    - operation_id: {}
    - verify_signature: {}
    - strip_credentials: {}"
        .to_owned();
    setup.routes = "  - { prefix: /api/, upstream: backend, chain: session }".to_owned();
    World { gateway: setup.start().await, ann, bob, sidecar, openim, _redis: redis }
}

impl World {
    fn good(&self) -> Sent {
        self.ann.post(TARGET, BODY)
    }

    /// What is signed well passes; so what follows is refused for what was changed alone.
    async fn takes_what_is_signed(&self) {
        assert_eq!(self.gateway.send(&self.good()).await.verdict(), (200, 0));
        assert_eq!(self.sidecar.take().whole, 1);
    }

    /// Refused as unproven, or as no request at all, and nothing reached the sidecar.
    async fn refuses(&self, what: &str, sent: &Sent, verdicts: &[(u16, i64)]) {
        let reply = self.gateway.send(sent).await;
        assert!(verdicts.contains(&reply.verdict()), "{what}: {:?} {}", reply.verdict(), reply.text());
        assert_eq!(self.sidecar.take().bytes, b"", "{what}");
    }
}

/// The same with one header's value edited.
fn edited(sent: Sent, name: &str, edit: impl FnOnce(&str) -> String) -> Sent {
    let at = sent.headers.iter().position(|(n, _)| n.eq_ignore_ascii_case(name)).unwrap();
    let mut sent = sent;
    let value = edit(&sent.headers[at].1);
    assert_ne!(value, sent.headers[at].1, "an edit of {name} changes nothing");
    sent.headers[at].1 = value;
    sent
}

/// The value of a quoted parameter of a signature's input.
fn parameter<'a>(input: &'a str, name: &str) -> &'a str {
    let (_, rest) = input.split_once(&format!("{name}=\"")).unwrap();
    rest.split('"').next().unwrap()
}

/// The other one of two characters.
fn flip(text: &str, at: usize) -> String {
    let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    [&text[..at], other, &text[at + 1..]].concat()
}

const MALFORMED: (u16, i64) = (401, 20102);
const MISMATCH: (u16, i64) = (401, 20104);
const NO_REQUEST: (u16, i64) = (400, 20202);
const SKEWED: (u16, i64) = (401, 20103);

#[tokio::test]
async fn row_16_a_change_of_anything_signed_is_refused() {
    let w = world().await;
    w.takes_what_is_signed().await;
    let input = |edit: fn(&str) -> String| edited(w.good(), "Signature-Input", edit);
    let target = |target: &str| Sent { target: target.to_owned(), ..w.good() };
    let bobs = w.bob.post(TARGET, BODY);
    let id_of = |sent: &Sent| {
        let (_, input) = sent.headers.iter().find(|(name, _)| name == "Signature-Input").unwrap().clone();
        parameter(&input, "keyid").to_owned()
    };
    let as_bob = edited(w.good(), "Signature-Input", |input| input.replace(&id_of(&w.good()), &id_of(&bobs)));
    type Case = (&'static str, Sent, &'static [(u16, i64)]);
    let cases: Vec<Case> = vec![
        ("method", Sent { method: "PUT".to_owned(), ..w.good() }, &[MISMATCH]),
        ("authority", edited(w.good(), "Host", |_| "other.example.com".to_owned()), &[NO_REQUEST, MISMATCH]),
        ("path", target("/api/mf?b=2&a=A"), &[MISMATCH]),
        ("case of the path", target("/api/Me?b=2&a=A"), &[MISMATCH]),
        ("a slash behind the path", target("/api/me/?b=2&a=A"), &[MISMATCH]),
        ("order of the query", target("/api/me?a=A&b=2"), &[MISMATCH]),
        ("a letter of the query escaped", target("/api/me?b=2&a=%41"), &[MISMATCH]),
        ("one more in the query", target("/api/me?b=2&a=A&c="), &[MISMATCH]),
        ("no query", target("/api/me"), &[MISMATCH]),
        ("an empty query", target("/api/me?"), &[NO_REQUEST, MISMATCH]),
        ("body", Sent { body: Some(BODY.replace("10", "11").into_bytes()), ..w.good() }, &[MISMATCH]),
        (
            "a space in the body",
            Sent { body: Some(format!("{BODY} ").into_bytes()), ..w.good() },
            &[MISMATCH],
        ),
        ("no body", Sent { body: None, ..w.good() }, &[MISMATCH, MALFORMED]),
        ("digest", edited(w.good(), "Content-Digest", |d| flip(d, 15)), &[MISMATCH]),
        ("no digest", w.good().without("Content-Digest"), &[MISMATCH, MALFORMED]),
        ("digest of another body", edited(w.good(), "Content-Digest", |_| digest_of(&w, "{}")), &[MISMATCH]),
        ("another's session", as_bob, &[MISMATCH]),
        ("nonce", input(|i| flip(i, i.find("nonce=\"").unwrap() + 7)), &[MISMATCH]),
        ("scheme", input(|i| i.replace("tag=\"imgate\"", "tag=\"other\"")), &[MALFORMED]),
        ("algorithm", input(|i| i.replace("hmac-sha256", "hmac-sha512")), &[MALFORMED]),
        ("a component less", input(|i| i.replace(" \"@query\"", "")), &[MALFORMED]),
        ("a component more", input(|i| i.replace("\"@query\"", "\"@query\" \"host\"")), &[MALFORMED]),
        (
            "order of components",
            input(|i| i.replace("\"@path\" \"@query\"", "\"@query\" \"@path\"")),
            &[MALFORMED],
        ),
        ("a parameter more", input(|i| format!("{i};expires=9999999999")), &[MALFORMED]),
        ("label", input(|i| i.replacen('=', "2=", 1)), &[MALFORMED]),
    ];
    for (what, sent, verdicts) in cases {
        w.refuses(what, &sent, verdicts).await;
    }
}

fn digest_of(w: &World, body: &str) -> String {
    let signed = w.ann.post(TARGET, body);
    signed.headers.iter().find(|(name, _)| name == "Content-Digest").unwrap().1.clone()
}

#[tokio::test]
async fn row_18_a_time_that_is_off_is_refused() {
    let w = world().await;
    w.takes_what_is_signed().await;
    let now = UnixTime::now().0;
    // A busy machine may take a while to send it; the skew is 60 s.
    for (created, passes) in
        [(now - 40, true), (now + 50, true), (now - 61, false), (now + 75, false), (0, false)]
    {
        let sent = w.ann.sign_at(Sent::new("POST", TARGET).body(BODY.as_bytes()), UnixTime(created));
        if passes {
            assert_eq!(w.gateway.send(&sent).await.verdict(), (200, 0), "{created}");
            w.sidecar.take();
        } else {
            w.refuses(&format!("{created}"), &sent, &[SKEWED]).await;
        }
    }
    let in_ms = format!("{}", now * 1000);
    for value in ["-1", "1.5", "18446744073709551616", "1e9", "0x10", "\"1\"", "", " 1", "+1", &in_ms] {
        let sent = edited(w.good(), "Signature-Input", |input| {
            let (before, rest) = input.split_once("created=").unwrap();
            let (_, after) = rest.split_once(';').unwrap();
            format!("{before}created={value};{after}")
        });
        w.refuses(&format!("created={value}"), &sent, &[SKEWED, MALFORMED]).await;
    }
}

#[tokio::test]
async fn row_19_a_signature_spelled_otherwise_is_refused() {
    let w = world().await;
    w.takes_what_is_signed().await;
    type Edit = fn(&str) -> String;
    // A signature is `label=:base64 of 32 bytes:`, so the last of 43 characters has two bits to spare.
    let edits: [(&str, Edit); 20] = [
        ("empty", |_| String::new()),
        ("nothing within", |_| "imgate=::".to_owned()),
        ("short", |s| s.replacen(&s[s.len() - 10..], "=:", 1)),
        ("a byte short", |s| format!("{}AA==:", &s[..s.len() - 5])),
        ("long", |s| format!("{}AAAA:", &s[..s.len() - 1])),
        ("very long", |s| s.replace(":", &format!(":{}", "A".repeat(4000)))),
        ("no padding", |s| format!("{}:", &s[..s.len() - 2])),
        ("too much padding", |s| format!("{}=:", &s[..s.len() - 1])),
        ("a last character with spare bits", |s| spare(s)),
        ("a character that is none", |s| s.replacen(':', ":*", 1)),
        ("a space within", |s| format!("{} {}", &s[..s.len() / 2], &s[s.len() / 2..])),
        ("a space within its colons", |s| s.replacen(':', ": ", 1)),
        ("no colons", |s| s.replace(':', "")),
        ("quoted", |s| s.replace(':', "\"")),
        ("hexadecimal", |s| format!("{}:{}:", s.split(':').next().unwrap(), "ab".repeat(32))),
        ("two of them", |s| format!("{s}, {s}")),
        ("two labels", |s| format!("{s}, other=:AA==:")),
        ("another label", |s| format!("x{s}")),
        ("a parameter", |s| format!("{s};x=1")),
        ("not ASCII", |s| s.replacen(':', ":\u{e9}", 1)),
    ];
    for (what, edit) in edits {
        w.refuses(what, &edited(w.good(), "Signature", edit), &[MALFORMED, MISMATCH]).await;
    }
    for name in ["Signature", "Signature-Input", "Content-Digest"] {
        let good = w.good();
        let (_, value) = good.headers.iter().find(|(n, _)| n == name).unwrap().clone();
        w.refuses(&format!("{name} twice"), &good.header(name, &value), &[MALFORMED]).await;
    }
}

/// The same bytes, spelled with a last character whose spare bits are not zero.
fn spare(signature: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let at = signature.len() - 3;
    let digit = ALPHABET.find(&signature[at..=at]).unwrap();
    [&signature[..at], &ALPHABET[digit + 1..digit + 2], &signature[at + 1..]].concat()
}

#[tokio::test]
async fn row_20_a_signed_body_that_is_cut_reaches_nobody() {
    let w = world().await;
    w.takes_what_is_signed().await;
    for kept in [0, 1, BODY.len() - 1] {
        let wire = w.good().wire();
        let mut client = Client::connect(w.gateway.address).await;
        client.write(&wire[..wire.len() - BODY.len() + kept]).await;
        let (mut stream, _) = client.into_stream();
        stream.shutdown().await.unwrap();
        let said = crate::support::ws::read_to_end(&mut stream).await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400 "), "{kept} {said:?}");
        assert_eq!(w.sidecar.take().bytes, b"", "{kept}");
    }
}

#[tokio::test]
async fn row_21_a_compressed_body_is_never_inflated() {
    let w = world().await;
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![b' '; 40 << 20]).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 60_000);
    let sent =
        |target: &str| w.ann.sign(Sent::new("POST", target).body(&packed)).header("Content-Encoding", "gzip");
    // Where nobody reads it, it passes as it is.
    assert_eq!(w.gateway.send(&sent("/api/me")).await.verdict(), (200, 0));
    assert!(w.sidecar.take().bytes.ends_with(&packed));
    // Where a field of it says who is meant, it cannot be read, so it is refused.
    let reply = w.gateway.send(&sent(FRIENDS)).await;
    assert_eq!(reply.verdict(), NO_REQUEST, "{}", reply.text());
    assert!(w.openim.records().is_empty());
}

#[tokio::test]
async fn what_connection_names_does_not_take_ours_away() {
    let w = world().await;
    let sent = w.ann.post(FRIENDS, r#"{"userID":"ann"}"#).header("token", "evil").header(
        "Connection",
        "close, token, operationID, X-Forwarded-For, X-Real-IP, X-Request-Api, Content-Type",
    );
    assert_eq!(w.gateway.send(&sent).await.verdict(), (200, 0));
    let seen = w.openim.records().pop().unwrap();
    assert_eq!(seen.header("token"), Some(w.ann.token.as_str()));
    for name in ["token", "operationID", "x-forwarded-for", "x-real-ip", "x-request-api", "content-type"] {
        assert_eq!(seen.copies(name), 1, "{name}");
    }
}
