//! Requests signed the app's own way: the same checks as for RFC 9421, in the same order.

use imgate_identity::sign::Nonce;
use imgate_identity::sign::Target;
use imgate_identity::sign::canonical::{BadScheme, Config, Field, Scheme, Signable};

use crate::testing::{
    NOW, Refused, Sample, build_error, chain, get, let_time_pass, run, run_all, sample, secret_of,
    session_of, signed_post,
};
use crate::{BuildError, FilterConfig, Step};

/// A digest in a header, a nonce, everything signed.
const FULL: &str = r#"{ canonical: {
    headers: { x-key: "{session}", x-time: "{timestamp}", x-nonce: "{nonce}", x-body: "{digest}", x-sign: "v1={signature}" },
    string_to_sign: "{method} {authority} {target}\n{timestamp}\n{nonce}\n{digest}",
    encoding: hex, digest: base64, key: hkdf, timestamp: ms } }"#;

/// No nonce, no digest in a header, no query.
const BARE: &str = r#"{ canonical: {
    headers: { x-key: "{session}", x-time: "{timestamp}", x-sign: "{signature}" },
    string_to_sign: "{method}\n{path}\n{timestamp}\n{digest}",
    encoding: base64url, digest: hex, key: raw, timestamp: s } }"#;

fn chain_of(scheme: &str) -> String {
    format!("- verify_signature: {{ scheme: {scheme} }}")
}

fn refused(status: u16, err_code: u32, reason: &'static str) -> Option<Refused> {
    Some(Refused { status, err_code, reason })
}

/// Who signs, for whom, and when.
struct App<'a> {
    scheme: &'a str,
    user: &'a str,
    signer: &'a str,
    millis: u64,
}

impl<'a> App<'a> {
    fn new(scheme: &'a str) -> Self {
        Self { scheme, user: "u1", signer: "u1", millis: NOW.0 * 1000 }
    }

    fn send(&self, target: &str, body: Option<&str>) -> Sample {
        let config: super::Scheme = serde_saphyr::from_str(self.scheme).unwrap();
        let super::Scheme::Canonical(config) = config else { panic!("no canonical scheme") };
        let method = if body.is_some() { "POST" } else { "GET" };
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let request = Signable {
            session: session_of(self.user),
            target: Target { method, authority: "im.example.com", path, query },
            body: body.unwrap_or_default().as_bytes(),
            millis: self.millis,
            nonce: &Nonce::random().unwrap(),
            signed_headers: &[],
        };
        let signed = Scheme::new(&config).unwrap().sign(&secret_of(self.signer), &request);
        let unsigned = sample(method, target, body);
        signed.iter().fold(unsigned, |sample, (name, value)| sample.header(name, value))
    }
}

fn full_post(body: &str) -> Sample {
    App::new(FULL).send("/friend/get_friend_list?v=1", Some(body))
}

fn bare_post(body: &str) -> Sample {
    App::new(BARE).send("/friend/get_friend_list", Some(body))
}

#[tokio::test]
async fn a_request_signed_the_apps_way_tells_its_caller() {
    for (scheme, sample) in [
        (FULL, full_post("{}")),
        (BARE, bare_post("{}")),
        (FULL, App::new(FULL).send("/x", None)),
        (BARE, App::new(BARE).send("/x", None)),
    ] {
        let out = run(&chain_of(scheme), sample).await;
        assert_eq!(out.refused(), None);
        assert_eq!(out.cx.user().unwrap().id.as_str(), "u1");
    }
}

#[tokio::test]
async fn the_credential_is_there_whole_and_once() {
    let mut cases = vec![(get("/x"), refused(401, 20101, "signature_missing"))];
    for name in ["x-key", "x-time", "x-nonce", "x-body", "x-sign"] {
        cases.push((full_post("{}").edit(name, |_| None), refused(401, 20102, "signature_incomplete")));
        cases.push((full_post("{}").header(name, "x"), refused(401, 20102, "credential_duplicated")));
    }
    cases
        .push((full_post("{}").edit("x-sign", |v| Some(v.replace("v1", "v2"))), refused(401, 20102, "form")));
    cases.push((full_post("{}").edit("x-key", |_| Some("ann".into())), refused(401, 20102, "session")));
    for (sample, expected) in cases {
        assert_eq!(run(&chain_of(FULL), sample).await.refused(), expected);
    }
}

#[tokio::test]
async fn the_chain_chooses_the_scheme_and_the_client_does_not() {
    let missing = refused(401, 20101, "signature_missing");
    assert_eq!(run(&chain_of(FULL), signed_post("/x", "{}")).await.refused(), missing);
    assert_eq!(run("- verify_signature: {}", full_post("{}")).await.refused(), missing);
    let incomplete = refused(401, 20102, "signature_incomplete");
    assert_eq!(run(&chain_of(FULL), bare_post("{}")).await.refused(), incomplete);
}

#[tokio::test]
async fn what_was_signed_is_what_is_asked() {
    let mismatch = refused(401, 20104, "signature_mismatch");
    for target in ["/friend/get_friend_list?v=2", "/friend/get_friend_list", "/friend/get_friend_lis%74?v=1"]
    {
        let mut moved = full_post("{}");
        moved.head.set_raw_path(target.as_bytes()).unwrap();
        assert_eq!(run(&chain_of(FULL), moved).await.refused(), mismatch, "{target}");
    }
    let mut put = full_post("{}");
    put.head.set_method(http::Method::PUT);
    assert_eq!(run(&chain_of(FULL), put).await.refused(), mismatch);
    let elsewhere = full_post("{}").edit("host", |_| Some("im.example.com:8443".into()));
    assert_eq!(run(&chain_of(FULL), elsewhere).await.refused(), mismatch);
    let later = full_post("{}").edit("x-time", |_| Some(format!("{}", NOW.0 * 1000 + 1)));
    assert_eq!(run(&chain_of(FULL), later).await.refused(), mismatch);
    let renewed = full_post("{}").edit("x-nonce", |_| Some("another-nonce-of-the-attacker".into()));
    assert_eq!(run(&chain_of(FULL), renewed).await.refused(), mismatch);
    let foreign = App { user: "rotated", ..App::new(FULL) }.send("/x", Some("{}"));
    assert_eq!(run(&chain_of(FULL), foreign).await.refused(), mismatch);
}

#[tokio::test]
async fn a_body_is_the_one_that_was_signed() {
    for other in ["{ }", "", "{}{}"] {
        let (mut full, mut bare) = (full_post("{}"), bare_post("{}"));
        full.body = Some(other.to_owned().into());
        bare.body = Some(other.to_owned().into());
        assert_eq!(run(&chain_of(FULL), full).await.refused(), refused(401, 20104, "digest_mismatch"));
        assert_eq!(run(&chain_of(BARE), bare).await.refused(), refused(401, 20104, "signature_mismatch"));
    }
    let other = full_post("{ }");
    let digest = other.head.headers["x-body"].to_str().unwrap().to_owned();
    let mut swapped = full_post("{}").edit("x-body", move |_| Some(digest.clone()));
    swapped.body = other.body;
    assert_eq!(run(&chain_of(FULL), swapped).await.refused(), refused(401, 20104, "signature_mismatch"));
}

#[tokio::test]
async fn a_query_that_is_not_signed_is_refused() {
    let mut sample = bare_post("{}");
    sample.head.set_raw_path(b"/friend/get_friend_list?userID=u2").unwrap();
    assert_eq!(run(&chain_of(BARE), sample).await.refused(), refused(401, 20102, "query_not_covered"));
}

#[tokio::test]
async fn the_clock_counts_in_the_unit_of_the_scheme() {
    let at = |millis| App { millis, ..App::new(FULL) }.send("/x", None);
    for within in [(NOW.0 - 60) * 1000, (NOW.0 + 60) * 1000 + 999] {
        assert_eq!(run(&chain_of(FULL), at(within)).await.refused(), None, "{within}");
    }
    // The last are seconds where milliseconds belong.
    for outside in [(NOW.0 - 60) * 1000 - 1, (NOW.0 + 61) * 1000, 0, NOW.0] {
        assert_eq!(run(&chain_of(FULL), at(outside)).await.refused(), refused(401, 20103, "clock_skew"));
    }
}

#[tokio::test]
async fn each_standing_has_its_answer() {
    let cases = [
        ("nobody", "nobody", refused(401, 1501, "session_unknown")),
        ("expired", "expired", refused(401, 1501, "session_expired")),
        ("revoked", "revoked", refused(401, 1506, "session_revoked")),
        ("banned", "banned", refused(401, 1506, "user_banned")),
        ("banned", "u1", refused(401, 20104, "signature_mismatch")),
        ("imAdmin", "imAdmin", refused(403, 1002, "admin_on_user_surface")),
        ("rotated", "rotated", None),
        ("rotated", "before", None),
        ("rotated", "u1", refused(401, 20104, "signature_mismatch")),
    ];
    for scheme in [FULL, BARE] {
        for (user, signer, expected) in &cases {
            let sample = App { user, signer, ..App::new(scheme) }.send("/x", Some("{}"));
            assert_eq!(run(&chain_of(scheme), sample).await.refused(), *expected, "{user} by {signer}");
        }
    }
}

#[tokio::test]
async fn a_replay_is_found_by_the_nonce_or_by_the_mac() {
    for (scheme, sample) in [(FULL, full_post("{}")), (BARE, bare_post("{}"))] {
        for replay in ["local", "redis"] {
            let chain = format!("- verify_signature: {{ scheme: {scheme}, replay: {replay} }}");
            let mut bad = sample.clone();
            bad.body = Some("{ }".into());
            let outs = run_all(&chain, vec![bad, sample.clone(), sample.clone()]).await;
            assert!(outs[0].refused().is_some(), "a refused request burns nothing");
            assert_eq!(outs[1].refused(), None);
            assert_eq!(outs[2].refused(), refused(401, 20105, "nonce_seen"), "{replay}");
        }
    }
    let again = App::new(BARE).send("/friend/get_friend_list", Some("{\"other\":1}"));
    let outs = run_all(&chain_of(BARE), vec![bare_post("{}"), again]).await;
    assert_eq!(outs[1].refused(), None, "another request is no replay");
}

#[tokio::test]
async fn a_body_that_takes_longer_than_the_signature_lives_is_refused() {
    for (scheme, sample) in [(FULL, full_post("{}")), (BARE, bare_post("{}"))] {
        let_time_pass(61);
        let out = run(&chain_of(scheme), sample.clone()).await;
        assert_eq!(out.refused(), refused(401, 20103, "clock_skew"));
        let_time_pass(59);
        assert_eq!(run(&chain_of(scheme), sample).await.refused(), None);
    }
    let_time_pass(30);
    let ending = App { user: "ending", signer: "ending", ..App::new(BARE) }.send("/x", Some("{}"));
    assert_eq!(run(&chain_of(BARE), ending).await.refused(), refused(401, 1501, "session_expired"));
}

#[tokio::test]
async fn what_the_signature_is_read_from_is_stripped_unasked() {
    let chain_text = format!("{}\n- strip_credentials: {{}}", chain_of(FULL));
    let out = run(&chain_text, full_post("{}").header("x-kept", "1")).await;
    assert_eq!(out.refused(), None);
    for name in ["x-key", "x-time", "x-nonce", "x-body", "x-sign"] {
        assert!(out.sent(name).is_empty(), "{name}");
    }
    assert_eq!(out.sent("x-kept"), ["1"]);
}

#[test]
fn what_is_stripped_is_told() {
    let chain_text = format!("{}\n- strip_credentials: {{}}", chain_of(FULL));
    let summary = chain(&chain_text).filters()[1].filter.summary();
    assert!(summary.contains("x-sign") && summary.contains("signature-input"), "{summary}");
}

#[test]
fn a_scheme_that_leaves_something_open_is_refused_or_warned_of() {
    let gap = BARE.replace("{method}\\n", "");
    assert_eq!(build_error(&chain_of(&gap)), BuildError::BadScheme(BadScheme::Gap(Field::Method)));
    let weak = gap.replace("timestamp: s ", "timestamp: s, weak: true ");
    let warning = |scheme: &str| {
        let steps: Vec<Step> = serde_saphyr::from_str(&chain_of(scheme)).unwrap();
        steps[0].filter.warning().map(|warning| warning.to_string())
    };
    assert!(chain(&chain_of(&weak)).filters()[0].filter.summary().contains("weak"));
    let text = warning(&weak).unwrap();
    assert!(text.starts_with("weak: signatures leave out {method}, {query}, so"), "{text}");
    assert_eq!(warning(FULL), None);
    assert_eq!(warning("rfc9421"), None);
}

#[tokio::test]
async fn a_weak_scheme_opens_what_it_says_and_no_more() {
    let weak = BARE.replace("\\n{digest}", "").replace("digest: hex, ", "").replace("s }", "s, weak: true }");
    let mut sample = App::new(&weak).send("/x", Some("{}"));
    sample.body = Some("{ }".into());
    assert_eq!(run(&chain_of(&weak), sample.clone()).await.refused(), None);
    sample.head.set_method(http::Method::PUT);
    assert_eq!(run(&chain_of(&weak), sample).await.refused(), refused(401, 20104, "signature_mismatch"));
}

#[test]
fn unknown_words_of_a_scheme_are_refused() {
    for wrong in [
        "{ canonical: {} }",
        "canonical",
        "hmac",
        "{ rfc9421: {} }",
        &BARE.replace("key:", "keys:"),
        &BARE.replace("raw", "Raw"),
    ] {
        assert!(serde_saphyr::from_str::<Vec<FilterConfig>>(&chain_of(wrong)).is_err(), "{wrong}");
    }
    let config: Result<Config, _> =
        serde_saphyr::from_str("{ headers: {}, string_to_sign: '', encoding: hex, key: raw, timestamp: s }");
    assert!(Scheme::new(&config.unwrap()).is_err());
}
