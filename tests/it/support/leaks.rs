//! Every secret the tests used, to be looked for wherever the gateway wrote something.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};

static SECRETS: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Shorter text would be found by chance.
const MIN: usize = 16;

/// Notes a secret, token, MAC or nonce.
pub(crate) fn secret(text: &str) {
    assert!(text.len() >= MIN, "too short to be looked for");
    SECRETS.lock().unwrap().insert(text.to_owned());
}

/// Panics if `text`, which came from `place`, holds any of them. The text itself is not shown.
pub(crate) fn none_in(place: &str, text: &str) {
    let secrets = SECRETS.lock().unwrap();
    for word in text.split(|c: char| c.is_whitespace() || "\"'{}[],;:()".contains(c)) {
        assert!(!secrets.contains(word), "{place} holds a secret of {} characters", word.len());
    }
    // Tokens may also stand inside something longer.
    for secret in secrets.iter() {
        assert!(!text.contains(secret.as_str()), "{place} holds a secret of {} characters", secret.len());
    }
}
