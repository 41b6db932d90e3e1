//! The vectors in `identity/vectors/jwt.json`, which no code of this crate has made.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use imgate_identity::jwt::{Algorithm, Claims, KeyFault, KeySet, Kind, MAX_LEN, MAX_SET_LEN, Verifier};
use imgate_identity::time::UnixTime;
use serde::Deserialize;

use super::{PUBLIC, verifier};

#[derive(Deserialize)]
struct Vectors {
    now: u64,
    issuer: String,
    audience: String,
    leeway: u64,
    max_age: u64,
    keys: HashMap<String, String>,
    rsa_pem: String,
    tokens: Vec<Token>,
    key_sets: Vec<Set>,
}

#[derive(Deserialize)]
struct Token {
    comment: String,
    keys: String,
    #[serde(rename = "type")]
    token_type: Option<String>,
    token: String,
    cause: Option<String>,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    expires_at: u64,
}

#[derive(Deserialize)]
struct Set {
    comment: String,
    jwks: String,
    kept: Option<Vec<String>>,
    cause: Option<String>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../vectors/jwt.json")).unwrap()
}

impl Vectors {
    fn key_sets(&self) -> HashMap<&str, KeySet> {
        let read = |(name, keys): (&String, &String)| match name.as_str() {
            "secret" => KeySet::from_secret(keys.as_bytes()),
            _ => KeySet::from_jwks(keys.as_bytes(), &PUBLIC),
        };
        self.keys.iter().map(|entry| (entry.0.as_str(), read(entry).unwrap())).collect()
    }

    fn verifier(&self, token_type: Option<&str>) -> Verifier {
        let verifier = verifier(&self.issuer, &self.audience, token_type);
        assert_eq!(verifier.policy().leeway, Duration::from_secs(self.leeway));
        assert_eq!(verifier.policy().max_age, Duration::from_secs(self.max_age));
        verifier
    }
}

#[test]
fn every_token_gets_its_verdict() {
    let vectors = vectors();
    let sets = vectors.key_sets();
    let mut accepted = 0;
    for token in &vectors.tokens {
        let verifier = vectors.verifier(token.token_type.as_deref());
        let verdict = verifier.verify(token.token.as_bytes(), &sets[&*token.keys], UnixTime(vectors.now));
        let claims = Claims {
            subject: token.subject.as_str().into(),
            roles: token.roles.iter().map(|role| role.as_str().into()).collect(),
            expires_at: UnixTime(token.expires_at),
        };
        let expected = token.cause.as_deref().map_or(Ok(claims), Err);
        assert_eq!(verdict.map_err(|fault| fault.as_str()), expected, "{}", token.comment);
        accepted += usize::from(token.cause.is_none());
    }
    assert!(accepted >= 25 && vectors.tokens.len() - accepted >= 250);
}

#[test]
fn every_key_set_gets_its_verdict() {
    let sets = vectors().key_sets;
    assert!(sets.len() >= 60);
    for set in &sets {
        let verdict = KeySet::from_jwks(set.jwks.as_bytes(), &PUBLIC);
        let kept = verdict.map(|keys| keys.ids().map(str::to_owned).collect::<Vec<_>>());
        let expected = set.kept.clone().ok_or_else(|| set.cause.as_deref().unwrap_or("neither"));
        assert_eq!(kept.map_err(KeyFault::as_str), expected, "{}", set.comment);
    }
}

#[test]
fn every_cause_that_a_token_can_have_has_a_vector() {
    let vectors = vectors();
    let seen: HashSet<_> = vectors.tokens.iter().filter_map(|token| token.cause.as_deref()).collect();
    let general = [
        "too_long",
        "parts",
        "encoding",
        "header",
        "type",
        "kid_missing",
        "kid_unknown",
        "alg",
        "signature",
        "claims",
        "issuer",
        "audience",
        "expired",
        "not_yet_valid",
        "not_yet_issued",
        "too_long_lived",
    ];
    let header = ["crit", "jku", "jwk", "x5u", "x5c", "b64", "zip", "enc", "cty"];
    let missing = ["exp", "iat", "iss", "aud", "sub"];
    let ill = ["exp", "iat", "nbf", "iss", "aud", "sub", "roles"];
    let causes = general.map(|cause| format!("jwt_{cause}")).into_iter();
    let causes = causes.chain(header.map(|name| format!("jwt_{name}_in_header")));
    let causes = causes.chain(missing.map(|claim| format!("jwt_{claim}_missing")));
    let causes: HashSet<_> = causes.chain(ill.map(|claim| format!("jwt_{claim}_malformed"))).collect();
    assert_eq!(seen, causes.iter().map(String::as_str).collect());
}

#[test]
fn keys_are_kept_for_the_wanted_algorithms_alone() {
    let vectors = vectors();
    let (all, now) = (vectors.keys["all"].as_bytes(), UnixTime(vectors.now));
    let verifier = vectors.verifier(None);
    let ids = |wanted: &[Algorithm]| {
        let keys = KeySet::from_jwks(all, wanted);
        keys.map(|keys| keys.ids().map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(ids(&[Algorithm::Es256]), Ok(vec!["ec-1".to_owned()]));
    assert_eq!(ids(&[Algorithm::Hs256]), Err(KeyFault::Empty));
    assert_eq!(ids(&[]), Err(KeyFault::Empty));
    let only_es256 = KeySet::from_jwks(all, &[Algorithm::Es256]).unwrap();
    let verdicts = vectors.tokens[..3].iter().map(|t| verifier.verify(t.token.as_bytes(), &only_es256, now));
    assert_eq!(verdicts.map(|v| v.is_ok()).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn a_key_that_was_removed_verifies_nothing_any_more() {
    let vectors = vectors();
    let (verifier, now) = (vectors.verifier(None), UnixTime(vectors.now));
    let token = vectors.tokens[0].token.as_bytes();
    let before = KeySet::from_jwks(vectors.keys["all"].as_bytes(), &PUBLIC).unwrap();
    let after = KeySet::from_jwks(vectors.keys["rs_only"].as_bytes(), &PUBLIC).unwrap();
    assert!(verifier.verify(token, &before, now).is_ok());
    let refused = verifier.verify(token, &after, now).map_err(|fault| fault.as_str());
    assert_eq!(refused, Err("jwt_kid_unknown"));
}

#[test]
fn secrets_that_could_be_guessed_or_are_known_are_refused() {
    let refused = |secret: &[u8]| KeySet::from_secret(secret).err();
    assert_eq!(refused(&[7; 31]), Some(KeyFault::ShortSecret));
    assert_eq!(refused(b""), Some(KeyFault::ShortSecret));
    assert_eq!(refused(vectors().rsa_pem.as_bytes()), Some(KeyFault::PemSecret));
    assert_eq!(refused(&[7; 32]), None);
}

#[test]
fn what_is_too_long_is_not_even_read() {
    let vectors = vectors();
    let keys = &vectors.key_sets()["all"];
    let verdict = vectors.verifier(None).verify(&vec![b'.'; MAX_LEN + 1], keys, UnixTime(vectors.now));
    assert_eq!(
        verdict.map_err(|fault| (fault.as_str(), fault.kind())),
        Err(("jwt_too_long", Kind::Malformed))
    );
    let padded = format!("{}{}", vectors.keys["all"], " ".repeat(MAX_SET_LEN));
    assert_eq!(KeySet::from_jwks(padded.as_bytes(), &PUBLIC).err(), Some(KeyFault::TooLong));
}

#[test]
fn only_a_wrong_clock_is_called_early() {
    let vectors = vectors();
    let sets = vectors.key_sets();
    for token in vectors.tokens.iter().filter(|token| token.token_type.is_none()) {
        let verdict =
            vectors.verifier(None).verify(token.token.as_bytes(), &sets[&*token.keys], UnixTime(vectors.now));
        let Err(fault) = verdict else { continue };
        let is_early = fault.as_str().starts_with("jwt_not_yet");
        assert_eq!(fault.kind() == Kind::Early, is_early, "{}", token.comment);
    }
}

#[test]
fn debug_and_errors_show_no_secret_and_no_token() {
    let vectors = vectors();
    let sets = vectors.key_sets();
    let shown = format!("{:?} {:?}", sets["secret"], sets["all"]);
    assert!(!shown.contains(&vectors.keys["secret"]) && !shown.contains("97, 32"), "{shown}");
    for token in vectors.tokens.iter().filter(|token| token.token.len() > 100) {
        let verdict = vectors.verifier(None).verify(token.token.as_bytes(), &sets["all"], UnixTime(0));
        let Err(fault) = verdict else { continue };
        let text = format!("{fault} {fault:?}");
        assert!(text.len() < 120, "{text}");
    }
}
