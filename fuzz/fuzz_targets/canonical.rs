//! A scheme that loads is unambiguous: what one request's client signed is good for no other request.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::canonical::{Config, Encoding, KeyForm, Scheme, Signable, TimestampForm};
use imgate_identity::sign::{Nonce, Target};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    text: Vec<Piece<'a>>,
    headers: Vec<(u8, Vec<Piece<'a>>)>,
    encodings: (u8, u8),
    key: u8,
    millis: bool,
    weak: bool,
    one: Asked<'a>,
    other: Asked<'a>,
}

#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    Literal(&'a str),
    Feed,
    Method,
    Authority,
    Path,
    Query,
    Target,
    Timestamp,
    Nonce,
    Digest,
    Session,
    Signature,
    Header,
}

#[derive(Arbitrary, Clone, Debug, PartialEq)]
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    body: &'a [u8],
    header: &'a str,
}

fn written(pieces: &[Piece<'_>]) -> String {
    let mut text = String::new();
    for piece in pieces.iter().take(24) {
        text.push_str(match piece {
            Piece::Literal(literal) => literal,
            Piece::Feed => "\n",
            Piece::Method => "{method}",
            Piece::Authority => "{authority}",
            Piece::Path => "{path}",
            Piece::Query => "{query}",
            Piece::Target => "{target}",
            Piece::Timestamp => "{timestamp}",
            Piece::Nonce => "{nonce}",
            Piece::Digest => "{digest}",
            Piece::Session => "{session}",
            Piece::Signature => "{signature}",
            Piece::Header => "{header:x-app}",
        });
    }
    text
}

fn encoding(number: u8) -> Encoding {
    [Encoding::Hex, Encoding::Base64, Encoding::Base64url][usize::from(number) % 3]
}

fuzz_target!(|input: Input<'_>| {
    let names = ["x-a", "x-b", "authorization", "x-d"];
    let headers: BTreeMap<String, String> = input
        .headers
        .iter()
        .take(4)
        .map(|(name, form)| (names[usize::from(*name) % names.len()].to_owned(), written(form)))
        .collect();
    let config = Config {
        headers,
        string_to_sign: written(&input.text),
        encoding: encoding(input.encodings.0),
        digest: Some(encoding(input.encodings.1)),
        key: [KeyForm::Raw, KeyForm::Base64, KeyForm::Hex, KeyForm::Hkdf][usize::from(input.key) % 4],
        timestamp: if input.millis { TimestampForm::Ms } else { TimestampForm::S },
        weak: input.weak,
    };
    let Ok(scheme) = Scheme::new(&config) else { return };
    let secret = SessionSecret::new([7; 32]);
    let nonce = Nonce::parse("AAAAAAAAAAAAAAAAAAAAAA").expect("a nonce");
    let signed_headers = vec![input.one.header; scheme.signed_headers().count()];
    let signable = Signable {
        session: SessionId::from_bytes([1; 16]),
        target: target(&input.one),
        body: input.one.body,
        millis: 1_800_000_000_000,
        nonce: &nonce,
        signed_headers: &signed_headers,
    };
    let sent = scheme.sign(&secret, &signable);
    let header = |name: &str| match name {
        "x-app" => Some(input.one.header.as_bytes()),
        name => sent.value(name).map(str::as_bytes),
    };
    let Ok(signature) = scheme.parse(header) else { return };
    let same = signature.verify(&secret, &target(&input.one), input.one.body);
    if same.is_err() {
        return;
    }
    // The header belongs to the signature here; what may differ is the request.
    let other = Asked { header: input.one.header, ..input.other.clone() };
    if scheme.gaps().is_empty() && scheme.allows_query() && other != input.one {
        let passes = signature.verify(&secret, &target(&other), other.body).is_ok()
            && signature.check_digest(other.body).is_ok();
        let differs_in_query_only_by_absence = (other.query.unwrap_or(""), other.path)
            == (input.one.query.unwrap_or(""), input.one.path)
            && (other.method, other.body) == (input.one.method, input.one.body);
        assert!(!passes || differs_in_query_only_by_absence, "{config:?}\n{:?}\n{other:?}", input.one);
    }
    assert!(signature.verify(&SessionSecret::new([8; 32]), &target(&input.one), input.one.body).is_err());
});

fn target<'a>(asked: &Asked<'a>) -> Target<'a> {
    Target { method: asked.method, authority: "im.example.com", path: asked.path, query: asked.query }
}
