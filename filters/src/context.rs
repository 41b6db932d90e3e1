//! What is known about one request: facts that filters write and later filters read.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderValue;
use imgate_identity::session::Session;
use imgate_identity::store::User;
use imgate_identity::time::UnixTime;
use imgate_identity::token::OpenimToken;
use imgate_identity::user::{Platform, UserId};
use pingora_http::RequestHeader;

use crate::reject::{Cause, Reject};
use crate::rules::Rules;

/// A fact that orders a chain: it is written before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Who calls, proven.
    Caller,
    /// The caller is a user.
    User,
    /// The caller is an admin of the operator's own.
    Admin,
    /// What the body says of the caller is true.
    Bound,
    /// The OpenIM token to inject.
    Token,
    /// That token is an OpenIM admin's.
    AdminToken,
    /// The token stands in the request.
    Injected,
    /// The handshake of a socket was checked.
    Socket,
}

impl Fact {
    /// The name in error messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "the caller",
            Self::User => "the calling user",
            Self::Admin => "the calling admin",
            Self::Bound => "the bound body",
            Self::Token => "the OpenIM token",
            Self::AdminToken => "the OpenIM admin's token",
            Self::Injected => "the injected token",
            Self::Socket => "the checked handshake",
        }
    }

    /// Which filter to add when nothing writes this fact.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Caller => "put a filter that verifies the caller above it, such as verify_signature",
            Self::User => "put verify_signature, verify_session_token or verify_openim_token above it",
            Self::Admin => "put verify_jwt above it",
            Self::Bound => "put bind_identity above it",
            Self::Token => "put resolve_token above it",
            Self::AdminToken => "put `resolve_token: { of: ... }` above it",
            Self::Injected => "put inject_token above it",
            Self::Socket => "put verify_socket above it",
        }
    }
}

/// Who calls, by a credential that was verified.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A user of OpenIM.
    User(ProvenUser),
    /// An admin of the operator's own, who is nobody in OpenIM.
    Admin(ProvenAdmin),
}

/// A user whose credential was verified.
#[derive(Clone, Debug)]
pub struct ProvenUser {
    /// Who it is.
    pub id: UserId,
    /// The kind of device.
    pub platform: Platform,
    /// The session, where the credential has one.
    pub session: Option<Arc<Session>>,
    /// What the store says of the user.
    pub record: Arc<User>,
}

/// An admin whose JWT was verified.
#[derive(Clone, Debug)]
pub struct ProvenAdmin {
    /// The subject of the JWT.
    pub subject: Box<str>,
    /// The roles it grants.
    pub roles: Box<[Box<str>]>,
}

/// The longest `operationID` the gateway passes on, in bytes.
pub const MAX_OPERATION_ID: usize = 128;

/// The name of one operation across client, gateway and OpenIM.
#[derive(Clone, Debug)]
pub struct OperationId {
    value: HeaderValue,
    from_client: bool,
}

impl OperationId {
    /// Takes the client's name for it, if OpenIM could use it: visible ASCII, 1 to 128 bytes.
    ///
    /// Source: OpenIM sends it on as gRPC metadata, which takes printable ASCII only.
    pub fn from_client(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let usable = (1..=MAX_OPERATION_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        usable.then(|| Self { value: value.clone(), from_client: true })
    }

    /// Takes a name of our own making, which must be visible ASCII.
    pub fn generated(value: HeaderValue) -> Self {
        Self { value, from_client: false }
    }

    /// The name as a header value.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.value.to_str().unwrap_or("")
    }

    /// Whether the client chose it.
    pub fn is_from_client(&self) -> bool {
        self.from_client
    }
}

/// Tells the time. Passed in, so that tests decide what it is.
pub type Clock = fn() -> UnixTime;

/// What is known of the route a request takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The route's name in logs and metrics.
    pub route: Arc<str>,
    /// The upstream it leads to.
    pub upstream: Arc<str>,
    /// What it asks of its filters.
    pub rules: Rules,
    /// How much of the path's front stays here, in bytes.
    pub strip: usize,
}

impl Place {
    /// Where a request is before its route is found.
    pub fn unknown() -> Arc<Self> {
        static UNKNOWN: LazyLock<Arc<Place>> = LazyLock::new(Arc::default);
        Arc::clone(&UNKNOWN)
    }
}

/// A refusal, or an answer, that a filter in shadow mode kept to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// The filter.
    pub filter: &'static str,
    /// What the client would have been told; `None` for an answer that is no refusal.
    pub cause: Option<Cause>,
    /// What exactly.
    pub reason: &'static str,
}

/// Everything known about one request.
#[derive(Clone, Debug)]
pub struct Context {
    /// When the request arrived; later, when its body had arrived.
    pub now: UnixTime,
    /// What to ask after a wait.
    pub clock: Clock,
    /// When the request arrived, by a clock that never steps.
    pub arrived: Instant,
    /// Where it came from.
    pub client: IpAddr,
    /// Its name.
    pub operation_id: OperationId,
    /// The route it takes.
    pub place: Arc<Place>,
    /// Who calls, once proven.
    pub caller: Option<Caller>,
    /// Who a socket's handshake says it is; OpenIM has the last word on it.
    pub claimed_user: Option<UserId>,
    /// The OpenIM token to inject, once resolved.
    pub token: Option<Arc<OpenimToken>>,
    /// The OpenIM admin whose token it is; `None` if it is the caller's own.
    pub acting_as: Option<UserId>,
    /// Whether the token was put into the request.
    pub injected: bool,
    /// The target that is forwarded, if a filter has rewritten it.
    pub target: Option<Bytes>,
    /// The filter that refused or answered, for the log.
    pub refused_by: Option<&'static str>,
    /// What filters in shadow mode would have refused.
    pub shadowed: Vec<Shadowed>,
}

impl Context {
    /// Begins with what is known before any filter ran.
    pub fn new(clock: Clock, client: IpAddr, operation_id: OperationId, place: Arc<Place>) -> Self {
        Self {
            now: clock(),
            clock,
            arrived: Instant::now(),
            client,
            operation_id,
            place,
            caller: None,
            claimed_user: None,
            token: None,
            acting_as: None,
            injected: false,
            target: None,
            refused_by: None,
            shadowed: Vec::new(),
        }
    }

    /// The calling user, if a user calls.
    pub fn user(&self) -> Option<&ProvenUser> {
        match &self.caller {
            Some(Caller::User(user)) => Some(user),
            _ => None,
        }
    }

    /// The calling admin, if an admin calls.
    pub fn admin(&self) -> Option<&ProvenAdmin> {
        match &self.caller {
            Some(Caller::Admin(admin)) => Some(admin),
            _ => None,
        }
    }

    /// The calling user, where the order of the chain promises one.
    ///
    /// # Errors
    /// No filter has proven one.
    pub fn require_user(&self) -> Result<&ProvenUser, Reject> {
        self.user().ok_or_else(|| Reject::new(Cause::CredentialMissing, "caller_unknown"))
    }

    /// The target as it is forwarded: rewritten, or as it came without the front that stays here. It is
    /// never empty.
    pub fn forwarded<'a>(&'a self, head: &'a RequestHeader) -> &'a [u8] {
        if let Some(target) = &self.target {
            return target;
        }
        let raw = head.raw_path();
        match raw.get(self.place.strip..) {
            Some(rest) if rest.starts_with(b"/") => rest,
            _ => raw,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_operation_ids_are_taken_over() {
        for good in ["1", "op-1", &"x".repeat(128)] {
            assert!(OperationId::from_client(&HeaderValue::from_str(good).unwrap()).is_some(), "{good}");
        }
        for bad in ["", "a b", &"x".repeat(129), "a\tb"] {
            assert!(OperationId::from_client(&HeaderValue::from_str(bad).unwrap()).is_none(), "{bad}");
        }
        assert!(OperationId::from_client(&HeaderValue::from_bytes(b"\xc3\xa9").unwrap()).is_none());
    }
}
