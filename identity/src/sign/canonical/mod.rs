//! The signature of clients that already sign another way: a scheme given by configuration.
//!
//! [`Config`] says which headers carry what and which text is signed; [`Scheme::new`] refuses one in
//! which two requests could have the same text, or which leaves out what must be signed.
//! [`Scheme::parse`] reads the headers of a request, [`Signature::verify`] decides, [`Scheme::sign`] is
//! the client's side. The MAC is HMAC-SHA256 always. Nothing here is chosen by the client: there is one
//! spelling of each value, and the configuration says which.

mod bad;
mod client;
mod config;
mod date;
mod encoding;
mod field;
mod scheme;
mod signature;
mod template;
mod values;

pub use bad::BadScheme;
pub use client::{Signable, SignedHeaders};
pub use config::{Config, KeyForm};
pub use date::TimestampForm;
pub use encoding::Encoding;
pub use field::Field;
pub use scheme::Scheme;
pub use signature::{Malformed, Signature};

/// The most bytes a header that carries credentials, or one that is signed, may have.
pub const MAX_HEADER: usize = 512;

/// The most bytes the text of a template may have.
pub const MAX_TEMPLATE: usize = 1024;
