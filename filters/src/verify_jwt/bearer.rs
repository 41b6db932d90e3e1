//! Where the token stands: in one `Authorization` header, and nowhere else.

use http::header::AUTHORIZATION;
use pingora_http::RequestHeader;

use crate::reject::{Cause, Reject};

/// The name under which a token would stand in the query. Source: RFC 6750 section 2.3.
const IN_QUERY: &[u8] = b"access_token";

/// Finds the token.
///
/// # Errors
/// There is none, it is there twice, under another scheme, or in the query, where logs would keep it.
pub(super) fn token(head: &RequestHeader) -> Result<&[u8], Reject> {
    let malformed = |reason| Reject::new(Cause::CredentialMalformed, reason);
    if has_token_in_query(head.raw_path()) {
        return Err(malformed("token_in_query"));
    }
    let mut values = head.headers.get_all(AUTHORIZATION).iter();
    let only = values.next().ok_or_else(|| Reject::new(Cause::CredentialMissing, "bearer_missing"))?;
    if values.next().is_some() {
        return Err(malformed("credential_duplicated"));
    }
    let (scheme, token) = only.as_bytes().split_at_checked("Bearer ".len()).unwrap_or_default();
    // One space, as RFC 6750 section 2.1 has it. A second one is no letter of a token.
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Err(malformed("authorization_not_bearer"));
    }
    Ok(token)
}

/// Whether a parameter has that name, in any case and with any letter escaped.
fn has_token_in_query(target: &[u8]) -> bool {
    let Some(mark) = target.iter().position(|byte| *byte == b'?') else { return false };
    // Some servers split at `;`, too.
    let mut parameters = target[mark + 1..].split(|byte| matches!(byte, b'&' | b';'));
    parameters.any(|parameter| {
        let name = parameter.split(|byte| *byte == b'=').next().unwrap_or_default();
        unescape(name).eq_ignore_ascii_case(IN_QUERY)
    })
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, others)) = rest.split_first() {
        let escaped = others.first_chunk::<2>().filter(|_| first == b'%').and_then(byte);
        plain.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &others[2..] } else { others };
    }
    plain
}

fn byte(digits: &[u8; 2]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}
