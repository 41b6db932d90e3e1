//! Why headers are no signature in our profile.

/// What is wrong with the form of a signature, before any key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// `Signature-Input` has more than [`super::MAX_INPUT`] bytes.
    #[error("signature-input is longer than 512 bytes")]
    InputTooLong,
    /// `Signature-Input` has a byte that is neither visible ASCII nor a space.
    #[error("signature-input has a byte outside printable ASCII")]
    Encoding,
    /// `Signature-Input` does not begin with `label=`.
    #[error("signature-input does not begin with a label")]
    Label,
    /// The covered components are not those of the profile, in its order and spelling.
    #[error("covered components are not those of the profile")]
    Components,
    /// Something stands where a parameter or the end should.
    #[error("signature-input has bytes that belong to no parameter")]
    Syntax,
    /// A parameter that the profile does not have.
    #[error("signature has a parameter that the profile does not have")]
    UnknownParameter,
    /// A parameter is there twice.
    #[error("signature has a parameter twice")]
    DuplicateParameter,
    /// One of the five parameters is not there.
    #[error("signature lacks one of created, nonce, keyid, alg and tag")]
    MissingParameter,
    /// `created` is not an integer of 1 to 15 digits in its one spelling.
    #[error("created is not a plain integer of 1 to 15 digits")]
    Created,
    /// `nonce` is not 16 to 64 characters of base64url.
    #[error("nonce is not 16 to 64 characters of base64url")]
    Nonce,
    /// `keyid` is no session id.
    #[error("keyid is not a session id")]
    KeyId,
    /// `alg` is not [`super::ALGORITHM`].
    #[error("alg is not hmac-sha256")]
    Algorithm,
    /// `tag` is not [`super::TAG`].
    #[error("tag is not imgate")]
    Tag,
    /// There is more than one signature.
    #[error("there is more than one signature")]
    Multiple,
    /// The two headers do not have the same label.
    #[error("signature and signature-input have different labels")]
    LabelMismatch,
    /// `Signature` is not 32 bytes in canonical base64 between colons.
    #[error("signature is not 32 bytes of canonical base64 between colons")]
    SignatureValue,
    /// `Content-Digest` is not exactly one canonical `sha-256=:...:`.
    #[error("content-digest is not exactly one canonical sha-256 member")]
    DigestValue,
    /// `Content-Digest` is there but not covered.
    #[error("content-digest is present but not covered")]
    DigestUncovered,
    /// `Content-Digest` is covered but not there.
    #[error("content-digest is covered but absent")]
    DigestAbsent,
}

impl Malformed {
    /// Names the cause for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InputTooLong => "input_too_long",
            Self::Encoding => "encoding",
            Self::Label => "label",
            Self::Components => "components",
            Self::Syntax => "syntax",
            Self::UnknownParameter => "unknown_parameter",
            Self::DuplicateParameter => "duplicate_parameter",
            Self::MissingParameter => "missing_parameter",
            Self::Created => "created",
            Self::Nonce => "nonce",
            Self::KeyId => "keyid",
            Self::Algorithm => "alg",
            Self::Tag => "tag",
            Self::Multiple => "multiple",
            Self::LabelMismatch => "label_mismatch",
            Self::SignatureValue => "signature_value",
            Self::DigestValue => "digest_value",
            Self::DigestUncovered => "digest_uncovered",
            Self::DigestAbsent => "digest_absent",
        }
    }
}
