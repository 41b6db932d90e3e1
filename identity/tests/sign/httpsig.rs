//! Agreement with the crate `httpsig`, both ways.

use httpsig::prelude::message_component::{HttpMessageComponent, HttpMessageComponentId};
use httpsig::prelude::{
    AlgorithmName, HttpSignatureBase, HttpSignatureHeaders, HttpSignatureParams, SharedKey,
};
use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::{HttpKey, Nonce, Presented, Signature, Target, sign};
use imgate_identity::time::UnixTime;

const SECRET: [u8; 32] = [7; 32];
/// The key of [`SECRET`], from `vectors/rfc9421.py`: the other side derives nothing of its own.
const KEY: &str = "j3WB+mnuFmUIROeELd+L8APyywJnss0UbIRSdxTNh8c=";
const NONCE: &str = "0123456789abcdefABCDEF";
const CREATED: u64 = 1_700_000_000;
const DIGEST_OF_HELLO: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";

const TARGETS: [(Target<'_>, Option<&str>); 4] = [
    (Target { method: "GET", authority: "im.example.com", path: "/", query: None }, None),
    (
        Target { method: "GET", authority: "im.example.com:8443", path: "/a%2Fb", query: Some("b=2&a=%41") },
        None,
    ),
    (
        Target { method: "POST", authority: "im.example.com", path: "/msg/send_msg", query: None },
        Some("hello"),
    ),
    (Target { method: "PUT", authority: "[::1]:80", path: "/x", query: Some("a=") }, Some("hello")),
];

fn lines(target: &Target<'_>, body: Option<&str>) -> Vec<HttpMessageComponent> {
    let mut lines = vec![
        format!("\"@method\": {}", target.method),
        format!("\"@authority\": {}", target.authority),
        format!("\"@path\": {}", target.path),
        format!("\"@query\": ?{}", target.query.unwrap_or_default()),
    ];
    lines.extend(body.map(|_| format!("\"content-digest\": {DIGEST_OF_HELLO}")));
    lines.iter().map(|line| HttpMessageComponent::try_from(line.as_str()).unwrap()).collect()
}

fn their_key() -> SharedKey {
    SharedKey::from_base64(&AlgorithmName::HmacSha256, KEY).unwrap()
}

fn session() -> SessionId {
    SessionId::from_bytes([3; 16])
}

fn our_key() -> HttpKey {
    HttpKey::derive(&SessionSecret::new(SECRET))
}

#[test]
fn their_signatures_verify_here() {
    for (target, body) in TARGETS {
        let lines = lines(&target, body);
        let covered: Vec<HttpMessageComponentId> = lines.iter().map(|line| line.id.clone()).collect();
        let mut params = HttpSignatureParams::try_new(&covered).unwrap();
        params
            .set_created(CREATED)
            .set_nonce(NONCE)
            .set_alg(&AlgorithmName::HmacSha256)
            .set_keyid(&session().to_string())
            .set_tag("imgate");
        let base = HttpSignatureBase::try_new(&lines, &params).unwrap();
        let signed = base.build_signature_headers(&their_key(), Some("theirs")).unwrap();

        let (input, value) = (signed.signature_input_header_value(), signed.signature_header_value());
        let digest = body.map(|_| DIGEST_OF_HELLO.as_bytes());
        let headers = Presented {
            signature_input: input.as_bytes(),
            signature: value.as_bytes(),
            content_digest: digest,
        };
        let signature = Signature::parse(headers).unwrap();

        assert_eq!(signature.base(&target), base.to_string());
        assert_eq!(signature.verify(&our_key(), &target), Ok(()), "{target:?}");
        assert_eq!(signature.check_digest(body.unwrap_or_default().as_bytes()), Ok(()));
        assert!(signature.verify(&our_key(), &Target { path: "/other", ..target }).is_err());
    }
}

#[test]
fn our_signatures_verify_there() {
    for (target, body) in TARGETS {
        let nonce = Nonce::parse(NONCE).unwrap();
        let signed =
            sign(&our_key(), &session(), &target, body.map(str::as_bytes), UnixTime(CREATED), &nonce);

        let map = HttpSignatureHeaders::try_parse(&signed.signature, &signed.signature_input).unwrap();
        let (_, theirs) = map.first().unwrap();
        let verified = |target: &Target<'_>| {
            let base = HttpSignatureBase::try_new(&lines(target, body), theirs.signature_params()).unwrap();
            base.verify_signature_headers(&their_key(), theirs)
        };

        assert_eq!(signed.content_digest.as_deref(), body.map(|_| DIGEST_OF_HELLO));
        assert!(verified(&target).is_ok(), "{target:?}");
        assert!(verified(&Target { path: "/other", ..target }).is_err());
    }
}
