//! `identity/vectors/canonical.json`, which no code of this crate has made.

use std::collections::{BTreeMap, HashSet};

use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::canonical::{Config, Scheme, Signable};
use imgate_identity::sign::{Nonce, Target};
use imgate_identity::time::UnixTime;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    schemes: BTreeMap<String, Config>,
    accepted: Vec<Accepted>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Case {
    scheme: String,
    name: String,
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    body: Option<String>,
    secret: String,
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Accepted {
    #[serde(flatten)]
    case: Case,
    session_id: String,
    millis: u64,
    nonce: String,
    string_to_sign: String,
}

#[derive(Deserialize)]
struct Refused {
    #[serde(flatten)]
    case: Case,
    cause: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../vectors/canonical.json")).unwrap()
}

impl Vectors {
    fn scheme(&self, case: &Case) -> Scheme {
        Scheme::new(&self.schemes[&case.scheme]).unwrap_or_else(|e| panic!("{}: {e}", case.scheme))
    }
}

impl Case {
    fn target(&self) -> Target<'_> {
        let Self { method, authority, path, query, .. } = self;
        Target { method, authority, path, query: query.as_deref() }
    }

    fn body(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default().as_bytes()
    }

    fn secret(&self) -> SessionSecret {
        SessionSecret::from_base64(&self.secret).unwrap()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(|value| value.as_bytes())
    }

    /// The whole way of a request; the label of the first thing that is wrong with it.
    fn judge(&self, scheme: &Scheme) -> Result<(), &'static str> {
        let signature = scheme.parse(|name| self.header(name)).map_err(|cause| cause.as_str())?;
        signature.verify(&self.secret(), &self.target(), self.body()).map_err(|_| "mismatch")?;
        signature.check_digest(self.body()).map_err(|fault| fault.as_str())
    }
}

#[test]
fn accepted_vectors_verify_and_are_read_right() {
    let vectors = vectors();
    assert!(vectors.accepted.len() >= 40);
    for Accepted { case, session_id, millis, string_to_sign, .. } in &vectors.accepted {
        let name = format!("{}: {}", case.scheme, case.name);
        let scheme = vectors.scheme(case);
        let signature = scheme.parse(|name| case.header(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(signature.created, UnixTime(millis / 1000), "{name}");
        assert_eq!(signature.session.to_string(), *session_id, "{name}");
        assert_eq!(signature.base(&case.target(), case.body()), *string_to_sign, "{name}");
        assert_eq!(case.judge(&scheme), Ok(()), "{name}");
    }
}

#[test]
fn signing_gives_the_vectors_byte_for_byte() {
    let vectors = vectors();
    for Accepted { case, session_id, millis, nonce, .. } in &vectors.accepted {
        let signed = vectors.scheme(case).sign(
            &case.secret(),
            &Signable {
                session: SessionId::parse(session_id).unwrap(),
                target: case.target(),
                body: case.body(),
                millis: *millis,
                nonce: &Nonce::parse(nonce).unwrap(),
                signed_headers: &[],
            },
        );
        let ours: BTreeMap<String, String> =
            signed.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(ours, case.headers, "{}: {}", case.scheme, case.name);
    }
}

#[test]
fn refused_vectors_are_refused_for_their_cause() {
    let vectors = vectors();
    assert!(vectors.refused.len() >= 100);
    for Refused { case, cause } in &vectors.refused {
        let verdict = case.judge(&vectors.scheme(case));
        assert_eq!(verdict, Err(cause.as_str()), "{}: {}", case.scheme, case.name);
    }
}

#[test]
fn every_cause_has_a_vector() {
    let seen: HashSet<String> = vectors().refused.into_iter().map(|refused| refused.cause).collect();
    let causes = [
        "header_absent",
        "header_too_long",
        "encoding",
        "form",
        "session",
        "timestamp",
        "nonce",
        "digest_value",
        "signature_value",
        "mismatch",
        "digest_mismatch",
    ];
    for cause in causes {
        assert!(seen.contains(cause), "{cause}");
    }
    assert_eq!(seen.len(), causes.len());
}
