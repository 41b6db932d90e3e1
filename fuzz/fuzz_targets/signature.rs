//! Signatures from anywhere: reading them never fails badly, and nobody signs without the key.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::{self, HttpKey, Nonce, Presented, Signature, Target};
use imgate_identity::time::UnixTime;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    signature_input: &'a [u8],
    signature: &'a [u8],
    content_digest: Option<&'a [u8]>,
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    body: Option<&'a [u8]>,
    created: u64,
    /// Which byte of what a client signed is changed, and into what.
    change: (u16, u8),
}

static KEY: LazyLock<HttpKey> = LazyLock::new(|| HttpKey::derive(&SessionSecret::new([7; 32])));

fuzz_target!(|input: Input<'_>| {
    forged(&input);
    changed(&input);
});

/// Whatever was made up without the key verifies nothing.
fn forged(input: &Input<'_>) {
    let Input { signature_input, signature, content_digest, .. } = *input;
    let Ok(parsed) = Signature::parse(Presented { signature_input, signature, content_digest }) else {
        return;
    };
    assert!(parsed.verify(&KEY, &target(input)).is_err(), "a signature without the key");
    assert!(parsed.verify(HttpKey::decoy(), &target(input)).is_err());
    if parsed.covers_body() {
        let _ = parsed.check_digest(input.body.unwrap_or_default());
    }
}

/// What a client signed verifies, and does not after one byte of it has changed.
fn changed(input: &Input<'_>) {
    let target = target(input);
    let session = SessionId::from_bytes([1; 16]);
    let Ok(nonce) = Nonce::parse("AAAAAAAAAAAAAAAAAAAAAA") else { return };
    let mut headers = sign::sign(&KEY, &session, &target, input.body, UnixTime(input.created), &nonce);
    let Ok(parsed) = Signature::parse(headers.presented()) else {
        assert!(input.created > 999_999_999_999_999, "a client's own signature is read");
        return;
    };
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    let sane =
        plain(target.method) && plain(target.path) && target.query.is_none_or(|q| !q.is_empty() && plain(q));
    assert_eq!(parsed.verify(&KEY, &target).is_ok(), sane, "a client's own signature verifies");
    if !sane {
        return;
    }
    if let Some(body) = input.body {
        assert!(parsed.check_digest(body).is_ok());
    }

    let before = headers.clone();
    let (at, into) = (usize::from(input.change.0), input.change.1);
    let mut bytes = std::mem::take(&mut headers.signature_input).into_bytes();
    let place = at % bytes.len();
    bytes[place] = into;
    let presented = Presented { signature_input: &bytes, ..before.presented() };
    let label = before.signature_input.find('=').unwrap_or(0);
    if bytes != before.signature_input.as_bytes() && place > label {
        let verified = Signature::parse(presented).is_ok_and(|parsed| parsed.verify(&KEY, &target).is_ok());
        assert!(!verified, "a changed byte goes unnoticed");
    }
}

fn target<'a>(input: &Input<'a>) -> Target<'a> {
    Target { method: input.method, authority: "im.example.com", path: input.path, query: input.query }
}
