//! Refusals as values: what went wrong, what the client may read, what the log gets.
//!
//! A filter never writes an answer. It returns a [`Reject`], and the gateway's one writer turns it
//! into OpenIM's envelope. SDK behaviour hangs on `errCode`, so [`Cause`] is closed and its table is
//! linted: 1501 to 1507 make a client log its user out and are kept for genuine verdicts.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use imgate_identity::pace::spread;
use imgate_identity::store::Unavailable;
use imgate_identity::time::UnixTime;
use schemars::JsonSchema;
use serde::Deserialize;

/// Why a request is refused, as far as the client's behaviour is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No credential where one is required.
    CredentialMissing,
    /// A credential that cannot be read, or that is there twice.
    CredentialMalformed,
    /// The client's clock is too far from ours.
    ClockSkew,
    /// The signature or the digest does not match the request.
    SignatureMismatch,
    /// The nonce was used before.
    Replayed,
    /// The session has expired or never was.
    SessionUnknown,
    /// The session was revoked, or the user is banned.
    SessionRevoked,
    /// A live session whose user has no OpenIM token.
    TokenMissing,
    /// A token, carried instead of a signature, that was not made for its bearer.
    TokenInvalid,
    /// The caller may not do this.
    Forbidden,
    /// No route for this host and path.
    NoRoute,
    /// The route does not take this method.
    MethodNotAllowed,
    /// The request is ambiguous or malformed.
    BadRequest,
    /// The body is larger than the route allows.
    BodyTooLarge,
    /// The head is larger than the gateway takes.
    HeadTooLarge,
    /// Too many requests.
    RateLimited,
    /// The store cannot be asked or cannot be trusted.
    StoreUnavailable,
    /// No upstream server could be reached, or it broke off.
    UpstreamUnreachable,
    /// The upstream took too long.
    UpstreamTimeout,
    /// The gateway is draining or full.
    Overloaded,
}

impl Cause {
    /// All causes, in the order of the table.
    pub const ALL: [Self; 20] = [
        Self::CredentialMissing,
        Self::CredentialMalformed,
        Self::ClockSkew,
        Self::SignatureMismatch,
        Self::Replayed,
        Self::SessionUnknown,
        Self::SessionRevoked,
        Self::TokenMissing,
        Self::TokenInvalid,
        Self::Forbidden,
        Self::NoRoute,
        Self::MethodNotAllowed,
        Self::BadRequest,
        Self::BodyTooLarge,
        Self::HeadTooLarge,
        Self::RateLimited,
        Self::StoreUnavailable,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
        Self::Overloaded,
    ];

    /// The name in YAML, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CredentialMissing => "credential_missing",
            Self::CredentialMalformed => "credential_malformed",
            Self::ClockSkew => "clock_skew",
            Self::SignatureMismatch => "signature_mismatch",
            Self::Replayed => "replayed",
            Self::SessionUnknown => "session_unknown",
            Self::SessionRevoked => "session_revoked",
            Self::TokenMissing => "token_missing",
            Self::TokenInvalid => "token_invalid",
            Self::Forbidden => "forbidden",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BadRequest => "bad_request",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTooLarge => "head_too_large",
            Self::RateLimited => "rate_limited",
            Self::StoreUnavailable => "store_unavailable",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Overloaded => "overloaded",
        }
    }

    /// What the client gets when the configuration does not say otherwise.
    fn default_answer(self) -> Answer {
        let (status, err_code, err_msg) = match self {
            Self::CredentialMissing => (401, 20101, "CredentialMissingError"),
            Self::CredentialMalformed => (401, 20102, "CredentialMalformedError"),
            Self::ClockSkew => (401, 20103, "ClockSkewError"),
            Self::SignatureMismatch => (401, 20104, "SignatureMismatchError"),
            Self::Replayed => (401, 20105, "ReplayedError"),
            // These five names are OpenIM's own. Source: open-im-server pkg/common/servererrs/code.go.
            Self::SessionUnknown => (401, 1501, "TokenExpiredError"),
            Self::SessionRevoked => (401, 1506, "TokenKickedError"),
            Self::TokenMissing => (401, 1507, "TokenNotExistError"),
            Self::TokenInvalid => (401, 1505, "TokenUnknownError"),
            Self::Forbidden => (403, 1002, "NoPermissionError"),
            Self::NoRoute => (404, 20201, "NoRouteError"),
            Self::MethodNotAllowed => (405, 20201, "MethodNotAllowedError"),
            Self::BadRequest => (400, 20202, "BadRequestError"),
            Self::BodyTooLarge => (413, 20203, "BodyTooLargeError"),
            Self::HeadTooLarge => (431, 20203, "HeadTooLargeError"),
            Self::RateLimited => (429, 20301, "RateLimitedError"),
            Self::StoreUnavailable => (503, 20401, "StoreUnavailableError"),
            Self::UpstreamUnreachable => (502, 20402, "UpstreamUnreachableError"),
            Self::UpstreamTimeout => (504, 20403, "UpstreamTimeoutError"),
            Self::Overloaded => (503, 20404, "OverloadedError"),
        };
        let status = StatusCode::from_u16(status).expect("the table holds valid statuses");
        Answer { status, err_code, err_msg }
    }

    /// Whether this is a verdict on the user's own credential, the only kind of refusal that may
    /// make an SDK log the user out.
    pub fn is_verdict_on_user(self) -> bool {
        matches!(self, Self::SessionUnknown | Self::SessionRevoked | Self::TokenMissing | Self::TokenInvalid)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a cause looks like on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// OpenIM's `errCode`.
    pub err_code: u32,
    /// OpenIM's `errMsg`.
    pub err_msg: &'static str,
}

/// The range of codes that make OpenIM's SDKs log the user out.
///
/// Source: openim-sdk-core `internal/interaction/long_conn_mgr.go`, open-im-server
/// `pkg/common/servererrs/code.go`.
pub const LOGOUT_CODES: std::ops::RangeInclusive<u32> = 1501..=1507;

/// An answer that may not stand in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// A code of [`LOGOUT_CODES`] for a cause that is no verdict on the user.
    #[error("{1} logs users out in OpenIM's SDKs, and {0} is no verdict on the user")]
    LogsOut(Cause, u32),
    /// An `errCode` of 0, which SDKs read as success.
    #[error("errCode 0 means success, and {0} is none")]
    Success(Cause),
    /// A status outside 400 to 599.
    #[error("status {1} is no refusal, and {0} is one")]
    Status(Cause, u16),
}

/// The answer of every cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers([Answer; Cause::ALL.len()]);

impl Default for Answers {
    fn default() -> Self {
        Self(Cause::ALL.map(Cause::default_answer))
    }
}

impl Answers {
    /// The answer of `cause`.
    pub fn of(&self, cause: Cause) -> Answer {
        self.0[cause as usize]
    }

    /// The answer of a refusal: that of its cause, with the refusal's closer status if the configuration
    /// leaves the cause's own as it is.
    pub fn to(&self, reject: &Reject) -> Answer {
        let answer = self.of(reject.cause);
        match reject.status {
            Some(status) if answer.status == reject.cause.default_answer().status => {
                Answer { status, ..answer }
            }
            _ => answer,
        }
    }

    /// Changes the answer of `cause`.
    ///
    /// # Errors
    /// The code would log users out without a verdict on them, reads as success, or the status is
    /// not a refusal.
    pub fn set(&mut self, cause: Cause, status: Option<u16>, err_code: Option<u32>) -> Result<(), BadAnswer> {
        let answer = &mut self.0[cause as usize];
        if let Some(code) = status {
            answer.status = StatusCode::from_u16(code)
                .ok()
                .filter(|s| s.is_client_error() || s.is_server_error())
                .ok_or(BadAnswer::Status(cause, code))?;
        }
        if let Some(code) = err_code {
            if code == 0 {
                return Err(BadAnswer::Success(cause));
            }
            if LOGOUT_CODES.contains(&code) && !cause.is_verdict_on_user() {
                return Err(BadAnswer::LogsOut(cause, code));
            }
            answer.err_code = code;
        }
        Ok(())
    }
}

/// What a refusal tells the client beside its code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hint {
    /// Nothing.
    #[default]
    None,
    /// When to come back.
    RetryAfter(Duration),
    /// Our clock, for clients to correct theirs by.
    ServerTime(UnixTime),
    /// That a bearer's token is wanted; why the one it sent is none, only the log says.
    Bearer,
    /// The methods the route takes, as an `Allow` header lists them.
    Allow(Box<str>),
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// What the client is told to have happened.
    pub cause: Cause,
    /// What exactly, as a stable word for logs, metrics and tests. It never quotes the request.
    pub reason: &'static str,
    /// What else the client is told.
    pub hint: Hint,
    /// A status that says it more closely than that of the cause, of the same class. It counts where the
    /// configuration leaves the cause's own status as it is.
    pub status: Option<StatusCode>,
}

impl Reject {
    /// Refuses for `cause`; `reason` says it more closely.
    pub fn new(cause: Cause, reason: &'static str) -> Self {
        Self { cause, reason, hint: Hint::None, status: None }
    }

    /// Adds what else the client is told.
    #[must_use]
    pub fn with(self, hint: Hint) -> Self {
        Self { hint, ..self }
    }

    /// Says by the status, too, what exactly was wrong.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status: Some(status), ..self }
    }
}

/// How long a client waits before it tries a store or upstream that is away again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a client waits at most before it tries a gateway again that has too much to do.
pub const BACK_OFF: Duration = Duration::from_secs(5);

impl Reject {
    /// Refuses what is too much for the gateway now; the client is told to come back, each at another time.
    pub fn overloaded(reason: &'static str) -> Self {
        Self::new(Cause::Overloaded, reason).with(Hint::RetryAfter(spread(Duration::ZERO, BACK_OFF)))
    }
}

impl From<Unavailable> for Reject {
    fn from(why: Unavailable) -> Self {
        if why == Unavailable::Overloaded {
            return Self::overloaded("too_many_lookups");
        }
        Self::new(Cause::StoreUnavailable, why.as_str()).with(Hint::RetryAfter(RETRY_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, i, "{cause}");
        }
    }

    #[test]
    fn only_verdicts_log_users_out() {
        let answers = Answers::default();
        for cause in Cause::ALL {
            let logs_out = LOGOUT_CODES.contains(&answers.of(cause).err_code);
            assert_eq!(logs_out, cause.is_verdict_on_user(), "{cause}");
        }
    }

    #[test]
    fn a_table_that_would_log_users_out_is_refused() {
        let mut answers = Answers::default();
        let refused = answers.set(Cause::StoreUnavailable, None, Some(1501));
        assert_eq!(refused, Err(BadAnswer::LogsOut(Cause::StoreUnavailable, 1501)));
        assert_eq!(answers.set(Cause::NoRoute, None, Some(0)), Err(BadAnswer::Success(Cause::NoRoute)));
        assert_eq!(answers.set(Cause::NoRoute, Some(200), None), Err(BadAnswer::Status(Cause::NoRoute, 200)));
        assert_eq!(answers.set(Cause::Replayed, Some(409), Some(20999)), Ok(()));
        assert_eq!(answers.of(Cause::Replayed).status, StatusCode::CONFLICT);
    }
}
