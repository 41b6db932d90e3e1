//! Who a caller is, spelled once: the truth that the gateway and the sidecar backend share.
//!
//! Read in this order: [`session`] is the record behind a signed request, [`seal`] how its secrets
//! are kept, [`key`] every Redis key, [`sign`] the signature, [`session_token`] what stock SDKs carry
//! instead of one, [`token`] what is read in an OpenIM token, [`jwt`] who an admin is, [`assertion`] how the
//! gateway tells a sidecar who is calling, [`gcra`] and [`pace`] how much is let through, [`store`] where
//! records come from and how they are cached.
//!
//! No HTTP server and no proxy: this crate knows bytes, keys and Redis.

pub mod secret;
pub mod time;

pub mod user;

pub mod session;

pub mod seal;

pub mod key;

pub mod sign;

pub mod session_token;

pub mod token;

pub mod default_secret;

pub mod jwt;

pub mod assertion;

pub mod gcra;

pub mod pace;

pub mod store;
