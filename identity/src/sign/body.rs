//! The body's digest: how `Content-Digest` is spelled, and the check of a body against it.
//!
//! Source: RFC 9530 section 2, with exactly one member.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::malformed::Malformed;

/// A SHA-256 digest.
pub(super) type Digest = [u8; 32];

/// Why a body is not the one that was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BodyFault {
    /// There is a body, but the signature does not cover its digest.
    #[error("request has a body that its signature does not cover")]
    Uncovered,
    /// The body has another digest.
    #[error("body does not match content-digest")]
    Mismatch,
}

impl BodyFault {
    /// Names the cause for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uncovered => "body_uncovered",
            Self::Mismatch => "digest_mismatch",
        }
    }
}

/// Checks a body that arrives in pieces; it owns what it needs, so it may outlive the headers.
#[derive(Clone, Debug)]
pub struct BodyCheck {
    /// What the digest must be, and the hash so far; `None` allows no body at all.
    expected: Option<(Digest, Sha256)>,
}

impl BodyCheck {
    pub(super) fn new(expected: Option<Digest>) -> Self {
        Self { expected: expected.map(|digest| (digest, Sha256::new())) }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// No digest is covered and the piece is not empty.
    pub fn update(&mut self, piece: &[u8]) -> Result<(), BodyFault> {
        match &mut self.expected {
            Some((_, hash)) => hash.update(piece),
            None if !piece.is_empty() => return Err(BodyFault::Uncovered),
            None => {}
        }
        Ok(())
    }

    /// Decides, once the body is complete.
    ///
    /// # Errors
    /// The body is not the one that was signed.
    pub fn finish(self) -> Result<(), BodyFault> {
        let Some((digest, hash)) = self.expected else { return Ok(()) };
        // The digest is public, so the comparison may take its time.
        if Digest::from(hash.finalize()) == digest { Ok(()) } else { Err(BodyFault::Mismatch) }
    }
}

/// Reads 32 bytes of canonical, padded base64.
pub(super) fn decode32(text: &str) -> Option<[u8; 32]> {
    if text.len() != 44 {
        return None;
    }
    // 33 bytes, because 44 characters could hold as many.
    let mut bytes = [0; 33];
    match STANDARD.decode_slice(text, &mut bytes) {
        Ok(32) => bytes.first_chunk().copied(),
        _ => None,
    }
}

/// Reads a `Content-Digest` of exactly one `sha-256` member.
pub(super) fn parse(value: &str) -> Result<Digest, Malformed> {
    let encoded = value.strip_prefix("sha-256=:").and_then(|rest| rest.strip_suffix(':'));
    encoded.and_then(decode32).ok_or(Malformed::DigestValue)
}

/// Writes the `Content-Digest` of `body`.
pub(super) fn spell(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}
