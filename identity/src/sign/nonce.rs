//! The word that makes each signature different.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// 16 to 64 characters of base64url, so at least 96 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(Box<str>);

/// The text is not 16 to 64 characters of base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a nonce is 16 to 64 characters of base64url")]
pub struct BadNonce;

/// Whether `text` may be a nonce.
pub(super) fn is_nonce(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (16..=64).contains(&text.len()) && text.bytes().all(legal)
}

impl Nonce {
    /// Makes a new one of 128 bits from the operating system's random source.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes).into()))
    }

    /// Accepts a well-formed nonce.
    ///
    /// # Errors
    /// The text is too short, too long, or has a character outside base64url.
    pub fn parse(text: &str) -> Result<Self, BadNonce> {
        if is_nonce(text) { Ok(Self(text.into())) } else { Err(BadNonce) }
    }

    /// The nonce as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
