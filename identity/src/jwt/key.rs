//! One key and the one algorithm it is for.

use std::fmt;

use jsonwebtoken::DecodingKey;

use super::algorithm::Algorithm;
use super::fault::Fault;

/// A key that may have signed a token.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: Option<Box<str>>,
    pub(super) algorithm: Algorithm,
    pub(super) material: DecodingKey,
}

impl Key {
    /// # Errors
    /// `signature` is not this key's over `signed`.
    pub(super) fn verify(&self, signed: &[u8], signature: &str) -> Result<(), Fault> {
        let algorithm = self.algorithm.of_library();
        match jsonwebtoken::crypto::verify(signature, signed, &self.material, algorithm) {
            Ok(true) => Ok(()),
            _ => Err(Fault::Signature),
        }
    }

    /// Whether the library takes the key at all; for a curve, whether it is a point of it.
    pub(super) fn is_usable(&self) -> bool {
        // As long as the signatures of both curves, and never one.
        let nothing = "A".repeat(86);
        jsonwebtoken::crypto::verify(&nothing, b"", &self.material, self.algorithm.of_library()).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {})", self.algorithm, self.id.as_deref().unwrap_or("unnamed"))
    }
}
