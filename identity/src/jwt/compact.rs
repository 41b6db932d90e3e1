//! The compact form: three parts of base64url between two dots, and nothing else.

use base64::Engine as _;
// It refuses padding, and bits behind the last byte that are not zero.
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::MAX_LEN;
use super::fault::Fault;

/// A token taken apart. Source: RFC 7515 section 3.1.
pub(super) struct Parts<'a> {
    /// The header, decoded.
    pub(super) header: Vec<u8>,
    /// The claims, decoded.
    pub(super) claims: Vec<u8>,
    /// The signature as it stands there, known to be canonical base64url.
    pub(super) signature: &'a str,
    /// What was signed.
    pub(super) signed: &'a [u8],
}

impl<'a> Parts<'a> {
    /// # Errors
    /// The token is too long, has not three parts, or a part that is no canonical base64url. JSON
    /// serialisations and five-part encrypted tokens are none of these.
    pub(super) fn split(token: &'a [u8]) -> Result<Self, Fault> {
        if token.len() > MAX_LEN {
            return Err(Fault::TooLong);
        }
        let text = std::str::from_utf8(token).map_err(|_| Fault::Encoding)?;
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::Parts);
        };
        let signed = &token[..header.len() + 1 + claims.len()];
        decode(signature)?;
        Ok(Self { header: decode(header)?, claims: decode(claims)?, signature, signed })
    }
}

/// Decodes canonical base64url.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, Fault> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Fault::Encoding)
}
