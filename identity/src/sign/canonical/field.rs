//! The values a scheme speaks of, and the bytes each may have.

use std::fmt;

use super::date::TimestampForm;
use super::encoding::Encoding;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The method, in capitals.
    Method,
    /// The host the request is for, lower case, with the port unless it is the default one.
    Authority,
    /// The path as sent.
    Path,
    /// The query as sent, without its `?`; nothing if there is none.
    Query,
    /// The path, and `?` and the query if there is one.
    Target,
    /// When the client says it signed.
    Timestamp,
    /// The word that makes each signature different.
    Nonce,
    /// The SHA-256 of the body.
    Digest,
    /// The session's id.
    Session,
    /// The MAC.
    Signature,
    /// A header of the app's, by its place in the list of those.
    Header(u8),
}

impl Field {
    /// Finds the field that a placeholder names.
    pub(super) fn named(name: &str) -> Option<Self> {
        let all = [
            Self::Method,
            Self::Authority,
            Self::Path,
            Self::Query,
            Self::Target,
            Self::Timestamp,
            Self::Nonce,
            Self::Digest,
            Self::Session,
            Self::Signature,
        ];
        all.into_iter().find(|field| field.name() == name)
    }

    /// The name, as it stands between braces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Authority => "authority",
            Self::Path => "path",
            Self::Query => "query",
            Self::Target => "target",
            Self::Timestamp => "timestamp",
            Self::Nonce => "nonce",
            Self::Digest => "digest",
            Self::Session => "session",
            Self::Signature => "signature",
            Self::Header(_) => "header:...",
        }
    }

    /// Whether the client sends it in a header, rather than the request being it.
    pub(super) fn is_sent(self) -> bool {
        matches!(self, Self::Timestamp | Self::Nonce | Self::Digest | Self::Session | Self::Signature)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.name())
    }
}

/// How the fields of one scheme are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forms {
    pub(super) signature: Encoding,
    pub(super) digest: Encoding,
    pub(super) timestamp: TimestampForm,
}

impl Forms {
    /// Whether the byte may stand in the field. No field has a line feed, so none can pose as a line.
    pub(super) fn admits(&self, field: Field, byte: u8) -> bool {
        match field {
            Field::Method => byte.is_ascii_uppercase() || byte == b'-',
            Field::Authority => {
                let lower = byte.is_ascii_lowercase() || byte.is_ascii_digit();
                lower || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
            }
            Field::Path => byte.is_ascii_graphic() && byte != b'?',
            Field::Query | Field::Target => byte.is_ascii_graphic(),
            Field::Timestamp => self.timestamp.admits(byte),
            Field::Nonce => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_'),
            Field::Digest => self.digest.admits(byte),
            Field::Session => Encoding::Base64url.admits(byte),
            Field::Signature => self.signature.admits(byte),
            Field::Header(_) => byte.is_ascii_graphic() || byte == b' ',
        }
    }

    /// Whether every byte of the text may stand in the field.
    pub(super) fn admit(&self, field: Field, text: &str) -> bool {
        text.bytes().all(|byte| self.admits(field, byte))
    }
}
