//! The signature on a user's request: RFC 9421 in one fixed profile, with nothing negotiated.
//!
//! Covered are `"@method" "@authority" "@path" "@query"`, in this order, and `"content-digest"` when
//! there is a body; the parameters are `created`, `nonce`, `keyid`, `alg="hmac-sha256"` and
//! `tag="imgate"`. What a client may vary is the label, the order of the parameters and the nonce.
//!
//! [`Signature::parse`] reads the headers, [`Signature::verify`] and [`Signature::body_check`] decide,
//! [`sign`] is the client's side; [`canonical`] is for clients that sign another way. Clocks, replays and sessions are the caller's business. Neither
//! parsing nor verifying allocates: the MAC is fed piece by piece.

pub mod canonical;

mod base;
mod body;
mod client;
mod key;
mod malformed;
mod nonce;
mod parse;
mod target;

pub use body::{BodyCheck, BodyFault};
pub use client::{SignedHeaders, sign};
pub use key::HttpKey;
pub use malformed::Malformed;
pub use nonce::{BadNonce, Nonce};
pub use parse::{Presented, Signature};
pub use target::{Mismatch, Target};

/// The most bytes a `Signature-Input` may have.
pub const MAX_INPUT: usize = 512;

/// The `alg` parameter of every signature.
pub const ALGORITHM: &str = "hmac-sha256";

/// The `tag` parameter of every signature, which keeps signatures made for others out.
pub const TAG: &str = "imgate";
