//! The answer envelope every REST reply has, and the error codes that travel in it.
//!
//! OpenIM reports application errors with HTTP status 200; only the code in the envelope tells.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

/// The error codes the stand-in gives.
///
/// Source: openimsdk/tools `errs`, open-im-server `pkg/common/servererrs/code.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Code {
    GrpcTooLarge = 8,
    GrpcInternal = 13,
    Internal = 500,
    Args = 1001,
    NoPermission = 1002,
    RecordNotFound = 1004,
    UserIdNotFound = 1101,
    RegisteredAlready = 1102,
    GroupIdNotFound = 1201,
    TokenExpired = 1501,
    TokenInvalid = 1502,
    TokenMalformed = 1503,
    TokenNotValidYet = 1504,
    TokenUnknown = 1505,
    TokenKicked = 1506,
    TokenNotExist = 1507,
    ConnOverMaxNum = 1601,
    ConnArgs = 1602,
}

impl Code {
    /// The `errMsg` that belongs to the code.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::GrpcTooLarge => "grpc: received message larger than max",
            Self::GrpcInternal => "rpc error: code = Internal",
            Self::Internal => "ServerInternalError",
            Self::Args => "ArgsError",
            Self::NoPermission => "NoPermissionError",
            Self::RecordNotFound => "RecordNotFoundError",
            Self::UserIdNotFound => "UserIDNotFoundError",
            Self::RegisteredAlready => "RegisteredAlreadyError",
            Self::GroupIdNotFound => "GroupIDNotFoundError",
            Self::TokenExpired => "TokenExpiredError",
            Self::TokenInvalid => "TokenInvalidError",
            Self::TokenMalformed => "TokenMalformedError",
            Self::TokenNotValidYet => "TokenNotValidYetError",
            Self::TokenUnknown => "TokenUnknownError",
            Self::TokenKicked => "TokenKickedError",
            Self::TokenNotExist => "TokenNotExistError",
            Self::ConnOverMaxNum => "ConnOverMaxNumLimit",
            Self::ConnArgs => "args err, need token, sendID, platformID",
        }
    }
}

/// A refusal as the client gets to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u32,
    message: Cow<'static, str>,
    detail: String,
}

impl Failure {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code: code as u32, message: Cow::Borrowed(code.message()), detail: detail.into() }
    }

    /// An error Go did not give a code: its text becomes the message.
    pub(crate) fn uncoded(text: impl Into<String>) -> Self {
        Self { code: Code::Internal as u32, message: Cow::Owned(text.into()), detail: String::new() }
    }

    pub(crate) fn args(detail: impl Into<String>) -> Self {
        Self::new(Code::Args, detail)
    }

    pub(crate) fn no_permission(detail: impl Into<String>) -> Self {
        Self::new(Code::NoPermission, detail)
    }

    /// Writes the envelope.
    pub(crate) fn to_bytes(&self) -> Bytes {
        write(&Envelope { err_code: self.code, err_msg: &self.message, err_dlt: &self.detail, data: None })
    }
}

/// Writes the envelope of a success; an absent, null or empty `data` is left out.
pub(crate) fn success(data: Option<&Value>) -> Bytes {
    let data = data.filter(|value| value.as_object().is_some_and(|fields| !fields.is_empty()));
    write(&Envelope { err_code: 0, err_msg: "", err_dlt: "", data })
}

/// Writes the envelope of an error with free choice of texts.
pub(crate) fn error(code: u32, message: &str, detail: &str) -> Bytes {
    write(&Envelope { err_code: code, err_msg: message, err_dlt: detail, data: None })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    err_code: u32,
    err_msg: &'a str,
    err_dlt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
}

fn write(envelope: &Envelope<'_>) -> Bytes {
    serde_json::to_vec(envelope).expect("an envelope holds only string keys").into()
}
