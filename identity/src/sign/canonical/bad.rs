//! Why a scheme is refused when the configuration is read.

use super::field::Field;

/// What is wrong with a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadScheme {
    /// A brace that belongs to no placeholder.
    #[error(
        "a `{{` or `}}` belongs to no placeholder\nhint: placeholders are {{method}} {{authority}} {{path}} {{query}} {{target}} {{timestamp}} {{nonce}} {{digest}} {{session}} {{signature}} and {{header:x-name}}"
    )]
    Placeholder,
    /// Literal text with a byte that headers or lines cannot have.
    #[error("literal text is visible ASCII and spaces, in `string_to_sign` also line feeds")]
    Literal,
    /// A template of absurd length.
    #[error("a template is longer than {} bytes", super::MAX_TEMPLATE)]
    TooLong,
    /// Two placeholders with nothing between them.
    #[error("nothing stands between {0} and {1}\nhint: without a separator two requests could have one text")]
    Touching(Field, Field),
    /// A separator that may stand in a value beside it.
    #[error(
        "it cannot be told where {0} ends\nhint: separate it by something it cannot hold; a line feed always does"
    )]
    Blurred(Field),
    /// A placeholder that has no business in a header.
    #[error("{0} is no part of a credential header\nhint: it is taken from the request itself")]
    NotSent(Field),
    /// A placeholder that has no business in the text.
    #[error("{{signature}} cannot be signed")]
    SelfSigned,
    /// A value that two headers carry.
    #[error("the headers carry {0} twice")]
    SentTwice(Field),
    /// A value that no header carries.
    #[error("no header carries {0}")]
    Unsent(Field),
    /// A nonce that an attacker could change.
    #[error(
        "a header carries {{nonce}}, but `string_to_sign` leaves it out\nhint: sign it, or do not ask for one"
    )]
    UnsignedNonce,
    /// A digest whose spelling is not given.
    #[error("`digest` is missing\nhint: say how {{digest}} is written: hex, base64 or base64url")]
    DigestForm,
    /// A digest form that nothing uses.
    #[error("`digest` means nothing without {{digest}}")]
    NeedlessDigestForm,
    /// A text that leaves out what must be signed.
    #[error(
        "`string_to_sign` leaves out {0}, which anybody could then change\nhint: add it; `weak: true` accepts the danger, and says so at every start"
    )]
    Gap(Field),
    /// `weak: true` without a gap.
    #[error("`weak: true`, but nothing is left out\nhint: take it out, so that a later gap is refused")]
    NeedlessWeak,
    /// A header name that is none.
    #[error("a header name is none")]
    HeaderName,
    /// A header that is named twice.
    #[error("a header is named twice")]
    HeaderTwice,
    /// A header that cannot carry a credential.
    #[error(
        "a header cannot carry a credential, because the gateway removes it, writes it or needs it\nhint: so framing, forwarding and hop-by-hop headers, content-type, cookie, operationid, x-imgate-* and names with `_`"
    )]
    ReservedHeader,
    /// More headers in the text than anybody needs.
    #[error("`string_to_sign` names more than 8 headers")]
    ManyHeaders,
}
