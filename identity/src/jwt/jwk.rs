//! One member of a JWKS: what it must be to become a key, what is passed over, what spoils the set.
//!
//! Passed over is what is legal but not for us: other key types and curves, keys for encryption,
//! algorithms that are not asked for. What should not be there at all is a fault of the whole set.
//! Source: RFC 7517, RFC 7518 section 6, RFC 8037 section 2.

use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::compact;
use super::header::MAX_KEY_ID;
use super::key::Key;
use super::key_set::KeyFault;

/// The members that only private and symmetric keys have. Source: RFC 7518 sections 6.2.2, 6.3.2, 6.4.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The sizes of RSA modulus that are taken, in bits.
///
/// Source: RFC 7518 section 3.3 for the least; the most is what the library takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The least RSA exponent that is taken, and the one in use everywhere. Source: NIST FIPS 186-5 A.1.1.
const LEAST_EXPONENT: u64 = 65_537;

/// The first RSA exponent that the library does not take any more.
const EXPONENT_LIMIT: u64 = 1 << 33;

/// The bytes of a coordinate or key of P-256 and Ed25519.
const COORDINATE: usize = 32;

/// Reads a key; `None` if it is none for us.
///
/// # Errors
/// It is a key that should not stand in a set of public keys, or it is broken.
pub(super) fn read(jwk: &Map<String, Value>, wanted: &[Algorithm]) -> Result<Option<Key>, KeyFault> {
    let kind = text(jwk, "kty")?.ok_or(KeyFault::Form)?;
    if kind == "oct" || PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
        return Err(KeyFault::Private);
    }
    let Some(algorithm) = algorithm(jwk, kind)? else { return Ok(None) };
    if !is_for_signatures(jwk)? || !wanted.contains(&algorithm) {
        return Ok(None);
    }
    let id = text(jwk, "kid")?;
    if id.is_some_and(|id| !(1..=MAX_KEY_ID).contains(&id.len())) {
        return Err(KeyFault::KeyId);
    }
    let key = Key { id: id.map(Into::into), algorithm, material: material(jwk, algorithm)? };
    if key.is_usable() { Ok(Some(key)) } else { Err(KeyFault::Point) }
}

/// The algorithm a key is for, by its type and curve; what it says of itself must agree.
fn algorithm(jwk: &Map<String, Value>, kind: &str) -> Result<Option<Algorithm>, KeyFault> {
    let by_type = match (kind, text(jwk, "crv")?) {
        ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
        ("EC", Some("P-256")) => Algorithm::Es256,
        ("RSA", None) => Algorithm::Rs256,
        _ => return Ok(None),
    };
    match text(jwk, "alg")? {
        None => Ok(Some(by_type)),
        Some(said) => match Algorithm::from_name(said) {
            // Such as PS256, or one for encryption.
            None => Ok(None),
            Some(said) if said == by_type => Ok(Some(by_type)),
            Some(_) => Err(KeyFault::Algorithm),
        },
    }
}

fn is_for_signatures(jwk: &Map<String, Value>) -> Result<bool, KeyFault> {
    let by_use = text(jwk, "use")?.is_none_or(|purpose| purpose == "sig");
    let by_operation = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => return Err(KeyFault::Form),
    };
    Ok(by_use && by_operation)
}

fn material(jwk: &Map<String, Value>, algorithm: Algorithm) -> Result<DecodingKey, KeyFault> {
    match algorithm {
        Algorithm::EdDsa => ed25519(jwk),
        Algorithm::Es256 => p256(jwk),
        Algorithm::Rs256 => rsa(jwk),
        Algorithm::Hs256 => Err(KeyFault::Private),
    }
}

fn ed25519(jwk: &Map<String, Value>) -> Result<DecodingKey, KeyFault> {
    let x = coordinate(jwk, "x")?;
    let point = ed25519_dalek::VerifyingKey::from_bytes(&x).map_err(|_| KeyFault::Point)?;
    // A key of small order verifies signatures that nobody made.
    if point.is_weak() {
        return Err(KeyFault::Point);
    }
    Ok(DecodingKey::from_ed_der(&x))
}

fn p256(jwk: &Map<String, Value>) -> Result<DecodingKey, KeyFault> {
    // Uncompressed. Source: SEC 1 section 2.3.3.
    let mut point = vec![4];
    point.extend(coordinate(jwk, "x")?);
    point.extend(coordinate(jwk, "y")?);
    Ok(DecodingKey::from_ec_der(&point))
}

fn rsa(jwk: &Map<String, Value>) -> Result<DecodingKey, KeyFault> {
    let (modulus, exponent) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    // Base64urlUInt has no zeros in front. Source: RFC 7518 section 2.
    let (Some(&first @ 1..), Some(1..)) = (modulus.first(), exponent.first()) else {
        return Err(KeyFault::Rsa);
    };
    let bits = modulus.len() * 8 - first.leading_zeros() as usize;
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let value = exponent.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let is_fit = exponent.len() <= 8 && (LEAST_EXPONENT..EXPONENT_LIMIT).contains(&value);
    if !RSA_BITS.contains(&bits) || !is_fit || !is_odd(&modulus) || !is_odd(&exponent) {
        return Err(KeyFault::Rsa);
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn coordinate(jwk: &Map<String, Value>, name: &str) -> Result<[u8; COORDINATE], KeyFault> {
    bytes(jwk, name)?.try_into().map_err(|_| KeyFault::Point)
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, KeyFault> {
    let text = text(jwk, name)?.ok_or(KeyFault::Form)?;
    compact::decode(text).map_err(|_| KeyFault::Form)
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, KeyFault> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(KeyFault::Form),
    }
}
