//! Admins' tokens: the vectors, hostile bytes, and agreement with other implementations.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

mod interop;
mod properties;
mod vectors;

use std::time::Duration;

use imgate_identity::jwt::{Algorithm, Policy, TokenType, Verifier};

/// The algorithms of a JWKS.
const PUBLIC: [Algorithm; 3] = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256];

fn verifier(issuer: &str, audience: &str, token_type: Option<&str>) -> Verifier {
    let policy = Policy {
        issuer: issuer.into(),
        audience: audience.into(),
        token_type: token_type.map_or(TokenType::Plain, |name| TokenType::Explicit(name.into())),
        leeway: Duration::from_secs(10),
        max_age: Duration::from_secs(3600),
    };
    Verifier::new(policy).expect("the policy makes sense and this build can verify")
}
