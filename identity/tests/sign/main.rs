//! The signature scheme from outside: against the vectors, against arbitrary input, and against an
//! independent implementation.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

mod canonical;
mod httpsig;
mod properties;
mod vectors;
