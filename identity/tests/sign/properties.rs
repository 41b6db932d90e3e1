//! What must hold for any request and for any bytes.

use imgate_identity::session::{SessionId, SessionSecret};
use imgate_identity::sign::{BodyFault, HttpKey, Nonce, Presented, Signature, SignedHeaders, Target, sign};
use imgate_identity::time::UnixTime;
use proptest::prelude::*;

/// A request that a client may sign.
#[derive(Clone, Debug)]
struct Request {
    secret: [u8; 32],
    session: [u8; 16],
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    body: Option<Vec<u8>>,
    created: u64,
    nonce: String,
}

impl Request {
    fn key(&self) -> HttpKey {
        HttpKey::derive(&SessionSecret::new(self.secret))
    }

    fn target(&self) -> Target<'_> {
        let Self { method, authority, path, query, .. } = self;
        Target { method, authority, path, query: query.as_deref() }
    }

    fn sign(&self) -> SignedHeaders {
        let session = SessionId::from_bytes(self.session);
        let nonce = Nonce::parse(&self.nonce).unwrap();
        sign(&self.key(), &session, &self.target(), self.body.as_deref(), UnixTime(self.created), &nonce)
    }
}

prop_compose! {
    fn request()(
        secret: [u8; 32],
        session: [u8; 16],
        method in "[A-Z]{1,8}",
        authority in "[a-z0-9.-]{1,20}(:[0-9]{1,5})?",
        path in "/[!-~]{0,30}",
        query in proptest::option::of("[!-~]{1,30}"),
        body in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64)),
        created in 0..1_000_000_000_000_000_u64,
        nonce in "[A-Za-z0-9_-]{16,64}",
    ) -> Request {
        Request { secret, session, method, authority, path, query, body, created, nonce }
    }
}

/// Whether the headers are accepted for the request, body included.
fn accepted(headers: Presented<'_>, request: &Request) -> bool {
    Signature::parse(headers).is_ok_and(|signature| {
        signature.verify(&request.key(), &request.target()).is_ok()
            && signature.check_digest(request.body.as_deref().unwrap_or_default()).is_ok()
    })
}

/// Splits `label=` off both headers and puts another label in its place.
fn relabelled(headers: &SignedHeaders, label: &str) -> SignedHeaders {
    let with = |value: &str| format!("{label}={}", value.split_once('=').unwrap().1);
    SignedHeaders {
        signature_input: with(&headers.signature_input),
        signature: with(&headers.signature),
        content_digest: headers.content_digest.clone(),
    }
}

proptest! {
    #[test]
    fn what_is_signed_is_read_back_and_verifies(request in request()) {
        let headers = request.sign();
        let signature = Signature::parse(headers.presented()).unwrap();
        prop_assert_eq!(signature.created, UnixTime(request.created));
        prop_assert_eq!(signature.nonce, &request.nonce);
        prop_assert_eq!(signature.key_id, SessionId::from_bytes(request.session));
        prop_assert_eq!(signature.covers_body(), request.body.is_some());
        prop_assert!(accepted(headers.presented(), &request));
    }

    #[test]
    fn any_label_does_if_both_headers_have_it(request in request(), label in "[a-z*][a-z0-9_.*-]{0,20}") {
        prop_assert!(accepted(relabelled(&request.sign(), &label).presented(), &request));
    }

    #[test]
    fn a_byte_changed_in_a_header_is_refused(
        request in request(),
        which in 0..3_usize,
        at: prop::sample::Index,
        byte: u8,
    ) {
        let headers = request.sign();
        let mut values = [
            headers.signature_input.clone().into_bytes(),
            headers.signature.clone().into_bytes(),
            headers.content_digest.clone().unwrap_or_default().into_bytes(),
        ];
        prop_assume!(!values[which].is_empty());
        let at = at.index(values[which].len());
        prop_assume!(values[which][at] != byte);
        values[which][at] = byte;
        let [signature_input, signature, digest] = &values;
        let content_digest = headers.content_digest.is_some().then_some(digest.as_slice());
        let presented = Presented { signature_input, signature, content_digest };
        prop_assert!(!accepted(presented, &request));
    }

    #[test]
    fn a_byte_dropped_or_added_is_refused(
        request in request(),
        which in 0..3_usize,
        at: prop::sample::Index,
        added: Option<u8>,
    ) {
        let headers = request.sign();
        let mut values = [
            headers.signature_input.clone().into_bytes(),
            headers.signature.clone().into_bytes(),
            headers.content_digest.clone().unwrap_or_default().into_bytes(),
        ];
        prop_assume!(!values[which].is_empty());
        let at = at.index(values[which].len());
        match added {
            Some(byte) => values[which].insert(at, byte),
            None => { values[which].remove(at); }
        }
        let [signature_input, signature, digest] = &values;
        let content_digest = headers.content_digest.is_some().then_some(digest.as_slice());
        let presented = Presented { signature_input, signature, content_digest };
        prop_assert!(!accepted(presented, &request));
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
            _ => change(changed.body.get_or_insert_default()),
        }
        let same = changed.target() == request.target() && changed.body == request.body;
        prop_assert_eq!(accepted(headers.presented(), &changed), same);
    }

    #[test]
    fn another_secret_verifies_nothing(request in request(), other: [u8; 32]) {
        prop_assume!(other != request.secret);
        let headers = request.sign();
        let stranger = Request { secret: other, ..request };
        prop_assert!(!accepted(headers.presented(), &stranger));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        signature_input in proptest::collection::vec(any::<u8>(), 0..600),
        signature in proptest::collection::vec(any::<u8>(), 0..100),
        digest in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..70)),
    ) {
        let headers = Presented {
            signature_input: &signature_input,
            signature: &signature,
            content_digest: digest.as_deref(),
        };
        prop_assert!(Signature::parse(headers).is_err());
    }

    #[test]
    fn likely_text_never_panics(
        signature_input in "[a-z]{0,3}=?(\\PC{0,3}|\\(\"@method\" \"@authority\" \"@path\" \"@query\"( \"content-digest\")?\\))(;(created|nonce|keyid|alg|tag|é)?=?\"?\\PC{0,24}\"?){0,6}",
        signature in "[a-z]{0,3}=?:?[A-Za-z0-9+/é]{0,44}=?:?",
        digest in proptest::option::of("sha-256=:?[A-Za-z0-9+/é]{0,44}=?:?"),
    ) {
        let headers = Presented {
            signature_input: signature_input.as_bytes(),
            signature: signature.as_bytes(),
            content_digest: digest.as_deref().map(str::as_bytes),
        };
        if let Ok(signature) = Signature::parse(headers) {
            let target = Target { method: "GET", authority: "a", path: "/", query: None };
            prop_assert!(signature.verify(HttpKey::decoy(), &target).is_err());
        }
    }

    #[test]
    fn a_body_in_pieces_is_judged_as_the_whole(request in request(), cut: prop::sample::Index, flip: bool) {
        let headers = request.sign();
        let signature = Signature::parse(headers.presented()).unwrap();
        let mut body = request.body.unwrap_or_default();
        if flip && let Some(byte) = body.first_mut() {
            *byte ^= 1;
        }
        let (first, second) = body.split_at(cut.index(body.len() + 1));
        let mut check = signature.body_check();
        let pieces = check.update(first).and_then(|()| check.update(second)).and_then(|()| check.finish());
        prop_assert_eq!(pieces, signature.check_digest(&body));
        prop_assert_eq!(pieces, if flip && !body.is_empty() { Err(BodyFault::Mismatch) } else { Ok(()) });
    }
}

#[test]
fn debug_shows_no_mac() {
    let request = Request {
        secret: [1; 32],
        session: [2; 16],
        method: "GET".to_owned(),
        authority: "a".to_owned(),
        path: "/".to_owned(),
        query: None,
        body: None,
        created: 1,
        nonce: "n".repeat(16),
    };
    let headers = request.sign();
    let mac = headers.signature.split(':').nth(1).unwrap();
    assert!(!format!("{headers:?}").contains(mac));
    assert!(!format!("{:?}", Signature::parse(headers.presented()).unwrap()).contains(mac));
}
