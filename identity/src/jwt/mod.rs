//! Who an admin is: a JWT of the operator's own issuer, checked strictly.
//!
//! [`Verifier`] holds what a token must say, [`KeySet`] the keys that may have signed it: public ones of
//! a JWKS, or one secret. A key has one algorithm, and a token that names another is refused; a token
//! never chooses its key by more than a name. What could be read in two ways is refused: duplicate
//! members, padding, stray bits, times that are not whole numbers. Source: RFC 8725 is the checklist,
//! and each of its points has a vector in `identity/vectors/jwt.json`.
//!
//! No clock, no file and no network: time, keys and token are passed in.

mod algorithm;
mod claims;
mod compact;
mod fault;
mod header;
mod json;
mod jwk;
mod key;
mod key_set;
mod policy;
mod self_test;

pub use self::algorithm::Algorithm;
pub use self::claims::Claims;
pub use self::fault::{Claim, Fault, Kind};
pub use self::key_set::{KeyFault, KeySet, MAX_KEYS, MAX_SET_LEN};
pub use self::policy::{BadPolicy, MAX_LEEWAY, Policy, TokenType};

use crate::time::UnixTime;

/// The longest token that is read, in bytes.
pub const MAX_LEN: usize = 8 * 1024;

/// Why there is no verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadVerifier {
    /// The policy makes no sense.
    #[error(transparent)]
    Policy(#[from] BadPolicy),
    /// A signature that is known to be good is refused, or one that is not is taken.
    #[error("this build cannot verify {0} signatures")]
    SelfTest(Algorithm),
}

/// Checks tokens against one policy.
#[derive(Clone, Debug)]
pub struct Verifier {
    policy: Policy,
}

impl Verifier {
    /// Tries the cryptography out on published signatures, then holds tokens to `policy`.
    ///
    /// # Errors
    /// The policy makes no sense, or this build must not judge anybody.
    pub fn new(policy: Policy) -> Result<Self, BadVerifier> {
        policy.check_sense()?;
        self_test::run().map_err(BadVerifier::SelfTest)?;
        Ok(Self { policy })
    }

    /// What tokens are held to.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Checks a token that arrived at `now`: its form, its key, its signature, then what it claims.
    ///
    /// # Errors
    /// The token is not one that `keys` and the policy let in; the fault says why.
    pub fn verify(&self, token: &[u8], keys: &KeySet, now: UnixTime) -> Result<Claims, Fault> {
        let parts = compact::Parts::split(token)?;
        let header = header::Header::parse(&parts.header)?;
        self.policy.check_type(header.token_type.as_deref())?;
        let key = keys.choose(header.key_id.as_deref())?;
        if key.algorithm.name() != header.algorithm {
            return Err(Fault::Algorithm);
        }
        key.verify(parts.signed, parts.signature)?;
        let claims = claims::Wire::parse(&parts.claims)?;
        self.policy.check(&claims, now)?;
        Ok(claims.into())
    }
}
