//! The worked example of `docs/signing.md`, made again from what the page says.

use std::collections::HashMap;

use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::session_token::{self, TokenKey};
use imgate_identity::sign::{HttpKey, Nonce, Signature, Target, sign};
use imgate_identity::time::UnixTime;
use imgate_identity::user::Platform;

use super::samples::PYTHON;

const PAGE: &str = include_str!("../../../docs/signing.md");

/// The lines of all blocks of this kind.
fn blocks(kind: &str) -> Vec<&'static str> {
    let opening = format!("```{kind}\n");
    let inside = PAGE.split(opening.as_str()).skip(1).map(|rest| rest.split("\n```").next().unwrap());
    inside.flat_map(str::lines).collect()
}

fn given() -> HashMap<&'static str, &'static str> {
    let pairs = blocks("example").into_iter().map(|line| line.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.trim(), value.trim())).collect()
}

#[test]
fn the_example_on_the_page_is_what_comes_out() {
    let given = given();
    let secret = SessionSecret::from_base64(given["secret"]).unwrap();
    let session = SessionId::parse(given["session_id"]).unwrap();
    let (authority, path) = given["url"].strip_prefix("https://").unwrap().split_once('/').unwrap();
    let path = format!("/{path}");
    let target = Target { method: given["method"], authority, path: &path, query: None };
    let created = UnixTime::parse(given["created"]).unwrap();
    let nonce = Nonce::parse(given["nonce"]).unwrap();

    let signed =
        sign(&HttpKey::derive(&secret), &session, &target, Some(given["body"].as_bytes()), created, &nonce);

    let digest = signed.content_digest.clone().unwrap();
    let headers = [
        format!("Content-Digest: {digest}"),
        format!("Signature-Input: {}", signed.signature_input),
        format!("Signature: {}", signed.signature),
    ];
    assert_eq!(blocks("headers"), headers);
    let base = Signature::parse(signed.presented()).unwrap().base(&target);
    assert_eq!(blocks("base").join("\n"), base);

    let expires = UnixTime::parse(given["expires"]).unwrap();
    let platform = Platform::parse(given["platform"]).unwrap();
    let token = session_token::mint(&TokenKey::derive(&secret), &session, expires, platform);
    assert_eq!(given["session_token"], token.expose());
}

#[test]
fn the_key_on_the_page_is_what_a_sample_derives() {
    let given = given();
    let job = ["key", given["secret"], "imgate/v1/http"].map(str::to_owned);
    assert_eq!(PYTHON.run(&[job.into()]), [[given["key"]]]);
}

#[test]
fn the_page_is_short() {
    assert!(PAGE.lines().count() < 150);
}
