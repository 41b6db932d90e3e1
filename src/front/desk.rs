//! Who is asked at the front door: what a connection may do, and what is said to whom it turns away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use imgate_filters::Reject;
use pingora_http::ResponseHeader;

use super::guard::HeadLimits;
use crate::admission::Pacer;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address, or that of the proxy before it that does not tell.
    pub address: SocketAddr,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How large a head may be.
    pub head: HeadLimits,
    /// How long a head may take from its first byte to its last.
    pub head_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub keepalive_timeout: Duration,
    /// How many requests it may carry.
    pub requests: u32,
    /// How long an idle connection is kept for another request once the gateway stops. The answer to that
    /// one says that the connection ends; closing at once would meet requests that are on their way.
    pub last_chance: Duration,
}

/// A request that was turned away before anybody parsed it.
pub struct Refused<'a> {
    /// Why.
    pub reject: &'a Reject,
    /// What was read of it.
    pub head: &'a [u8],
    /// Whose it is.
    pub peer: Peer,
    /// When its first byte came.
    pub at: SystemTime,
    /// The same, on the clock that only goes forward.
    pub began: Instant,
}

/// What a client that is turned away is told.
pub struct Refusal {
    /// Status and headers.
    pub head: ResponseHeader,
    /// The body.
    pub body: Vec<u8>,
}

/// What a front door needs of whoever is behind it.
pub trait Desk: Send + Sync {
    /// What a connection may do, from now on.
    fn bounds(&self) -> Bounds;

    /// Who lets TLS handshakes begin; none lets all of them. Whoever it turns away is not answered: the
    /// connection is closed before a byte of it is read.
    fn handshakes(&self) -> Option<Arc<Pacer>> {
        None
    }

    /// Notes a refusal, and says what the client is told.
    fn refuse(&self, refused: &Refused<'_>) -> Refusal;
}
