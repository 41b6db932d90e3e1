//! What must hold for any request and for any bytes, whatever the scheme.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::canonical::{Config, Scheme, Signable};
use imgate_identity::sign::{Nonce, Target};
use imgate_identity::time::UnixTime;
use proptest::prelude::*;

/// The schemes of the vectors, by name.
static SCHEMES: LazyLock<Vec<(String, Scheme)>> = LazyLock::new(|| {
    #[derive(serde::Deserialize)]
    struct Vectors {
        schemes: BTreeMap<String, Config>,
    }
    let vectors: Vectors = serde_json::from_str(include_str!("../../../vectors/canonical.json")).unwrap();
    vectors.schemes.into_iter().map(|(name, config)| (name, Scheme::new(&config).unwrap())).collect()
});

type Headers = BTreeMap<String, Vec<u8>>;

/// A request that a client may sign.
#[derive(Clone, Debug)]
struct Request {
    scheme: usize,
    secret: [u8; 32],
    session: [u8; 16],
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    body: Vec<u8>,
    millis: u64,
    nonce: String,
}

impl Request {
    fn scheme(&self) -> &'static Scheme {
        &SCHEMES[self.scheme].1
    }

    fn target(&self) -> Target<'_> {
        let Self { method, authority, path, query, .. } = self;
        Target { method, authority, path, query: query.as_deref() }
    }

    fn sign(&self) -> Headers {
        let request = Signable {
            session: SessionId::from_bytes(self.session),
            target: self.target(),
            body: &self.body,
            millis: self.millis,
            nonce: &Nonce::parse(&self.nonce).unwrap(),
            signed_headers: &[],
        };
        let signed = self.scheme().sign(&SessionSecret::new(self.secret), &request);
        signed.iter().map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect()
    }

    /// Whether the headers are accepted for this request, body included. Another session has another
    /// secret, so one that is not in the text cannot be changed either.
    fn is_accepted(&self, headers: &Headers) -> bool {
        self.scheme().parse(|name| headers.get(name).map(Vec::as_slice)).is_ok_and(|signature| {
            signature.session == SessionId::from_bytes(self.session)
                && signature.verify(&SessionSecret::new(self.secret), &self.target(), &self.body).is_ok()
                && signature.check_digest(&self.body).is_ok()
        })
    }

    /// What the scheme can tell apart: without the host in the text all hosts are one.
    fn signed_part(&self) -> (String, Option<String>, String, Option<String>, Vec<u8>) {
        let name = SCHEMES[self.scheme].0.as_str();
        let authority = ["aws", "url_safe"].contains(&name).then(|| self.authority.clone());
        (self.method.clone(), authority, self.path.clone(), self.query.clone(), self.body.clone())
    }
}

prop_compose! {
    fn request()(
        scheme in 0..SCHEMES.len(),
        secret: [u8; 32],
        session: [u8; 16],
        method in "[A-Z]{1,8}",
        authority in "[a-z0-9.-]{1,20}(:[0-9]{1,5})?",
        path in "/[!->@-~]{0,30}",
        query in proptest::option::of("[!-~]{1,30}"),
        body in proptest::collection::vec(any::<u8>(), 0..64),
        millis in 0..250_000_000_000_000_u64,
        nonce in "[A-Za-z0-9_-]{16,64}",
    ) -> Request {
        let query = query.filter(|_| SCHEMES[scheme].1.allows_query());
        Request { scheme, secret, session, method, authority, path, query, body, millis, nonce }
    }
}

proptest! {
    #[test]
    fn what_is_signed_is_read_back_and_verifies(request in request()) {
        let headers = request.sign();
        let signature = request.scheme().parse(|name| headers.get(name).map(Vec::as_slice)).unwrap();
        prop_assert_eq!(signature.created, UnixTime(request.millis / 1000));
        prop_assert_eq!(signature.session, SessionId::from_bytes(request.session));
        prop_assert!(request.is_accepted(&headers));
    }

    #[test]
    fn a_bit_flipped_in_a_header_is_refused(request in request(), which: prop::sample::Index, at: prop::sample::Index, bit in 0..8_u32) {
        let mut headers = request.sign();
        let which = which.index(headers.len());
        let value = headers.values_mut().nth(which).unwrap();
        let at = at.index(value.len());
        value[at] ^= 1 << bit;
        prop_assert!(!request.is_accepted(&headers), "{}", String::from_utf8_lossy(headers.values().nth(which).unwrap()));
    }

    #[test]
    fn a_byte_dropped_or_added_is_refused(request in request(), which: prop::sample::Index, at: prop::sample::Index, added: Option<u8>) {
        let mut headers = request.sign();
        let which = which.index(headers.len());
        let value = headers.values_mut().nth(which).unwrap();
        match added {
            Some(byte) => value.insert(at.index(value.len() + 1), byte),
            None => { let at = at.index(value.len()); value.remove(at); }
        }
        prop_assert!(!request.is_accepted(&headers));
    }

    #[test]
    fn a_byte_changed_in_the_request_is_refused(request in request(), which in 0..5_usize, at: prop::sample::Index, byte: u8) {
        let headers = request.sign();
        let mut changed = request.clone();
        let change = |text: &mut Vec<u8>| {
            if text.is_empty() { text.push(byte) } else { let at = at.index(text.len()); text[at] = byte; }
        };
        let change_text = |text: &mut String| {
            let mut bytes = text.clone().into_bytes();
            change(&mut bytes);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        };
        match which {
            0 => change_text(&mut changed.method),
            1 => change_text(&mut changed.authority),
            2 => change_text(&mut changed.path),
            3 => change_text(changed.query.get_or_insert_default()),
            _ => change(&mut changed.body),
        }
        // A host that is none is refused even where the host is not signed; the caller knows its hosts.
        let legal = changed.authority.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-:[]".contains(&b));
        let same = changed.signed_part() == request.signed_part() && legal;
        prop_assert_eq!(changed.is_accepted(&headers), same);
    }

    #[test]
    fn a_byte_moved_across_a_border_is_refused(request in request(), which in 0..3_usize, back: bool) {
        // What one field ends in becomes what the next begins with: where two requests could have one text.
        let headers = request.sign();
        let mut moved = request.clone();
        let query = moved.query.get_or_insert_default();
        let (first, second) = match which {
            0 => (&mut moved.method, &mut moved.path),
            1 => (&mut moved.path, query),
            _ => (&mut moved.authority, &mut moved.path),
        };
        if back {
            first.push(if second.is_empty() { '/' } else { second.remove(0) });
        } else if let Some(last) = first.pop() {
            second.insert(0, last);
        }
        let moved = Request { query: moved.query.filter(|query| !query.is_empty()), ..moved };
        prop_assume!(moved.signed_part() != request.signed_part());
        prop_assert!(!moved.is_accepted(&headers));
    }

    #[test]
    fn another_secret_verifies_nothing(request in request(), other: [u8; 32]) {
        prop_assume!(other != request.secret);
        let headers = request.sign();
        let stranger = Request { secret: other, ..request };
        prop_assert!(!stranger.is_accepted(&headers));
    }

    #[test]
    fn arbitrary_bytes_never_panic(scheme in 0..SCHEMES.len(), value in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(SCHEMES[scheme].1.parse(|_| Some(&value)).is_err());
    }

    #[test]
    fn likely_text_never_panics(
        scheme in 0..SCHEMES.len(),
        values in proptest::collection::vec("[A-Za-z0-9+/=_.-]{0,70}|[0-9]{0,16}|\\PC{0,40}|[A-Z][a-z]{2}, [0-9\u{e9}]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT|[0-9]{8}T[0-9]{6}Z", 5),
    ) {
        let scheme = &SCHEMES[scheme].1;
        let names: Vec<&str> = scheme.headers().collect();
        let value = |name: &str| names.iter().position(|n| *n == name).map(|i| values[i].as_bytes());
        if let Ok(signature) = scheme.parse(value) {
            let target = Target { method: "GET", authority: "a", path: "/", query: None };
            prop_assert!(signature.verify(&SessionSecret::new([0; 32]), &target, b"").is_err());
        }
    }

    #[test]
    fn no_template_panics(text in "(\\{[a-z:{}-]{0,12}\\}?|\\PC|\n|[|:]){0,12}") {
        let mut config: Config = serde_json::from_str::<serde_json::Value>(include_str!("../../../vectors/canonical.json"))
            .and_then(|vectors| serde_json::from_value(vectors["schemes"]["plain"].clone()))
            .unwrap();
        config.headers.insert("x-more".to_owned(), text.clone());
        config.string_to_sign = text;
        let _ = Scheme::new(&config);
    }
}

#[test]
fn debug_shows_no_mac_and_no_value() {
    for scheme in 0..SCHEMES.len() {
        let request = Request {
            scheme,
            secret: [1; 32],
            session: [2; 16],
            method: "GET".to_owned(),
            authority: "a".to_owned(),
            path: "/".to_owned(),
            query: None,
            body: Vec::new(),
            millis: 1,
            nonce: "n".repeat(16),
        };
        let headers = request.sign();
        let signature = request.scheme().parse(|name| headers.get(name).map(Vec::as_slice)).unwrap();
        assert!(format!("{signature:?}").ends_with("mac: *** }"));
    }
}
