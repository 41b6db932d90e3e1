//! The key that signs a session's requests.

use std::fmt;
use std::sync::LazyLock;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::canonical::KeyForm;
use crate::session::SessionSecret;

/// Keeps this key apart from others derived from the same secret.
const INFO: &[u8] = b"imgate/v1/http";

/// The same for schemes given by configuration, whose texts could be anything.
const CANONICAL_INFO: &[u8] = b"imgate/v1/canonical";

/// The key of one session's requests, with its first HMAC blocks already absorbed.
#[derive(Clone)]
pub struct HttpKey {
    mac: Hmac<Sha256>,
    purpose: Purpose,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Verify,
    SpendTime,
}

impl HttpKey {
    /// Derives the key from a session's secret: HKDF-SHA256, no salt, info `imgate/v1/http`, 32 bytes.
    pub fn derive(secret: &SessionSecret) -> Self {
        Self::keyed(&*secret.derive(INFO), Purpose::Verify)
    }

    /// The key of a scheme given by configuration.
    pub(super) fn canonical(form: KeyForm, secret: &SessionSecret) -> Self {
        let keyed = |key: &[u8]| Self::keyed(key, Purpose::Verify);
        match form {
            KeyForm::Raw => keyed(secret.expose()),
            KeyForm::Base64 => keyed(secret.to_base64().expose().as_bytes()),
            KeyForm::Hex => keyed(&*hex(secret)),
            KeyForm::Hkdf => keyed(&*secret.derive(CANONICAL_INFO)),
        }
    }

    /// A key that costs as much as any other and verifies nothing. Checking a signature of an unknown
    /// session by it hides from the sender that there is no such session.
    pub fn decoy() -> &'static Self {
        static DECOY: LazyLock<HttpKey> = LazyLock::new(|| HttpKey::keyed(&[0; 32], Purpose::SpendTime));
        &DECOY
    }

    fn keyed(key: &[u8], purpose: Purpose) -> Self {
        Self { mac: Hmac::new_from_slice(key).expect("HMAC takes a key of any length"), purpose }
    }

    /// A MAC that waits for its message.
    pub(super) fn mac(&self) -> Hmac<Sha256> {
        self.mac.clone()
    }

    /// Whether `mac` came out as `expected`, in constant time, and the key may say so.
    pub(super) fn accepts(&self, mac: Hmac<Sha256>, expected: &[u8; 32]) -> bool {
        mac.verify_slice(expected).is_ok() && self.purpose == Purpose::Verify
    }
}

fn hex(secret: &SessionSecret) -> Zeroizing<[u8; 64]> {
    let mut text = Zeroizing::new([0; 64]);
    for (pair, byte) in text.chunks_exact_mut(2).zip(secret.expose()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    text
}

impl fmt::Debug for HttpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use hkdf::Hkdf;
    use serde::Deserialize;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    /// Source: RFC 5869 appendices A.1 to A.3.
    #[test]
    fn hkdf_sha256_is_the_rfc_s() {
        let long = |from: u8| hex(&(0..80).map(|i| from + i).collect::<Vec<_>>());
        let cases = [
            (
                "0b".repeat(22),
                Some("000102030405060708090a0b0c".to_owned()),
                "f0f1f2f3f4f5f6f7f8f9".to_owned(),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                long(0),
                Some(long(0x60)),
                long(0xb0),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09\
                 da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
            ),
            (
                "0b".repeat(22),
                None,
                String::new(),
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            ),
        ];
        for (secret, salt, info, expected) in cases {
            let mut okm = vec![0; expected.len() / 2];
            let salt = salt.map(|salt| unhex(&salt));
            Hkdf::<Sha256>::new(salt.as_deref(), &unhex(&secret)).expand(&unhex(&info), &mut okm).unwrap();
            assert_eq!(hex(&okm), expected);
        }
    }

    #[derive(Deserialize)]
    struct Vector {
        secret: String,
        key: String,
    }

    #[test]
    fn keys_agree_with_the_vectors() {
        let vectors: Vec<Vector> = serde_json::from_str(include_str!("../../vectors/http-key.json")).unwrap();
        assert!(!vectors.is_empty());
        for vector in vectors {
            let secret = SessionSecret::from_base64(&vector.secret).unwrap();
            assert_eq!(hex(&*secret.derive(INFO)), vector.key);
        }
    }

    #[test]
    fn a_decoy_accepts_not_even_its_own_mac() {
        let decoy = HttpKey::decoy();
        let own = decoy.mac().finalize().into_bytes().into();
        assert!(!decoy.accepts(decoy.mac(), &own));

        let real = HttpKey::derive(&SessionSecret::new([1; 32]));
        let own = real.mac().finalize().into_bytes().into();
        assert!(real.accepts(real.mac(), &own));
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", HttpKey::derive(&SessionSecret::new([1; 32]))), "HttpKey(***)");
    }
}
