//! What stands in the file, value by value; nothing is compared with anything else yet.
//!
//! No type here has `Debug`: somebody may have written a secret where none belongs. The comments at types
//! and fields are what editors show, by the JSON Schema.

use std::path::PathBuf;

use imgate_filters::networks::{Network, WrittenNetworks};
use imgate_filters::rate_limit::Rate;
use imgate_filters::rules::{Bind, Platforms, Roles};
use imgate_filters::size::Size;
use imgate_filters::{Cause, Step};
use imgate_identity::key::KeyConfig;
use schemars::JsonSchema;
use serde::Deserialize;

use super::SecretSource;
use super::named::Named;
use super::percent::Percent;
use super::period::{Period, Timeout};
use super::spanned::Spanned;
use crate::front::tls::MinVersion;
use crate::route::Methods;

/// A configuration of imgate.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Where clients connect.
    pub(super) listeners: Spanned<Vec<Listener>>,
    /// Health and metrics. Keep it off public networks. Default: none.
    pub(super) admin: Option<Admin>,
    /// The URL by which clients reach this gateway: scheme, host, perhaps a port and a path. OpenIM puts it in
    /// front of links that are stored in messages for ever.
    pub(super) public_url: Spanned<String>,
    /// The hosts that a client may sign requests for. Default: the one of public_url.
    pub(super) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    /// How many threads serve. Default: as many as there are cores.
    pub(super) threads: Option<Spanned<usize>>,
    /// Whether a change of this file, or of a file it names, is taken up without SIGHUP. Default: false.
    #[serde(default)]
    pub(super) watch: bool,
    /// Bounds for every route; some can be set per route.
    #[serde(default)]
    pub(super) limits: Limits,
    /// Proxies in front that write X-Forwarded-For, and whose word on it counts. Default: none.
    pub(super) trusted_proxies: Option<Spanned<WrittenNetworks>>,
    /// Whose web pages may read answers; the filter `cors` gives a chain another policy.
    pub(super) cors: Option<Spanned<imgate_filters::cors::Config>>,
    /// The access log.
    #[serde(default)]
    pub(super) access_log: AccessLog,
    /// Who a caller is, and where that is known.
    pub(super) identity: Identity,
    /// Where requests go: servers, by a name for routes.
    pub(super) upstreams: Spanned<Named<String, Upstream>>,
    /// What a request passes, top to bottom: filters, by a name for routes.
    #[serde(default)]
    pub(super) chains: Named<String, Vec<Spanned<Step>>>,
    /// What refusals look like: a cause, and its status and errCode.
    #[serde(default)]
    pub(super) errors: Named<Cause, Spanned<Answer>>,
    /// Which request takes which way.
    pub(super) routes: Spanned<Vec<Spanned<Route>>>,
}

/// Where clients connect.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    /// By which routes can be tied to this listener. Default: none.
    pub(super) name: Option<Spanned<String>>,
    /// An IP address and a port, as in 0.0.0.0:8080.
    pub(super) address: Spanned<String>,
    /// The mode of the file of a Unix socket. Default: 0660.
    #[schemars(extend("type" = ["string", "integer", "null"]))]
    pub(super) mode: Option<Spanned<String>>,
    /// TLS. Default: none.
    pub(super) tls: Option<Spanned<Tls>>,
    /// Whether HTTP/2 is spoken with whoever knows it. Default: false.
    pub(super) http2: Option<Spanned<bool>>,
    /// A load balancer in front that speaks the PROXY protocol. Default: none.
    pub(super) proxy_protocol: Option<Spanned<ProxyProtocol>>,
}

/// TLS: `certificate` and `key`, or `certificates`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// A file: the server's certificate first, then those between it and the authority.
    pub(super) certificate: Option<Spanned<PathBuf>>,
    /// The file of its key.
    pub(super) key: Option<Spanned<PathBuf>>,
    /// Several pairs; a client gets the one for the name it asks for, else the first.
    pub(super) certificates: Option<Spanned<Vec<CertificatePair>>>,
    /// Who vouches for clients. Default: none.
    pub(super) client_ca: Option<Spanned<PathBuf>>,
    /// Whether clients must show a certificate. Default: required where there is a client_ca.
    pub(super) client_auth: Option<Spanned<ClientAuth>>,
    /// The oldest version that is spoken. Default: 1.2.
    pub(super) min_version: Option<MinVersion>,
    /// How long a handshake may take. Default: 5s.
    pub(super) handshake_timeout: Option<Timeout>,
}

/// A certificate and its key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificatePair {
    /// A file: the server's certificate first, then those between it and the authority.
    pub(super) certificate: Spanned<PathBuf>,
    /// The file of its key.
    pub(super) key: Spanned<PathBuf>,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientAuth {
    /// They are not asked.
    Off,
    /// They may; what they show must be good.
    Optional,
    /// They must.
    Required,
}

/// The PROXY protocol, version 1 or 2, before TLS.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyProtocol {
    /// Who may connect, and must begin with a header.
    pub(super) from: Vec<Network>,
    /// How long the header may take. Default: 5s.
    pub(super) timeout: Option<Timeout>,
}

/// Where health and metrics are served.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// An IP address and a port, as in 127.0.0.1:9090.
    pub(super) address: Spanned<String>,
}

/// Bounds for every route.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    /// Until the answer begins; OpenIM's clients give up after 10 s. Default: 9s.
    pub(super) request_timeout: Option<Spanned<Timeout>>,
    /// Until a client sends the next piece of a body, or reads one of an answer. Default: 30s.
    pub(super) client_timeout: Option<Timeout>,
    /// How long an idle connection of a client is kept. Default: 60s.
    pub(super) keepalive_timeout: Option<Timeout>,
    /// How many requests a connection carries; then a client connects anew. Default: 10000.
    pub(super) requests_per_connection: Option<Spanned<u32>>,
    /// Bounds on the head of a request; what is larger is refused with 431 or 414, what is slower with 408.
    pub(super) head: Head,
    /// How long what is under way may take to end when the gateway stops. Default: 20s.
    pub(super) drain_timeout: Option<Timeout>,
    /// How long a new binary may take to be ready before the old one goes on alone. Default: 30s.
    pub(super) upgrade_timeout: Option<Timeout>,
    /// The largest body that is taken whole, at most 8MiB. Default: 64KiB.
    pub(super) body: Option<Spanned<Size>>,
    /// The most of an answer that is held in memory; beyond it an answer flows. Default: 1MiB.
    pub(super) hold: Option<Spanned<Size>>,
    /// How many connections clients may have; more are closed. Default: half of the descriptors that may be open.
    pub(super) connections: Option<Spanned<usize>>,
    /// How many one address may have, or one IPv6 network of 64 bits. Default: no bound.
    pub(super) connections_per_address: Option<Spanned<usize>>,
    /// When requests are refused because tasks wait too long for a thread.
    pub(super) shed: Shed,
    /// How many TLS handshakes begin. Default: no bound.
    pub(super) handshakes: Option<Handshakes>,
}

/// How fast new ones may begin.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Handshakes {
    /// How many may go on coming.
    pub(super) rate: Rate,
    /// How many may come at once.
    pub(super) burst: Spanned<u32>,
    /// Whoever would wait for longer is closed at once. Default: 2s.
    pub(super) wait: Option<Spanned<Period>>,
}

/// When requests are refused because the gateway is too busy for them.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Shed {
    /// How long tasks may wait; 0s for never. Default: 100ms.
    pub(super) target: Option<Spanned<Period>>,
    /// For how long without a break they have to. Default: 100ms.
    pub(super) interval: Option<Spanned<Timeout>>,
}

/// Bounds on the head of a request.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Head {
    /// From its first byte to its last. Default: 5s.
    pub(super) timeout: Option<Timeout>,
    /// The whole of it. Default: 32KiB.
    pub(super) size: Option<Spanned<Size>>,
    /// One header. Default: 8KiB.
    pub(super) line: Option<Spanned<Size>>,
    /// Path and query. Default: 8KiB.
    pub(super) target: Option<Spanned<Size>>,
    /// How many headers. Default: 100.
    pub(super) headers: Option<Spanned<usize>>,
}

/// The access log.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AccessLog {
    /// Where it goes: stdout, stderr, off, or a file. Default: stdout.
    pub(super) output: Output,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Output {
    #[default]
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere.
    Off,
    /// This file; it is opened anew at a reload.
    File(PathBuf),
}

/// Who a caller is, and where that is known.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// Where sessions, tokens and bans come from.
    pub(super) store: Store,
    /// Whether a store must bear its mark to be believed. Default: required.
    #[serde(default)]
    pub(super) store_mark: StoreMark,
    /// The keys of records in the store.
    pub(super) keys: Option<Spanned<KeyConfig>>,
    /// OpenIM's administrators; no user's request may act as one of them. Default: [imAdmin].
    pub(super) admin_users: Option<Vec<Spanned<String>>>,
    /// How much is remembered of the store, and for how long.
    #[serde(default)]
    pub(super) cache: Cache,
    /// The key of X-Imgate-Assertion (Ed25519, PKCS#8 in PEM), for the filter assert_identity. Default: none.
    pub(super) assertion_key: Option<Spanned<SecretSource>>,
    /// Keys that seal the secrets of sessions, one per line. Default: none, and secrets are plain.
    pub(super) seal_keys: Option<Spanned<SecretSource>>,
    /// Take sessions that are not sealed, too. Default: false.
    pub(super) accept_plain: Option<Spanned<bool>>,
}

/// Where sessions, tokens and bans come from.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Store {
    /// Redis, tracked for changes.
    Redis(Box<Redis>),
    /// Redis servers of which one is the master, found through Sentinel.
    Sentinel(Box<Sentinel>),
    /// A Redis Cluster.
    Cluster(Box<Cluster>),
    /// A store inside the gateway.
    Memory(Memory),
}

/// A store inside the gateway, which is empty at first and forgets.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {}

/// A Redis server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Redis {
    /// As in redis://[user@]host:port/database, without a password.
    pub(super) url: Spanned<String>,
    /// Where the password is. Default: none.
    pub(super) password: Option<Spanned<SecretSource>>,
    /// TLS to it, for a URL that begins with rediss://.
    pub(super) tls: Option<Spanned<StoreTls>>,
    /// How long a request waits for an answer. Default: 100ms.
    pub(super) timeout: Option<Timeout>,
    /// How long a connection may take to open. Default: 500ms.
    pub(super) connect_timeout: Option<Timeout>,
    /// Who waits for a turn to read Redis, and for how long.
    #[serde(default)]
    pub(super) lookups: Lookups,
    /// How a new link proves that changes are announced on it. Default: canary.
    #[serde(default)]
    pub(super) proof: Proof,
}

/// Who waits for a turn to read Redis, and for how long.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Lookups {
    /// How many read at once. Default: 1024.
    pub(super) concurrent: Option<Spanned<usize>>,
    /// How many wait. Default: 16384.
    pub(super) queue: Option<usize>,
    /// For how long, at most 10s. Default: 1s.
    pub(super) wait: Option<Spanned<Period>>,
    /// How many begin; a new caller takes two. Default: no bound.
    pub(super) rate: Option<Spanned<Rate>>,
    /// How many begin at once; goes with rate.
    pub(super) burst: Option<Spanned<u32>>,
}

/// Redis servers of which one is the master, found through Sentinel.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sentinel {
    /// The name by which Sentinel knows the master.
    pub(super) master: Spanned<String>,
    /// The Sentinels.
    pub(super) sentinels: Sentinels,
    /// The number of the database. Default: 0.
    #[serde(default)]
    pub(super) database: u32,
    /// The ACL user. Default: the default one.
    pub(super) user: Option<Spanned<String>>,
    /// Where the password is. Default: none.
    pub(super) password: Option<Spanned<SecretSource>>,
    /// TLS to them. Default: none.
    pub(super) tls: Option<Spanned<StoreTls>>,
    /// How long a request waits for an answer. Default: 100ms.
    pub(super) timeout: Option<Timeout>,
    /// How long a connection may take to open. Default: 500ms.
    pub(super) connect_timeout: Option<Timeout>,
    /// Who waits for a turn to read Redis, and for how long.
    #[serde(default)]
    pub(super) lookups: Lookups,
    /// How a new link proves that changes are announced on it. Default: canary.
    #[serde(default)]
    pub(super) proof: Proof,
}

/// Those who know the master.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sentinels {
    /// Where they are, as in 10.0.0.1:26379.
    pub(super) addresses: Spanned<Vec<Spanned<String>>>,
    /// The ACL user. Default: the default one.
    pub(super) user: Option<Spanned<String>>,
    /// Where the password is. Default: none.
    pub(super) password: Option<Spanned<SecretSource>>,
    /// TLS to them. Default: none.
    pub(super) tls: Option<Spanned<StoreTls>>,
}

/// A Redis Cluster.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    /// Some of its nodes, as in 10.0.0.1:6379; the others are learned.
    pub(super) nodes: Spanned<Vec<Spanned<String>>>,
    /// The ACL user. Default: the default one.
    pub(super) user: Option<Spanned<String>>,
    /// Where the password is. Default: none.
    pub(super) password: Option<Spanned<SecretSource>>,
    /// TLS to them. Default: none.
    pub(super) tls: Option<Spanned<StoreTls>>,
    /// How long a request waits for an answer. Default: 100ms.
    pub(super) timeout: Option<Timeout>,
    /// How long a connection may take to open. Default: 500ms.
    pub(super) connect_timeout: Option<Timeout>,
    /// Who waits for a turn to read Redis, and for how long.
    #[serde(default)]
    pub(super) lookups: Lookups,
    /// How a new link proves that changes are announced on it. Default: canary.
    #[serde(default)]
    pub(super) proof: Proof,
}

/// TLS to Redis.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreTls {
    /// The authorities that may vouch for it. Default: those of the system.
    pub(super) ca: Option<Spanned<PathBuf>>,
    /// The certificate by which the gateway proves itself.
    pub(super) certificate: Option<Spanned<PathBuf>>,
    /// The key of that certificate.
    pub(super) key: Option<Spanned<SecretSource>>,
    /// The name in the certificate. Default: the host.
    pub(super) server_name: Option<Spanned<String>>,
}

/// How a new link proves that changes are announced on it.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Proof {
    /// By a key that is written and must be announced.
    #[default]
    Canary,
    /// By what the server says of the link; for users who may not write.
    Info,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoreMark {
    #[default]
    /// Without its mark a store counts as flushed or as the wrong one.
    Required,
    /// Any store is trusted.
    Off,
}

/// What is remembered of the store.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cache {
    /// How many sessions, and as many users. Default: 1000000.
    pub(super) entries: Option<Spanned<usize>>,
    /// How long at most, though Redis announces every change. Default: 60s.
    pub(super) ttl: Option<Timeout>,
    /// How long it is remembered that there is none. Default: 2s.
    pub(super) negative_ttl: Option<Period>,
    /// How long entries serve while Redis is away; 0s for not at all. Default: 10s.
    pub(super) stale_grace: Option<Period>,
}

/// A group of servers that answer alike.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    /// Hosts with their ports, as in 127.0.0.1:10002.
    pub(super) servers: Spanned<Vec<Spanned<String>>>,
    /// TLS to the servers. Default: none.
    pub(super) tls: Option<Spanned<UpstreamTls>>,
    /// How long a connection may take to open, with TLS until hands are shaken. Default: 1500ms.
    pub(super) connect_timeout: Option<Timeout>,
    /// How long a server may be silent before its answer. Default: read_timeout.
    pub(super) first_byte_timeout: Option<Timeout>,
    /// How long it may be silent within its answer. Default: 8s.
    pub(super) read_timeout: Option<Timeout>,
    /// How long a connection is kept for reuse. Default: 50s.
    pub(super) idle_timeout: Option<Timeout>,
    /// The same for a request that must not be sent twice; 0s for new connections only. Default: 4s.
    pub(super) idle_timeout_unsafe: Option<Period>,
    /// How many are kept, per server. Default: 256.
    pub(super) keepalive: Option<usize>,
    /// Who gets a request. Default: least_loaded.
    #[serde(default)]
    pub(super) balance: Balance,
    /// How names of servers are looked up.
    #[serde(default)]
    pub(super) resolve: Resolve,
    /// What servers are asked from time to time. Default: nothing.
    pub(super) health_check: Option<Spanned<HealthCheck>>,
    /// The errCodes with which a server says that it is at fault itself. Default: [4, 13, 14, 500].
    pub(super) failure_codes: Option<Vec<i64>>,
    /// When a server is left out for a while.
    #[serde(default)]
    pub(super) eject: Eject,
    /// When requests are refused at once.
    #[serde(default)]
    pub(super) breaker: Breaker,
    /// How much may be tried again.
    #[serde(default)]
    pub(super) retries: Retries,
    /// How long a server that comes back takes to get its full share. Default: 10s.
    pub(super) slow_return: Option<Period>,
}

/// TLS to servers; their certificates are always checked.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamTls {
    /// The file of the authorities. Default: the system's.
    pub(super) ca: Option<PathBuf>,
    /// The name in the certificate. Default: the host of each server.
    pub(super) server_name: Option<String>,
    /// How the gateway proves itself. Default: not at all.
    pub(super) certificate: Option<PathBuf>,
    /// The file of its key.
    pub(super) key: Option<PathBuf>,
}

/// Which server gets a request.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Balance {
    /// The less loaded of two random servers.
    #[default]
    LeastLoaded,
    /// The server that a key belongs to.
    Hash(HashKey),
}

/// Whose key a server belongs to.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum HashKey {
    /// The calling user.
    User,
    /// The client's address.
    Address,
    /// The value of this header.
    Header(Spanned<String>),
}

/// How names of servers are looked up, in the background.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Resolve {
    /// How often, at least 1s apart. Default: 30s.
    pub(super) every: Option<Spanned<Timeout>>,
    /// How long it may take. Default: 5s.
    pub(super) timeout: Option<Timeout>,
    /// Whether a name without an address keeps the gateway from starting. Default: true.
    pub(super) strict: Option<bool>,
}

/// What servers are asked from time to time; one that fails gets no requests, unless all fail.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthCheck {
    /// What is asked.
    pub(super) ask: Ask,
    /// How often. Default: 5s.
    pub(super) interval: Option<Spanned<Timeout>>,
    /// How long the answer may take. Default: 2s.
    pub(super) timeout: Option<Spanned<Timeout>>,
    /// After how many failures a server is left out. Default: 3.
    pub(super) unhealthy_after: Option<Spanned<u32>>,
    /// After how many answers it is back. Default: 2.
    pub(super) healthy_after: Option<Spanned<u32>>,
}

/// What a server is asked.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// OpenIM's API: what it makes of a text that is no token.
    OpenimApi,
    /// OpenIM's message gateway: a handshake without a token.
    OpenimSocket,
    /// This path, by GET: any answer of 2xx or 3xx.
    Http(Spanned<String>),
    /// Nothing: that it accepts a connection is enough.
    Tcp,
}

/// When a server is left out for a while.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Eject {
    /// Whether it is done at all. Default: true.
    pub(super) enabled: Option<bool>,
    /// How many requests have to fail. Default: 5.
    pub(super) failures: Option<Spanned<u32>>,
    /// Of how many users. Default: 3.
    pub(super) users: Option<Spanned<usize>>,
    /// Which share of all. Default: 50%.
    pub(super) share: Option<Percent>,
    /// Within which time. Default: 10s.
    pub(super) within: Option<Timeout>,
    /// For how long, at first. Default: 10s.
    pub(super) pause: Option<Spanned<Timeout>>,
    /// For how long at most. Default: 5m.
    pub(super) longest_pause: Option<Timeout>,
    /// Which share of the servers at most. Default: 50%.
    pub(super) at_most: Option<Percent>,
}

/// When requests are refused at once.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Breaker {
    /// Whether it is done at all. Default: true.
    pub(super) enabled: Option<bool>,
    /// How many requests have to fail. Default: 20.
    pub(super) failures: Option<Spanned<u32>>,
    /// Of how many users. Default: 3.
    pub(super) users: Option<Spanned<usize>>,
    /// Which share of all. Default: 80%.
    pub(super) share: Option<Percent>,
    /// Within which time. Default: 10s.
    pub(super) within: Option<Timeout>,
    /// How long until one is on trial. Default: 1s.
    pub(super) pause: Option<Spanned<Timeout>>,
    /// How long at most. Default: 5s.
    pub(super) longest_pause: Option<Timeout>,
}

/// How much may be tried again, on whatever ground.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retries {
    /// A share of what went well. Default: 20%.
    pub(super) share: Option<Percent>,
    /// A little in any case, per second. Default: 10.
    pub(super) per_second: Option<u32>,
}

/// What a refusal looks like.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: Option<u16>,
    /// OpenIM's errCode. 1501 to 1507 log the user out, so they are for verdicts on the user alone.
    #[serde(rename = "errCode")]
    pub(super) err_code: Option<u32>,
}

/// A way for requests: exactly one of `path`, `prefix` and `table`, and exactly one of `upstream` and `websocket`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    /// This path.
    pub(super) path: Option<Spanned<String>>,
    /// This path and all below it.
    pub(super) prefix: Option<Spanned<String>>,
    /// The paths of that file.
    pub(super) table: Option<Spanned<PathBuf>>,
    /// A place for the whole table, which the upstream never sees. Default: none.
    pub(super) at: Option<Spanned<String>>,
    /// The listeners that alone have it, by their names. Default: all.
    pub(super) listeners: Option<Spanned<Vec<Spanned<String>>>>,
    /// The hosts it is tied to, without a port. Default: any.
    pub(super) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    /// The methods it takes. Default: all of them; for a table what the table says.
    pub(super) methods: Option<Spanned<Vec<Method>>>,
    /// The upstream that gets its requests.
    pub(super) upstream: Option<Spanned<String>>,
    /// The upstream that gets its WebSockets.
    pub(super) websocket: Option<Spanned<String>>,
    /// The filters that its requests pass. Default: none.
    pub(super) chain: Option<Spanned<String>>,
    /// Whether anybody may call it. Default: false.
    #[serde(default)]
    pub(super) public: bool,
    /// Whether bytes flow as they come, so that no filter can read the body. Default: false.
    pub(super) stream: Option<Spanned<bool>>,
    /// Whether the path is a name of an object in S3, which may be any text. Default: false.
    pub(super) object_names: Option<Spanned<bool>>,
    /// Whether a POST may be sent again if its connection breaks before an answer. Default: false.
    pub(super) replay_safe: Option<Spanned<bool>>,
    /// How long a request may take before its answer begins. Default: limits.request_timeout.
    pub(super) timeout: Option<Spanned<Timeout>>,
    /// How long no byte may pass on a WebSocket. Default: 120s.
    pub(super) idle_timeout: Option<Spanned<Timeout>>,
    /// The largest body. Default: limits.body; none if it streams.
    pub(super) max_body: Option<Spanned<Size>>,
    /// Which fields of the body are the caller.
    pub(super) bind: Option<Spanned<Bind>>,
    /// Which roles an admin needs.
    pub(super) roles: Option<Spanned<Roles>>,
    /// The kinds of device that may call. Default: all.
    pub(super) platforms: Option<Spanned<Platforms>>,
}

/// A method that a route can take.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// The set of this method alone.
    pub(super) fn set(self) -> Methods {
        Methods::of(&match self {
            Self::Get => http::Method::GET,
            Self::Head => http::Method::HEAD,
            Self::Post => http::Method::POST,
            Self::Put => http::Method::PUT,
            Self::Patch => http::Method::PATCH,
            Self::Delete => http::Method::DELETE,
        })
    }
}
