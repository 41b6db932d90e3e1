//! The keys that may have signed a token, and which of them did by its own account.

use jsonwebtoken::DecodingKey;
use serde_json::Value;

use super::algorithm::Algorithm;
use super::fault::Fault;
use super::key::Key;
use super::{json, jwk};

/// The largest JWKS that is read, in bytes.
pub const MAX_SET_LEN: usize = 128 * 1024;

/// The most keys a JWKS may hold.
pub const MAX_KEYS: usize = 64;

/// The shortest secret for HS256, in bytes. Source: RFC 7518 section 3.2.
const MIN_SECRET: usize = 32;

/// The keys of one issuer. Every one has one algorithm, and its own name where there are several.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Box<[Key]>,
}

/// Why keys are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// More bytes than [`MAX_SET_LEN`].
    #[error("the key set is longer than 128 KiB")]
    TooLong,
    /// More keys than [`MAX_KEYS`].
    #[error("the key set holds more than 64 keys")]
    TooMany,
    /// Not the JSON of a JWKS, or with members twice.
    #[error("not a JWKS, or a member in it is twice or of the wrong kind")]
    Form,
    /// A private or a symmetric key.
    #[error("the key set holds a private or symmetric key, which must stay with the issuer")]
    Private,
    /// A key's name is empty or too long.
    #[error("the `kid` of a key is empty or longer than 256 bytes")]
    KeyId,
    /// Two keys of one name.
    #[error("two keys have the same `kid`")]
    Duplicate,
    /// A key without a name beside others.
    #[error("a key without `kid` stands beside others, so no token can name it")]
    Unnamed,
    /// The algorithm does not fit the type of key.
    #[error("the `alg` of a key does not fit its `kty` and `crv`")]
    Algorithm,
    /// An RSA key that is too small, too large or none.
    #[error("an RSA key is not of 2048 to 4096 bits, or has an unfit exponent")]
    Rsa,
    /// No point of its curve, or one that every signature fits.
    #[error("a key is no fit point of its curve")]
    Point,
    /// Nothing is left to verify with.
    #[error("the key set holds no key for the algorithms that are asked for")]
    Empty,
    /// A secret that could be guessed.
    #[error("the secret is shorter than 32 bytes")]
    ShortSecret,
    /// A public key taken for a secret, which everybody knows.
    #[error("the secret is a key in PEM; HS256 wants random bytes that nobody else has")]
    PemSecret,
}

impl KeyFault {
    /// Names the cause for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::TooMany => "too_many",
            Self::Form => "form",
            Self::Private => "private",
            Self::KeyId => "kid",
            Self::Duplicate => "duplicate_kid",
            Self::Unnamed => "unnamed",
            Self::Algorithm => "alg",
            Self::Rsa => "rsa",
            Self::Point => "point",
            Self::Empty => "empty",
            Self::ShortSecret => "short_secret",
            Self::PemSecret => "pem_secret",
        }
    }
}

impl KeySet {
    /// Reads a JWKS and keeps its public keys for the `wanted` algorithms. Keys of another kind or for
    /// another use are passed over, so that an issuer may publish them beside.
    ///
    /// # Errors
    /// It is too large, no JWKS, holds a secret or a broken key, or names that do not tell its keys
    /// apart; or no key is left.
    pub fn from_jwks(json: &[u8], wanted: &[Algorithm]) -> Result<Self, KeyFault> {
        if json.len() > MAX_SET_LEN {
            return Err(KeyFault::TooLong);
        }
        let set = json::object(json).ok_or(KeyFault::Form)?;
        let Some(Value::Array(members)) = set.get("keys") else { return Err(KeyFault::Form) };
        if members.len() > MAX_KEYS {
            return Err(KeyFault::TooMany);
        }
        let mut keys: Vec<Key> = Vec::new();
        for member in members {
            let member = member.as_object().ok_or(KeyFault::Form)?;
            let Some(key) = jwk::read(member, wanted)? else { continue };
            if key.id.is_some() && keys.iter().any(|other| other.id == key.id) {
                return Err(KeyFault::Duplicate);
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyFault::Empty);
        }
        if keys.len() > 1 && keys.iter().any(|key| key.id.is_none()) {
            return Err(KeyFault::Unnamed);
        }
        Ok(Self { keys: keys.into() })
    }

    /// Takes a secret for HS256; tokens under it name no key.
    ///
    /// # Errors
    /// It is shorter than 32 bytes, or a key in PEM.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyFault> {
        if secret.len() < MIN_SECRET {
            return Err(KeyFault::ShortSecret);
        }
        if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err(KeyFault::PemSecret);
        }
        let material = DecodingKey::from_secret(secret);
        Ok(Self { keys: [Key { id: None, algorithm: Algorithm::Hs256, material }].into() })
    }

    /// The names of the keys, for logs.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_deref().unwrap_or("unnamed"))
    }

    /// Finds the one key a token means: the one of that name, or the only one if it names none.
    pub(super) fn choose(&self, id: Option<&str>) -> Result<&Key, Fault> {
        match (id, &*self.keys) {
            (Some(id), keys) => {
                keys.iter().find(|key| key.id.as_deref() == Some(id)).ok_or(Fault::UnknownKey)
            }
            (None, [only]) => Ok(only),
            (None, _) => Err(Fault::NoKeyId),
        }
    }
}
