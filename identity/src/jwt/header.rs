//! What a token's header may say: algorithm, key and type, and nothing that brings a key along.

use serde_json::{Map, Value};

use super::fault::Fault;
use super::json;

/// The longest name of a key, in bytes.
pub(super) const MAX_KEY_ID: usize = 256;

/// Parameters that a token must not have: they bring or point to a key, change how the token is read,
/// or ask for an understanding that is not here. Other unknown ones are ignored, as RFC 7515 section 4
/// wants it.
///
/// Source: RFC 7515 section 4.1, RFC 7516 section 4.1, RFC 7797, RFC 8725 section 3.10.
const REFUSED: [(&str, &str); 9] = [
    ("crit", "jwt_crit_in_header"),
    ("jku", "jwt_jku_in_header"),
    ("jwk", "jwt_jwk_in_header"),
    ("x5u", "jwt_x5u_in_header"),
    ("x5c", "jwt_x5c_in_header"),
    ("b64", "jwt_b64_in_header"),
    ("zip", "jwt_zip_in_header"),
    ("enc", "jwt_enc_in_header"),
    // It announces a token inside the token, or nothing that a token of one level needs to say.
    ("cty", "jwt_cty_in_header"),
];

/// A token's header.
pub(super) struct Header {
    pub(super) algorithm: String,
    pub(super) key_id: Option<String>,
    pub(super) token_type: Option<String>,
}

impl Header {
    /// # Errors
    /// It is no JSON object with distinct members, holds a parameter that it must not, or one that is
    /// no text.
    pub(super) fn parse(json: &[u8]) -> Result<Self, Fault> {
        let mut members = json::object(json).ok_or(Fault::Header)?;
        if let Some((_, reason)) = REFUSED.into_iter().find(|(name, _)| members.contains_key(*name)) {
            return Err(Fault::HeaderParameter(reason));
        }
        let key_id = text(&mut members, "kid")?;
        if key_id.as_ref().is_some_and(|id| !(1..=MAX_KEY_ID).contains(&id.len())) {
            return Err(Fault::Header);
        }
        Ok(Self {
            algorithm: text(&mut members, "alg")?.ok_or(Fault::Header)?,
            key_id,
            token_type: text(&mut members, "typ")?,
        })
    }
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Fault> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Fault::Header),
    }
}
