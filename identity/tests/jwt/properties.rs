//! Whatever the bytes, nothing panics and nothing but the signed token passes.

use std::sync::LazyLock;

use imgate_identity::jwt::{KeySet, Verifier};
use imgate_identity::time::UnixTime;
use proptest::prelude::*;
use serde_json::Value;

use super::{PUBLIC, verifier};

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../vectors/jwt.json")).unwrap());
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    KeySet::from_jwks(VECTORS["keys"]["all"].as_str().unwrap().as_bytes(), &PUBLIC).unwrap()
});
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    verifier(VECTORS["issuer"].as_str().unwrap(), VECTORS["audience"].as_str().unwrap(), None)
});

fn passes(token: &[u8]) -> bool {
    VERIFIER.verify(token, &KEYS, UnixTime(VECTORS["now"].as_u64().unwrap())).is_ok()
}

fn token(index: usize) -> &'static str {
    VECTORS["tokens"][index]["token"].as_str().unwrap()
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(!passes(&bytes));
    }

    #[test]
    fn any_three_parts_are_refused(token in "[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,90}") {
        prop_assert!(!passes(token.as_bytes()));
    }

    #[test]
    fn one_changed_byte_is_refused(index in 0..2_usize, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut changed = token(index).as_bytes().to_vec();
        let at = at.index(changed.len());
        prop_assume!(changed[at] != byte);
        changed[at] = byte;
        prop_assert!(!passes(&changed));
    }

    #[test]
    fn any_key_set_is_read_or_refused(text in "\\{\"keys\":\\[(\\{\"kty\":\"(OKP|EC|RSA|oct)\",\"crv\":\"(Ed25519|P-256)\",\"[xyne]\":\"[A-Za-z0-9_-]{0,50}\",\"[xyne]\":\"[A-Za-z0-9_-]{0,50}\"\\})?\\]\\}") {
        let _ = KeySet::from_jwks(text.as_bytes(), &PUBLIC);
    }
}

#[test]
fn the_untouched_tokens_pass() {
    assert!(passes(token(0).as_bytes()) && passes(token(1).as_bytes()));
}
