//! Every secret the tests used, to be looked for wherever the gateway wrote something.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, Mutex};

/// Shorter text would be found by chance.
const MIN: usize = 16;

/// The secrets by how they begin, so that one pass over a text finds any of them: there are thousands
/// of nonces and signatures, and logs of megabytes.
static SECRETS: LazyLock<Mutex<HashMap<[u8; MIN], HashSet<String>>>> = LazyLock::new(Mutex::default);

/// Notes a secret, token, MAC or nonce.
pub(crate) fn secret(text: &str) {
    let start = *text.as_bytes().first_chunk().expect("long enough to be looked for");
    SECRETS.lock().unwrap().entry(start).or_default().insert(text.to_owned());
}

/// Panics if `text`, which came from `place`, holds any of them, if only inside something longer. The
/// text itself is not shown.
pub(crate) fn none_in(place: &str, text: &str) {
    let found = find(text);
    assert!(found.is_none(), "{place} holds a secret of {} characters", found.unwrap_or_default());
}

/// The length of a secret that is in the text.
fn find(text: &str) -> Option<usize> {
    let secrets = SECRETS.lock().unwrap();
    let mut rest = text.as_bytes();
    while let Some(start) = rest.first_chunk::<MIN>() {
        if let Some(likely) = secrets.get(start)
            && let Some(secret) = likely.iter().find(|secret| rest.starts_with(secret.as_bytes()))
        {
            return Some(secret.len());
        }
        rest = &rest[1..];
    }
    None
}

#[test]
fn a_secret_is_found_wherever_it_stands() {
    let text = "a-secret-to-be-found-by-a-test";
    secret(text);
    for (searched, found) in [
        (text.to_owned(), true),
        (format!("{{\"x\":\"{text}-\"}}"), true),
        (text[..text.len() - 1].to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(find(&searched).is_some(), found, "{searched}");
    }
}
