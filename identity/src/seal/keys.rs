//! The keys that seal, and the file that holds them.
//!
//! One key per line, an id and 32 bytes in standard base64; the first seals, all of them open:
//!
//! ```text
//! # Made with `imgate seal-key new`.
//! k2 <44 characters of base64>
//! k1 <44 characters of base64>
//! ```
//!
//! Empty lines and lines that begin with `#` say nothing.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;
use crate::session::SessionSecret;

/// How many keys there may be: the one that seals, and a few on their way out.
const MAX_KEYS: usize = 16;

/// The longest key id.
const MAX_ID: usize = 32;

/// The name of a seal key: 1 to 32 letters, digits, `_` or `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyId(Box<str>);

/// The text names no seal key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a seal key is 1 to 32 letters, digits, `_` or `-`")]
pub struct BadKeyId;

impl KeyId {
    /// Accepts a well-formed id.
    ///
    /// # Errors
    /// The text is empty, longer than 32 characters, or has one that is no letter, digit, `_` or `-`.
    pub fn parse(text: &str) -> Result<Self, BadKeyId> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > MAX_ID || !text.bytes().all(legal) {
            return Err(BadKeyId);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SealKey {
    pub(super) id: KeyId,
    pub(super) secret: Secret<[u8; 32]>,
}

/// The keys that secrets are sealed with: the first seals, all of them open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealKeys {
    active: SealKey,
    retiring: Vec<SealKey>,
}

/// Why a file of seal keys is refused; lines are counted from 1 and never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSealKeys {
    /// There is no key in it.
    #[error("there is no seal key")]
    Empty,
    /// There are more keys than anybody rotates.
    #[error("there are more than {MAX_KEYS} seal keys")]
    TooMany,
    /// A line is not an id and a key.
    #[error("line {0}: not a key id, a space and a key\nhint: `imgate seal-key new` makes such a line")]
    Line(usize),
    /// The id is malformed.
    #[error("line {0}: the id of a seal key is 1 to 32 letters, digits, `_` or `-`")]
    Id(usize),
    /// The key is not base64 of 32 bytes.
    #[error("line {0}: a seal key is 32 bytes in standard base64")]
    Key(usize),
    /// Two keys have one id, or one key has two.
    #[error("line {0}: this id or this key stands there twice")]
    Duplicate(usize),
}

impl SealKeys {
    /// Reads the text of a file of seal keys.
    ///
    /// # Errors
    /// There is no key or there are too many, a line is malformed, or an id or a key is there twice.
    pub fn parse(text: &str) -> Result<Self, BadSealKeys> {
        let mut keys: Vec<SealKey> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let (number, line) = (i + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse_line(number, line)?;
            if keys.iter().any(|other| other.id == key.id || other.secret == key.secret) {
                return Err(BadSealKeys::Duplicate(number));
            }
            keys.push(key);
            if keys.len() > MAX_KEYS {
                return Err(BadSealKeys::TooMany);
            }
        }
        let mut keys = keys.into_iter();
        let active = keys.next().ok_or(BadSealKeys::Empty)?;
        Ok(Self { active, retiring: keys.collect() })
    }

    /// Makes a line with a new key.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn fresh_line(id: &KeyId) -> Result<Secret<String>, getrandom::Error> {
        let key = SessionSecret::random()?.to_base64();
        Ok(Secret::new(format!("{id} {}", key.expose())))
    }

    /// The key that seals.
    pub fn active(&self) -> &KeyId {
        &self.active.id
    }

    pub(super) fn active_key(&self) -> &SealKey {
        &self.active
    }

    pub(super) fn find(&self, id: &str) -> Option<&SealKey> {
        std::iter::once(&self.active).chain(&self.retiring).find(|key| key.id.as_str() == id)
    }
}

fn parse_line(number: usize, line: &str) -> Result<SealKey, BadSealKeys> {
    let mut words = line.split_ascii_whitespace();
    let (Some(id), Some(key), None) = (words.next(), words.next(), words.next()) else {
        return Err(BadSealKeys::Line(number));
    };
    let id = KeyId::parse(id).map_err(|_| BadSealKeys::Id(number))?;
    let decoded = Secret::new(STANDARD.decode(key).map_err(|_| BadSealKeys::Key(number))?);
    let bytes = decoded.expose().as_slice().try_into().map_err(|_| BadSealKeys::Key(number))?;
    Ok(SealKey { id, secret: Secret::new(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const B: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    #[test]
    fn a_file_of_keys_is_read() {
        let keys = SealKeys::parse(&format!("# made by hand\n\n  k2\t{B} \r\nk-1_x {A}\n")).unwrap();
        assert_eq!(keys.active().as_str(), "k2");
        assert!(keys.find("k-1_x").is_some() && keys.find("k1").is_none());
        let fresh = SealKeys::fresh_line(&KeyId::parse("k3").unwrap()).unwrap();
        assert_eq!(SealKeys::parse(fresh.expose()).unwrap().active().as_str(), "k3");
    }

    #[test]
    fn what_is_no_file_of_keys_is_refused_with_its_line() {
        let key = |byte| SessionSecret::new([byte; 32]).to_base64().expose().clone();
        let many: String = (0..17).map(|i| format!("k{i} {}\n", key(i))).collect();
        let cases = [
            (String::new(), BadSealKeys::Empty),
            ("# k1 only a comment\n\n".to_owned(), BadSealKeys::Empty),
            (format!("k1 {A}\nk2"), BadSealKeys::Line(2)),
            (A.to_owned(), BadSealKeys::Line(1)),
            (format!("k1 {A} first"), BadSealKeys::Line(1)),
            (format!("\nk.1 {A}"), BadSealKeys::Id(2)),
            (format!("{} {A}", "k".repeat(33)), BadSealKeys::Id(1)),
            (format!("k1 {}", &A[4..]), BadSealKeys::Key(1)),
            (format!("k1 AAAA{A}"), BadSealKeys::Key(1)),
            (format!("k1 {}", A.trim_end_matches('=')), BadSealKeys::Key(1)),
            (format!("k1 {}", A.replace("Hh8=", "Hh9=")), BadSealKeys::Key(1)),
            (format!("k1 {A}\nk1 {B}"), BadSealKeys::Duplicate(2)),
            (format!("k1 {A}\nk2 {A}"), BadSealKeys::Duplicate(2)),
            (many, BadSealKeys::TooMany),
        ];
        for (text, fault) in cases {
            assert_eq!(SealKeys::parse(&text), Err(fault), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", SealKeys::parse(&format!("k1 {A}")).unwrap());
        assert!(shown.contains("k1") && !shown.contains(A) && !shown.contains("1, 2, 3"), "{shown}");
    }
}
