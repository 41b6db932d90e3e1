//! What is known about one request: facts that filters write and later filters read.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use imgate_identity::session::Session;
use imgate_identity::store::User;
use imgate_identity::time::UnixTime;
use imgate_identity::token::OpenimToken;
use imgate_identity::user::UserId;

/// A fact that orders a chain: it is written before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Who calls, proven.
    Caller,
    /// The OpenIM token to inject.
    Token,
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
            Self::Token => "the OpenIM token",
            Self::Injected => "the injected token",
            Self::Socket => "the checked handshake",
        }
    }

    /// Which filter to add when nothing writes this fact.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Caller => "put verify_signature above it",
            Self::Token => "put resolve_token above it",
            Self::Injected => "put inject_token above it",
            Self::Socket => "put verify_socket above it",
        }
    }
}

/// A caller whose credential was verified.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The session that signed.
    pub session: Arc<Session>,
    /// What the store says of its user.
    pub user: Arc<User>,
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

/// Everything known about one request.
#[derive(Clone, Debug)]
pub struct Context {
    /// When the request arrived; later, when its body had arrived.
    pub now: UnixTime,
    /// What to ask after a wait.
    pub clock: Clock,
    /// Where it came from.
    pub client: IpAddr,
    /// Its name.
    pub operation_id: OperationId,
    /// The upstream its route leads to.
    pub upstream: Arc<str>,
    /// Who calls, once proven.
    pub caller: Option<Caller>,
    /// Who a socket's handshake says it is; OpenIM has the last word on it.
    pub claimed_user: Option<UserId>,
    /// The OpenIM token to inject, once resolved.
    pub token: Option<Arc<OpenimToken>>,
    /// Whether the token was put into the request.
    pub injected: bool,
    /// The filter that refused, for the log.
    pub refused_by: Option<&'static str>,
}

impl Context {
    /// Begins with what is known before any filter ran.
    pub fn new(clock: Clock, client: IpAddr, operation_id: OperationId, upstream: Arc<str>) -> Self {
        Self {
            now: clock(),
            clock,
            client,
            operation_id,
            upstream,
            caller: None,
            claimed_user: None,
            token: None,
            injected: false,
            refused_by: None,
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
