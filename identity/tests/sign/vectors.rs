//! The vectors in `identity/vectors`, which no code of this crate has made.

use std::collections::HashSet;

use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::{HttpKey, Nonce, Presented, Signature, Target, sign};
use imgate_identity::time::UnixTime;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(flatten)]
    request: Request,
    #[serde(flatten)]
    headers: Headers,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    body: Option<String>,
    secret: String,
}

#[derive(Deserialize)]
struct Headers {
    signature_input: String,
    signature: String,
    content_digest: Option<String>,
}

#[derive(Deserialize)]
struct Accepted {
    #[serde(flatten)]
    case: Case,
    created: u64,
    nonce: String,
    session_id: String,
    as_we_sign: bool,
    signature_base: String,
}

#[derive(Deserialize)]
struct Refused {
    #[serde(flatten)]
    case: Case,
    cause: String,
}

fn accepted() -> Vec<Accepted> {
    serde_json::from_str(include_str!("../../vectors/signature.json")).unwrap()
}

fn refused() -> Vec<Refused> {
    serde_json::from_str(include_str!("../../vectors/signature-refused.json")).unwrap()
}

impl Case {
    fn presented(&self) -> Presented<'_> {
        Presented {
            signature_input: self.headers.signature_input.as_bytes(),
            signature: self.headers.signature.as_bytes(),
            content_digest: self.headers.content_digest.as_deref().map(str::as_bytes),
        }
    }

    fn target(&self) -> Target<'_> {
        let Request { method, authority, path, query, .. } = &self.request;
        Target { method, authority, path, query: query.as_deref() }
    }

    fn body(&self) -> Option<&[u8]> {
        self.request.body.as_deref().map(str::as_bytes)
    }

    fn key(&self) -> HttpKey {
        HttpKey::derive(&SessionSecret::from_base64(&self.request.secret).unwrap())
    }

    /// The whole way of a request; the label of the first thing that is wrong with it.
    fn judge(&self) -> Result<(), &'static str> {
        let signature = Signature::parse(self.presented()).map_err(|cause| cause.as_str())?;
        signature.verify(&self.key(), &self.target()).map_err(|_| "mismatch")?;
        signature.check_digest(self.body().unwrap_or_default()).map_err(|fault| fault.as_str())
    }
}

#[test]
fn accepted_vectors_verify() {
    let cases = accepted();
    assert!(cases.len() >= 12);
    for Accepted { case, created, nonce, session_id, signature_base, .. } in &cases {
        let name = &case.name;
        let signature = Signature::parse(case.presented()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(signature.created, UnixTime(*created), "{name}");
        assert_eq!(signature.nonce, nonce, "{name}");
        assert_eq!(signature.key_id.to_string(), *session_id, "{name}");
        assert_eq!(signature.covers_body(), case.request.body.is_some(), "{name}");
        assert_eq!(signature.base(&case.target()), *signature_base, "{name}");
        assert_eq!(case.judge(), Ok(()), "{name}");
    }
}

#[test]
fn signing_gives_the_vectors_byte_for_byte() {
    let cases: Vec<_> = accepted().into_iter().filter(|accepted| accepted.as_we_sign).collect();
    assert!(cases.len() >= 12);
    for Accepted { case, created, nonce, session_id, .. } in &cases {
        let session = SessionId::parse(session_id).unwrap();
        let nonce = Nonce::parse(nonce).unwrap();
        let signed = sign(&case.key(), &session, &case.target(), case.body(), UnixTime(*created), &nonce);
        assert_eq!(signed.signature_input, case.headers.signature_input, "{}", case.name);
        assert_eq!(signed.signature, case.headers.signature, "{}", case.name);
        assert_eq!(signed.content_digest, case.headers.content_digest, "{}", case.name);
    }
}

#[test]
fn refused_vectors_are_refused_for_their_cause() {
    let cases = refused();
    assert!(cases.len() >= 40);
    for Refused { case, cause } in &cases {
        assert_eq!(case.judge(), Err(cause.as_str()), "{}", case.name);
    }
}

#[test]
fn no_signature_verifies_by_the_decoy() {
    for Accepted { case, .. } in &accepted() {
        let signature = Signature::parse(case.presented()).unwrap();
        assert!(signature.verify(HttpKey::decoy(), &case.target()).is_err(), "{}", case.name);
    }
}

#[test]
fn every_cause_has_a_vector() {
    let seen: HashSet<_> = refused().into_iter().map(|refused| refused.cause).collect();
    let causes = [
        "input_too_long",
        "encoding",
        "label",
        "components",
        "syntax",
        "unknown_parameter",
        "duplicate_parameter",
        "missing_parameter",
        "created",
        "nonce",
        "keyid",
        "alg",
        "tag",
        "multiple",
        "label_mismatch",
        "signature_value",
        "digest_value",
        "digest_uncovered",
        "digest_absent",
        "mismatch",
        "digest_mismatch",
        "body_uncovered",
    ];
    for cause in causes {
        assert!(seen.contains(cause), "{cause}");
    }
    assert_eq!(seen.len(), causes.len());
}
