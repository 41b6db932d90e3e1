//! Why a token is refused.

/// What a fault means for whoever sent the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is not a token that could be read in one way.
    Malformed,
    /// It is not a token that we believe, or not any more; another one is needed.
    Refused,
    /// Its time has not come: some clock is wrong.
    Early,
}

/// A claim that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// When it runs out.
    Exp,
    /// When it was issued.
    Iat,
    /// When it becomes valid.
    Nbf,
    /// Who issued it.
    Iss,
    /// Whom it is meant for.
    Aud,
    /// Whom it speaks of.
    Sub,
    /// What that one may do.
    Roles,
}

/// Why a token is refused. It never quotes the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token is refused: {}", self.as_str())]
pub enum Fault {
    /// Longer than 8 KiB.
    TooLong,
    /// Not three parts between dots.
    Parts,
    /// A part that is not base64url as RFC 7515 wants it: no padding, no stray bits.
    Encoding,
    /// The header is no JSON object with distinct members, or a member is not what it should be.
    Header,
    /// A header parameter that brings a key, or changes what a token is.
    HeaderParameter(&'static str),
    /// Not of the type that is asked for.
    Type,
    /// No key is named, and there is more than one.
    NoKeyId,
    /// A key is named that is not there.
    UnknownKey,
    /// Another algorithm than its key has.
    Algorithm,
    /// Not signed by its key.
    Signature,
    /// The claims are no JSON object with distinct members.
    Claims,
    /// A claim is missing.
    Missing(Claim),
    /// A claim is not what it should be.
    Ill(Claim),
    /// Issued by somebody else.
    Issuer,
    /// Meant for somebody else.
    Audience,
    /// Its time has run out.
    Expired,
    /// `nbf` lies ahead.
    NotYetValid,
    /// `iat` lies ahead.
    NotYetIssued,
    /// It would be valid for longer than a token may.
    TooLongLived,
}

impl Fault {
    /// Names the cause for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "jwt_too_long",
            Self::Parts => "jwt_parts",
            Self::Encoding => "jwt_encoding",
            Self::Header => "jwt_header",
            Self::HeaderParameter(reason) => reason,
            Self::Type => "jwt_type",
            Self::NoKeyId => "jwt_kid_missing",
            Self::UnknownKey => "jwt_kid_unknown",
            Self::Algorithm => "jwt_alg",
            Self::Signature => "jwt_signature",
            Self::Claims => "jwt_claims",
            Self::Missing(claim) => claim.missing(),
            Self::Ill(claim) => claim.ill(),
            Self::Issuer => "jwt_issuer",
            Self::Audience => "jwt_audience",
            Self::Expired => "jwt_expired",
            Self::NotYetValid => "jwt_not_yet_valid",
            Self::NotYetIssued => "jwt_not_yet_issued",
            Self::TooLongLived => "jwt_too_long_lived",
        }
    }

    /// What it means for whoever sent the token.
    pub fn kind(self) -> Kind {
        match self {
            Self::TooLong
            | Self::Parts
            | Self::Encoding
            | Self::Header
            | Self::HeaderParameter(_)
            | Self::Claims => Kind::Malformed,
            Self::Type
            | Self::NoKeyId
            | Self::UnknownKey
            | Self::Algorithm
            | Self::Signature
            | Self::Missing(_)
            | Self::Ill(_)
            | Self::Issuer
            | Self::Audience
            | Self::Expired
            | Self::TooLongLived => Kind::Refused,
            Self::NotYetValid | Self::NotYetIssued => Kind::Early,
        }
    }
}

impl Claim {
    /// The name in a token.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Exp => "exp",
            Self::Iat => "iat",
            Self::Nbf => "nbf",
            Self::Iss => "iss",
            Self::Aud => "aud",
            Self::Sub => "sub",
            Self::Roles => "roles",
        }
    }

    fn missing(self) -> &'static str {
        match self {
            Self::Exp => "jwt_exp_missing",
            Self::Iat => "jwt_iat_missing",
            Self::Nbf => "jwt_nbf_missing",
            Self::Iss => "jwt_iss_missing",
            Self::Aud => "jwt_aud_missing",
            Self::Sub => "jwt_sub_missing",
            Self::Roles => "jwt_roles_missing",
        }
    }

    fn ill(self) -> &'static str {
        match self {
            Self::Exp => "jwt_exp_malformed",
            Self::Iat => "jwt_iat_malformed",
            Self::Nbf => "jwt_nbf_malformed",
            Self::Iss => "jwt_iss_malformed",
            Self::Aud => "jwt_aud_malformed",
            Self::Sub => "jwt_sub_malformed",
            Self::Roles => "jwt_roles_malformed",
        }
    }
}
