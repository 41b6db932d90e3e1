//! What passes, what is refused, and in which order.

use std::time::Duration;

use crate::BuildError;
use crate::testing::{
    NOW, Refused, Sample, build_error, get, let_time_pass, run, run_all, signed, signed_by, signed_post,
};
use imgate_identity::time::UnixTime;

const CHAIN: &str = "- verify_signature: {}";

fn refused(status: u16, err_code: u32, reason: &'static str) -> Option<Refused> {
    Some(Refused { status, err_code, reason })
}

#[tokio::test]
async fn a_route_may_be_for_some_kinds_of_device_only() {
    let on_android = || signed_post("/x", "{}");
    let out = run("- verify_signature: {}", on_android().ruled(None, None, Some("[IOS, Android]"))).await;
    assert_eq!((out.refused(), out.body.as_deref()), (None, Some(&b"{}"[..])));
    let out = run("- verify_signature: {}", on_android().ruled(None, None, Some("[Web]"))).await;
    let reason = "platform_not_admitted";
    assert_eq!(out.refused(), Some(Refused { status: 403, err_code: 1002, reason }));
}

#[tokio::test]
async fn a_signed_request_tells_its_caller() {
    let out = run(CHAIN, signed_post("/friend/get_friend_list", "{}")).await;
    assert_eq!(out.refused(), None);
    assert_eq!(out.cx.user().unwrap().id.as_str(), "u1");
    let out = run(CHAIN, signed("u1", "u1", "/x?a=%41&b=", None, NOW)).await;
    assert_eq!(out.refused(), None);
}

#[tokio::test]
async fn credentials_are_there_exactly_once() {
    let signed = || signed_post("/x", "{}");
    let cases: [(Sample, _); 6] = [
        (get("/x"), refused(401, 20101, "signature_missing")),
        (signed().edit("signature", |_| None), refused(401, 20102, "signature_incomplete")),
        (signed().edit("signature-input", |_| None), refused(401, 20102, "signature_incomplete")),
        (signed().header("signature", "imgate=:AA==:"), refused(401, 20102, "credential_duplicated")),
        (signed().header("signature-input", "x"), refused(401, 20102, "credential_duplicated")),
        (signed().header("content-digest", "x"), refused(401, 20102, "credential_duplicated")),
    ];
    for (sample, expected) in cases {
        assert_eq!(run(CHAIN, sample).await.refused(), expected);
    }
}

#[tokio::test]
async fn an_upgrade_header_changes_nothing() {
    let out = run(CHAIN, get("/x").header("upgrade", "websocket").header("connection", "upgrade")).await;
    assert_eq!(out.refused(), refused(401, 20101, "signature_missing"));
}

#[tokio::test]
async fn a_body_is_covered_by_its_digest() {
    let mut uncovered = signed("u1", "u1", "/x", None, NOW);
    uncovered.body = Some("{}".into());
    assert_eq!(run(CHAIN, uncovered).await.refused(), refused(401, 20102, "body_not_covered"));

    let mut bodiless = signed_post("/x", "{}");
    bodiless.body = None;
    assert_eq!(run(CHAIN, bodiless).await.refused(), refused(401, 20102, "digest_without_body"));

    for other in ["{ }", "", "{}{}"] {
        let mut swapped = signed_post("/x", "{}");
        swapped.body = Some(other.into());
        assert_eq!(run(CHAIN, swapped).await.refused(), refused(401, 20104, "digest_mismatch"));
    }
}

#[tokio::test]
async fn what_was_signed_is_what_is_asked() {
    let moved = |target: &str| {
        let mut sample = signed("u1", "u1", "/a?b=c&d=e", None, NOW);
        sample.head.set_raw_path(target.as_bytes()).unwrap();
        sample
    };
    for target in ["/A?b=c&d=e", "/a?d=e&b=c", "/a", "/%61?b=c&d=e", "/a?b=%63&d=e", "/a?b=c&d=e&"] {
        let out = run(CHAIN, moved(target)).await;
        assert_eq!(out.refused(), refused(401, 20104, "signature_mismatch"), "{target}");
    }
    assert_eq!(run(CHAIN, moved("/a?")).await.refused(), refused(400, 20202, "bare_question_mark"));

    let mut put = signed_post("/x", "{}");
    put.head.set_method(http::Method::PUT);
    assert_eq!(run(CHAIN, put).await.refused(), refused(401, 20104, "signature_mismatch"));
}

#[tokio::test]
async fn only_our_own_names_can_be_signed_for() {
    let host = |name: &'static str| signed_post("/x", "{}").edit("host", move |_| Some(name.to_owned()));
    let cases = [
        ("im.example.com", None),
        ("IM.Example.com", None),
        ("im.example.com:443", None),
        ("im.example.com:8443", refused(401, 20104, "signature_mismatch")),
        ("im.example.com:80", refused(400, 20202, "unknown_authority")),
        ("evil.example.com", refused(400, 20202, "unknown_authority")),
    ];
    for (name, expected) in cases {
        assert_eq!(run(CHAIN, host(name)).await.refused(), expected, "{name}");
    }
}

#[tokio::test]
async fn the_clock_counts_both_ways() {
    let at = |created: u64| signed("u1", "u1", "/x", None, UnixTime(created));
    for within in [NOW.0 - 60, NOW.0 + 60] {
        assert_eq!(run(CHAIN, at(within)).await.refused(), None);
    }
    for outside in [NOW.0 - 61, NOW.0 + 61, 0, 999_999_999_999_999] {
        assert_eq!(run(CHAIN, at(outside)).await.refused(), refused(401, 20103, "clock_skew"));
    }
}

#[tokio::test]
async fn each_standing_has_its_answer() {
    let cases = [
        ("nobody", refused(401, 1501, "session_unknown")),
        ("expired", refused(401, 1501, "session_expired")),
        ("revoked", refused(401, 1506, "session_revoked")),
        ("banned", refused(401, 1506, "user_banned")),
        ("imAdmin", refused(403, 1002, "admin_on_user_surface")),
    ];
    for (user, expected) in cases {
        assert_eq!(run(CHAIN, signed_by(user, "/x", "{}")).await.refused(), expected, "{user}");
    }
}

#[tokio::test]
async fn a_rotated_secret_is_honoured_in_its_grace() {
    let by = |secret| signed("rotated", secret, "/x", Some("{}"), NOW);
    assert_eq!(run(CHAIN, by("rotated")).await.refused(), None);
    assert_eq!(run(CHAIN, by("before")).await.refused(), None);
    assert_eq!(run(CHAIN, by("u1")).await.refused(), refused(401, 20104, "signature_mismatch"));
}

#[tokio::test]
async fn a_ban_is_told_only_to_its_holder() {
    let out = run(CHAIN, signed("banned", "u1", "/x", Some("{}"), NOW)).await;
    assert_eq!(out.refused(), refused(401, 20104, "signature_mismatch"));
}

#[tokio::test]
async fn a_replay_is_refused_where_the_route_says_so() {
    let sample = signed_post("/x", "{}");
    for (chain, second) in [
        (CHAIN, refused(401, 20105, "nonce_seen")),
        ("- verify_signature: { replay: redis }", refused(401, 20105, "nonce_seen")),
        ("- verify_signature: { replay: off }", None),
    ] {
        let outs = run_all(chain, vec![sample.clone(), sample.clone()]).await;
        assert_eq!(outs[0].refused(), None);
        assert_eq!(outs[1].refused(), second, "{chain}");
    }
}

#[tokio::test]
async fn a_refused_request_burns_no_nonce() {
    let good = signed_post("/x", "{}");
    let mut bad = good.clone();
    bad.body = Some("{ }".into());
    let outs = run_all(CHAIN, vec![bad, good]).await;
    assert_eq!(outs[0].refused(), refused(401, 20104, "digest_mismatch"));
    assert_eq!(outs[1].refused(), None);
}

#[tokio::test]
async fn a_body_that_takes_longer_than_the_signature_lives_is_refused() {
    for replay in ["local", "redis"] {
        let chain = format!("- verify_signature: {{ replay: {replay} }}");
        // The clock is read once before the body and once after it.
        let_time_pass(61);
        assert_eq!(run(&chain, signed_post("/x", "{}")).await.refused(), refused(401, 20103, "clock_skew"));
        let_time_pass(59);
        assert_eq!(run(&chain, signed_post("/x", "{}")).await.refused(), None);
    }
}

#[tokio::test]
async fn a_session_that_ends_while_the_body_comes_is_refused() {
    let_time_pass(30);
    let out = run(CHAIN, signed_by("ending", "/x", "{}")).await;
    assert_eq!(out.refused(), refused(401, 1501, "session_expired"));
}

#[test]
fn senseless_settings_are_refused() {
    assert_eq!(build_error("- verify_signature: { clock_skew: 301s }"), BuildError::WideSkew);
    assert_eq!(build_error("- verify_signature: { max_nonces: 0 }"), BuildError::NoNonces);
    assert!(super::MAX_CLOCK_SKEW >= Duration::from_secs(60));
}
