//! The client's side: the headers of a signed request. For the command line, the demo and tests.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac as _;

use super::key::HttpKey;
use super::nonce::Nonce;
use super::parse::Presented;
use super::target::Target;
use super::{ALGORITHM, TAG, base, body};
use crate::session::SessionId;
use crate::time::UnixTime;

/// The label we sign under; any other would do.
const LABEL: &str = "sig";

/// The headers that make a request a signed one.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedHeaders {
    /// The value of `Signature-Input`.
    pub signature_input: String,
    /// The value of `Signature`.
    pub signature: String,
    /// The value of `Content-Digest`, if there is a body.
    pub content_digest: Option<String>,
}

impl SignedHeaders {
    /// The headers as a verifier takes them.
    pub fn presented(&self) -> Presented<'_> {
        Presented {
            signature_input: self.signature_input.as_bytes(),
            signature: self.signature.as_bytes(),
            content_digest: self.content_digest.as_deref().map(str::as_bytes),
        }
    }
}

impl fmt::Debug for SignedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signature_input, content_digest, .. } = self;
        write!(f, "SignedHeaders {{ {signature_input}, ***, {content_digest:?} }}")
    }
}

/// Signs a request. `Some` body gets a digest, even if it is empty; the request must then say that it
/// has a body.
pub fn sign(
    key: &HttpKey,
    session: &SessionId,
    target: &Target<'_>,
    body: Option<&[u8]>,
    created: UnixTime,
    nonce: &Nonce,
) -> SignedHeaders {
    let content_digest = body.map(body::spell);
    let digest = if body.is_some() { r#" "content-digest""# } else { "" };
    let params = format!(
        r#"("@method" "@authority" "@path" "@query"{digest});created={created};nonce="{nonce}";alg="{ALGORITHM}";keyid="{session}";tag="{TAG}""#,
        nonce = nonce.as_str(),
    );
    let mut mac = key.mac();
    base::feed(target.lines(content_digest.as_deref()), &params, |piece| mac.update(piece));
    SignedHeaders {
        signature_input: format!("{LABEL}={params}"),
        signature: format!("{LABEL}=:{}:", STANDARD.encode(mac.finalize().into_bytes())),
        content_digest,
    }
}
