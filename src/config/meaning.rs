//! What a configuration says: every name known, every value in its type, every default filled in.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use imgate_filters::folder::Folder;
use imgate_filters::reject::Answers;
use imgate_filters::{Rules, cors};
use imgate_identity::assertion::AssertionKey;
use imgate_identity::store::{CacheConfig, Layout, RedisConfig};
use imgate_identity::user::UserId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::Fault;
use super::outline::Outline;
use super::public_url::PublicUrl;
use super::source::Mark;
use crate::admission::{Pace, ShedTerms};
use crate::front::address::{Address, FileMode};
use crate::front::guard::HeadLimits;
use crate::front::proxy_protocol::ProxyProtocol;
use crate::front::tls;
use crate::front::trusted::TrustedProxies;
use crate::route::{Methods, Pattern, Table};
use crate::{access_log, upstream};

/// A whole configuration.
#[derive(Debug)]
pub struct Config {
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
    /// Where health and metrics are served.
    pub admin: Option<SocketAddr>,
    /// The URL by which clients know the gateway.
    pub public_url: PublicUrl,
    /// The hosts that clients may sign for, in lower case and without the default port.
    pub hosts: Vec<Box<str>>,
    /// How many threads serve.
    pub threads: usize,
    /// Bounds that hold for every route.
    pub limits: Limits,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// The cross-origin policy of routes whose chain has none.
    pub cors: cors::Policy,
    /// Where the access log goes.
    pub access_log: access_log::Output,
    /// Who a caller is, and where that is known.
    pub identity: Identity,
    /// The upstreams, in the order of the file.
    pub upstreams: Vec<Upstream>,
    /// The chains, in the order of the file.
    pub chains: Vec<Chain>,
    /// What refusals look like.
    pub answers: Answers,
    /// The routes; each path of a table is one of its own.
    pub routes: Table<Arc<Route>>,
    /// What tables leave out on purpose, in the order of the files.
    pub closed: Vec<Closed>,
    /// Where it, and the files that it names, were read.
    pub base: Folder,
    /// Whether a change of its files is taken up without a word from outside.
    pub watch: bool,
    /// What stands in the file, to tell what a reload changes.
    pub outline: Outline,
    /// What is not wrong but doubtful.
    pub warnings: Vec<Fault>,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// By which name routes know it, if it has one.
    pub name: Option<Arc<str>>,
    /// Its address.
    pub address: Address,
    /// The mode of its file, if it is a Unix socket.
    pub mode: FileMode,
    /// How it speaks TLS, if it does.
    pub tls: Option<tls::Settings>,
    /// Which load balancers say whose connections they relay, if they do.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Bounds that hold for every route that does not set its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a request may take before its answer begins.
    pub request_timeout: Duration,
    /// How long a client may take to send the next piece of a body or to read one of an answer.
    pub client_timeout: Duration,
    /// How large a request's head may be.
    pub head: HeadLimits,
    /// How long a request's head may take from its first byte to its last.
    pub head_timeout: Duration,
    /// How long an idle connection of a client is kept.
    pub keepalive_timeout: Duration,
    /// How many requests a client's connection may carry.
    pub requests_per_connection: u32,
    /// How long what is under way may take to end when the gateway stops.
    pub drain_timeout: Duration,
    /// How long a successor may take to be ready.
    pub upgrade_timeout: Duration,
    /// The largest body that is taken whole, in bytes.
    pub body: usize,
    /// The most of an answer that is held in memory, in bytes; beyond it an answer flows.
    pub hold: usize,
    /// How many connections clients may have; none for half of the descriptors that may be open.
    pub connections: Option<usize>,
    /// How many one address may have; none for no bound.
    pub connections_per_address: Option<usize>,
    /// When requests are refused because tasks wait for too long; none for never.
    pub shed: Option<ShedTerms>,
    /// How many TLS handshakes may begin, if that is bounded.
    pub handshakes: Option<Pace>,
}

/// Who a caller is, and where that is known.
#[derive(Debug)]
pub struct Identity {
    /// Where records come from.
    pub store: StoreSource,
    /// How they lie there: by which names, and sealed or not.
    pub layout: Layout,
    /// OpenIM's administrators.
    pub admin_users: HashSet<UserId>,
    /// How much is remembered, and for how long.
    pub cache: CacheConfig,
    /// The key that `assert_identity` signs with.
    pub assertion_key: Option<Arc<AssertionKey>>,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a configuration has one")]
pub enum StoreSource {
    /// Redis.
    Redis(RedisConfig),
    /// Nowhere: a store inside the process, which is empty at first.
    Memory,
}

/// A named group of servers.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// Its servers as they are written, with the addresses behind them; at least one.
    pub servers: Vec<upstream::Origin>,
    /// How they are reached.
    pub options: upstream::Options,
    /// Where it stands.
    pub mark: Mark,
}

/// A named list of filters.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its name.
    pub name: Arc<str>,
    /// Its filters, in order.
    pub steps: Vec<Step>,
    /// Where it stands.
    pub mark: Mark,
}

/// One filter of a chain.
#[derive(Clone, Debug)]
pub struct Step {
    /// The filter, as it is configured.
    pub step: imgate_filters::Step,
    /// Where it stands.
    pub mark: Mark,
}

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name in logs and metrics: its public path, with a star behind a prefix.
    pub name: Arc<str>,
    /// The names of the listeners that alone have it; none if all have.
    pub listeners: Vec<Arc<str>>,
    /// The hosts it is tied to; none for any.
    pub hosts: Vec<Box<str>>,
    /// The methods it takes.
    pub methods: Methods,
    /// The public paths it takes.
    pub pattern: Pattern,
    /// How much of the path's front stays here, in bytes.
    pub strip: usize,
    /// The name of its upstream.
    pub upstream: Arc<str>,
    /// The name of its chain.
    pub chain: Option<Arc<str>>,
    /// What it asks of the filters of its chain.
    pub rules: Rules,
    /// The table it stands in, as the configuration names it.
    pub table: Option<Arc<Path>>,
    /// The release line of OpenIM that alone has it; none if all have.
    pub line: Option<Line>,
    /// Whether it says that anybody may call it.
    pub public: bool,
    /// How its requests reach the upstream.
    pub mode: Mode,
    /// How long a request may take before its answer begins.
    pub timeout: Duration,
    /// Where it stands: for a path of a table, in the file of that table.
    pub mark: Mark,
    /// Which entry of `routes` it belongs to, as in `routes[2]`.
    pub place: Arc<str>,
    /// Where that entry stands.
    pub entry: Mark,
}

/// A path that a table leaves out on purpose. It routes nothing.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The path as the upstream knows it.
    pub path: Box<str>,
    /// The path that clients would use.
    pub public: Box<str>,
    /// Why it is left out.
    pub why: Box<str>,
    /// The release line of OpenIM that alone has it; none if all have.
    pub line: Option<Line>,
    /// The hosts its table is tied to; none for any.
    pub hosts: Vec<Box<str>>,
    /// The name of its table's upstream.
    pub upstream: Arc<str>,
    /// The table, as the configuration names it.
    pub table: Arc<Path>,
    /// Where in that file.
    pub mark: Mark,
    /// Which entry of `routes` the table belongs to, as in `routes[2]`.
    pub place: Arc<str>,
}

/// A line of OpenIM's releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The branch `main`.
    Development,
    /// The branch of the last stable release, v3.8.3-patch.
    Released,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Development => "development",
            Self::Released => "released",
        })
    }
}

/// What a stream takes for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// What every hop reads in the same way.
    Plain,
    /// Names of objects, escaped in any way, as long as they lead nowhere else in any reading.
    ObjectNames,
}

/// How a route's requests reach its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Whole request, whole answer.
    Exchange {
        /// The largest body taken, in bytes.
        max_body: usize,
        /// Whether a request may be sent twice whatever its method.
        replay_safe: bool,
    },
    /// Bytes as they come.
    Stream {
        /// The largest body taken, in bytes, if there is a limit.
        max_body: Option<u64>,
        /// What paths it takes.
        paths: Paths,
    },
    /// A WebSocket.
    Tunnel {
        /// How long no byte may pass.
        idle_timeout: Duration,
    },
}
