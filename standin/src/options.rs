//! What a stand-in can be told: which release line to imitate, where to listen, whom to trust.
//!
//! The defaults are OpenIM's own, save for the addresses: port 0 picks a free one, so that tests never collide.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::ValueEnum;

/// The release line whose behaviour is imitated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Line {
    /// The development line, `main` of July 2026.
    #[default]
    Head,
    /// The released line, `v3.8.3-patch.16`.
    P16,
}

/// What a new login does to the older ones of the same user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultiLogin {
    /// Policy 0: nobody is kicked until a platform holds more than thirty tokens.
    Coexist,
    /// Policy 1: a new token kicks the older ones of its platform.
    #[default]
    KickSamePlatform,
}

/// The settings of one stand-in.
#[derive(Clone)]
pub struct Options {
    /// The release line to imitate.
    pub line: Line,
    /// Where the REST server listens.
    pub api: SocketAddr,
    /// Where the message gateway listens.
    pub ws: SocketAddr,
    /// The shared secret: it signs tokens and buys admin tokens.
    pub secret: String,
    /// The users who may do everything.
    pub admins: Vec<String>,
    /// What a new login does to the older ones.
    pub multi_login_policy: MultiLogin,
    /// Whether answers are compressed for clients that accept gzip.
    pub gzip: bool,
    /// Whether requests are recorded; benches switch it off.
    pub record: bool,
    /// How many records are kept before the oldest is dropped.
    pub record_limit: usize,
    /// How long a minted token lives.
    pub token_lifetime: Duration,
    /// How long a WebSocket may stay silent.
    pub read_deadline: Duration,
    /// How often web clients are pinged.
    pub ping_interval: Duration,
    /// How many WebSockets are accepted before 1601.
    pub max_connections: usize,
    /// The base URL that presigned object links point to.
    pub object_store: String,
}

impl Default for Options {
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            line: Line::Head,
            api: free,
            ws: free,
            secret: "openIM123".to_owned(),
            admins: vec!["imAdmin".to_owned()],
            multi_login_policy: MultiLogin::KickSamePlatform,
            gzip: true,
            record: true,
            record_limit: 10_000,
            token_lifetime: Duration::from_secs(90 * 24 * 3600),
            read_deadline: Duration::from_secs(30),
            ping_interval: Duration::from_secs(27),
            max_connections: 100_000,
            object_store: "http://127.0.0.1:10005/openim".to_owned(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("line", &self.line)
            .field("api", &self.api)
            .field("ws", &self.ws)
            .field("secret", &"***")
            .field("admins", &self.admins)
            .field("multi_login_policy", &self.multi_login_policy)
            .finish_non_exhaustive()
    }
}
