//! The client's side: the headers of a signed request. For the command line and tests.

use std::fmt;

use hmac::Mac as _;
use sha2::{Digest as _, Sha256};

use super::scheme::Scheme;
use super::values::{Sent, Values};
use crate::session::{SessionId, SessionSecret};
use crate::sign::key::HttpKey;
use crate::sign::nonce::Nonce;
use crate::sign::target::Target;

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// Whose secret signs.
    pub session: SessionId,
    /// The request line and the host.
    pub target: Target<'a>,
    /// The body, empty if there is none.
    pub body: &'a [u8],
    /// The time, in milliseconds since the Unix epoch.
    pub millis: u64,
    /// The word that makes this signature different, for schemes that have one.
    pub nonce: &'a Nonce,
    /// The values of [`Scheme::signed_headers`], in their order.
    pub signed_headers: &'a [&'a str],
}

/// The headers that make a request a signed one.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedHeaders(Vec<(Box<str>, String)>);

impl SignedHeaders {
    /// Names in lower case, and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, value.as_str()))
    }

    /// The value of one of them.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

impl fmt::Debug for SignedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl Scheme {
    /// Signs a request.
    pub fn sign(&self, secret: &SessionSecret, request: &Signable<'_>) -> SignedHeaders {
        let session = request.session.to_string();
        let timestamp = self.forms.timestamp.format(request.millis);
        let digest: [u8; 32] = Sha256::digest(request.body).into();
        let digest = self.forms.digest.encode(&digest);
        let sent = Sent {
            timestamp: &timestamp,
            nonce: request.nonce.as_str(),
            digest: digest.as_str(),
            session: &session,
            signature: "",
        };
        let values = Values { target: request.target, sent, headers: request.signed_headers };
        let mut mac = HttpKey::canonical(self.key, secret).mac();
        self.text.write(&values, |piece| mac.update(piece));
        let mac = self.forms.signature.encode(&mac.finalize().into_bytes().into());
        let values = Values { sent: Sent { signature: mac.as_str(), ..sent }, ..values };
        let headers = self.headers.iter().map(|(name, form)| {
            let mut text = String::new();
            form.write(&values, |piece| text.push_str(&String::from_utf8_lossy(piece)));
            (name.clone(), text)
        });
        SignedHeaders(headers.collect())
    }
}
