//! Schemes that are refused when the configuration is read, and what weak ones admit.

use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::canonical::{
    BadScheme, Config, Encoding, Field, KeyForm, Scheme, Signable, TimestampForm,
};
use imgate_identity::sign::{Nonce, Target};

/// A scheme that is accepted, to be spoilt.
fn good() -> Config {
    let headers =
        [("x-s", "{session}"), ("x-t", "{timestamp}"), ("x-n", "{nonce}"), ("x-sig", "{signature}")];
    Config {
        headers: headers.map(|(name, form)| (name.to_owned(), form.to_owned())).into(),
        string_to_sign: "{method}\n{target}\n{timestamp}\n{nonce}\n{digest}".to_owned(),
        encoding: Encoding::Hex,
        digest: Some(Encoding::Hex),
        key: KeyForm::Raw,
        timestamp: TimestampForm::S,
        weak: false,
    }
}

fn with_text(text: &str) -> Config {
    Config { string_to_sign: text.to_owned(), ..good() }
}

fn with_header(name: &str, form: &str) -> Config {
    let mut config = good();
    config.headers.insert(name.to_owned(), form.to_owned());
    config
}

fn refusal(config: &Config) -> Option<BadScheme> {
    Scheme::new(config).err()
}

#[test]
fn a_text_that_two_requests_could_have_is_refused() {
    use Field::{Authority, Header, Method, Nonce, Path, Target};
    let cases = [
        ("{method}{target}\n{timestamp}\n{nonce}\n{digest}", Some(BadScheme::Touching(Method, Target))),
        (
            "{method}\n{path}{query}\n{timestamp}\n{nonce}\n{digest}",
            Some(BadScheme::Touching(Path, Field::Query)),
        ),
        ("{timestamp}{nonce}{digest} {method} {target}", Some(BadScheme::Touching(Field::Timestamp, Nonce))),
        // A path may hold `/`, and so may what stands behind it.
        ("{method}\n{path}/{query}\n{timestamp}\n{nonce}\n{digest}", Some(BadScheme::Blurred(Path))),
        ("{method}\n{target}&{header:x-a}\n{timestamp}\n{nonce}\n{digest}", Some(BadScheme::Blurred(Target))),
        (
            "{method} {authority}:{path}|{query}|{timestamp}\n{nonce}\n{digest}",
            Some(BadScheme::Blurred(Authority)),
        ),
        (
            "{header:x-a} {header:x-b}\n{method}\n{target}\n{timestamp}\n{nonce} {digest} {header:x-c}",
            Some(BadScheme::Blurred(Header(0))),
        ),
        ("{target}-{method}-{timestamp}-{nonce}-{digest}", Some(BadScheme::Blurred(Target))),
        // One field in the middle may hold its separators if all others can be told from the ends.
        ("{method}|{target}|{timestamp}|{nonce}|{digest}", None),
        ("{timestamp}:{nonce}:{digest}:{method}:{target}", None),
        ("{path}?{query} {method} {timestamp} {nonce} {digest}", None),
        ("{method}\n{target}\n{timestamp}\n{nonce}\n{digest}\n{header:x-a}\n{header:content-type}\n", None),
        ("x{method}x {target} {timestamp} {nonce} {digest}x", None),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(&with_text(text)), expected, "{text}");
    }
}

#[test]
fn what_must_be_signed_cannot_be_left_out_in_silence() {
    use Field::{Digest, Method, Path, Query, Timestamp};
    let cases = [
        ("{target}\n{timestamp}\n{nonce}\n{digest}", Method),
        ("{method}\n{query}\n{timestamp}\n{nonce}\n{digest}", Path),
        ("{method}\n{target}\n{nonce}\n{digest}", Timestamp),
        ("{method}\n{target}\n{timestamp}\n{nonce}", Digest),
    ];
    for (text, gap) in cases {
        let digest = text.contains("{digest}").then_some(Encoding::Hex);
        let config = Config { digest, ..with_text(text) };
        assert_eq!(refusal(&config), Some(BadScheme::Gap(gap)), "{text}");
        let weak = Scheme::new(&Config { weak: true, ..config }).unwrap();
        assert_eq!(weak.gaps(), [gap], "{text}");
    }
    let without_query = with_text("{method}\n{path}\n{timestamp}\n{nonce}\n{digest}");
    assert!(!Scheme::new(&without_query).unwrap().allows_query());
    let weak = Scheme::new(&Config { weak: true, ..without_query }).unwrap();
    assert!(weak.allows_query());
    assert_eq!(weak.gaps(), [Query]);
    assert_eq!(refusal(&Config { weak: true, ..good() }), Some(BadScheme::NeedlessWeak));
    // APISIX's own example: the digest has a header, but nobody signs it.
    let mut apisix = with_text("{session}\n{method} {target}\ndate: {timestamp}\n{nonce}\n");
    apisix.headers.insert("digest".to_owned(), "SHA-256={digest}".to_owned());
    assert_eq!(refusal(&apisix), Some(BadScheme::Gap(Digest)));
}

#[test]
fn headers_carry_each_value_once_and_readably() {
    let mut nonceless = with_text("{method}\n{target}\n{timestamp}\n{digest}");
    assert_eq!(refusal(&nonceless), Some(BadScheme::UnsignedNonce));
    nonceless.headers.remove("x-n");
    assert_eq!(refusal(&nonceless), None);
    for (name, field) in [
        ("x-s", Field::Session),
        ("x-t", Field::Timestamp),
        ("x-n", Field::Nonce),
        ("x-sig", Field::Signature),
    ] {
        let mut config = good();
        config.headers.remove(name);
        assert_eq!(refusal(&config), Some(BadScheme::Unsent(field)), "{name}");
    }
    let cases = [
        ("x-more", "{session}", BadScheme::SentTwice(Field::Session)),
        ("x-more", "{digest}{digest}", BadScheme::Touching(Field::Digest, Field::Digest)),
        ("x-more", "{path}", BadScheme::NotSent(Field::Path)),
        ("x-more", "{header:x-a}", BadScheme::Placeholder),
        ("x-more", "a\nb", BadScheme::Literal),
        ("x-more", "caf\u{e9}", BadScheme::Literal),
        ("x-sig", "{signature}0", BadScheme::Blurred(Field::Signature)),
        ("x-sig", "{signature}-{digest}-{session}", BadScheme::SentTwice(Field::Session)),
        ("x-n", "{nonce}=", BadScheme::Blurred(Field::Nonce)),
        ("X-SIG", "v1", BadScheme::HeaderTwice),
        ("x more", "v1", BadScheme::HeaderName),
        ("", "v1", BadScheme::HeaderName),
        ("Host", "v1", BadScheme::ReservedHeader),
        ("Content-Type", "v1", BadScheme::ReservedHeader),
        ("Proxy-Authorization", "v1", BadScheme::ReservedHeader),
        ("X-Forwarded-Signature", "v1", BadScheme::ReservedHeader),
        ("X-Imgate-Session", "v1", BadScheme::ReservedHeader),
        ("x_app", "v1", BadScheme::ReservedHeader),
    ];
    for (name, form, expected) in cases {
        assert_eq!(refusal(&with_header(name, form)), Some(expected), "{name}: {form}");
    }
    assert_eq!(refusal(&with_header("x-algorithm", "HMAC-SHA256")), None);
}

#[test]
fn templates_are_read_strictly() {
    let full = "{method}\n{target}\n{timestamp}\n{nonce}\n{digest}";
    let cases = [
        ("\n{", BadScheme::Placeholder),
        ("\n}", BadScheme::Placeholder),
        ("\n{}", BadScheme::Placeholder),
        ("\n{sesion}", BadScheme::Placeholder),
        ("\n{ session }", BadScheme::Placeholder),
        ("\n{{session}}", BadScheme::Placeholder),
        ("\n{signature}", BadScheme::SelfSigned),
        ("\r\n", BadScheme::Literal),
        ("\t", BadScheme::Literal),
        ("\u{fc}", BadScheme::Literal),
        ("\n{header:}", BadScheme::HeaderName),
        ("\n{header:host}", BadScheme::ReservedHeader),
    ];
    for (more, expected) in cases {
        assert_eq!(refusal(&with_text(&format!("{full}{more}"))), Some(expected), "{more:?}");
    }
    assert_eq!(refusal(&with_text(&format!("{full}{}", "x".repeat(1024)))), Some(BadScheme::TooLong));
    let many: String = (0..9).map(|i| format!("\n{{header:x-{i}}}")).collect();
    assert_eq!(refusal(&with_text(&format!("{full}{many}"))), Some(BadScheme::ManyHeaders));
}

#[test]
fn the_form_of_the_digest_is_given_where_there_is_one() {
    assert_eq!(refusal(&Config { digest: None, ..good() }), Some(BadScheme::DigestForm));
    let weak = Config { weak: true, ..with_text("{method}\n{target}\n{timestamp}\n{nonce}") };
    assert_eq!(refusal(&weak), Some(BadScheme::NeedlessDigestForm));
}

#[test]
fn a_header_of_the_apps_is_signed_as_it_is() {
    let scheme =
        Scheme::new(&with_text("{header:X-Version}\n{method}\n{target}\n{timestamp}\n{nonce}\n{digest}"))
            .unwrap();
    assert_eq!(scheme.signed_headers().collect::<Vec<_>>(), ["x-version"]);
    let (secret, nonce) = (SessionSecret::new([1; 32]), Nonce::parse("abcdefghijklmnop").unwrap());
    let target = Target { method: "GET", authority: "im.example.com", path: "/", query: None };
    let request = Signable {
        session: SessionId::from_bytes([1; 16]),
        target,
        body: b"",
        millis: 1000,
        nonce: &nonce,
        signed_headers: &["2.0 beta"],
    };
    let signed = scheme.sign(&secret, &request);
    let verdict = |version: Option<&'static str>| {
        let header = |name: &str| match name {
            "x-version" => version.map(str::as_bytes),
            _ => signed.value(name).map(str::as_bytes),
        };
        let signature = scheme.parse(header).map_err(|why| why.as_str())?;
        signature.verify(&secret, &target, b"").map_err(|_| "mismatch")
    };
    assert_eq!(verdict(Some("2.0 beta")), Ok(()));
    assert_eq!(verdict(Some("2.0  beta")), Err("mismatch"));
    assert_eq!(verdict(Some("")), Err("mismatch"));
    assert_eq!(verdict(None), Err("header_absent"));
    assert_eq!(verdict(Some("2.0\tbeta")), Err("encoding"));
}
