//! What stands in the file, value by value; nothing is compared with anything else yet.
//!
//! No type here has `Debug`: somebody may have written a secret where none belongs.

use std::path::PathBuf;

use imgate_filters::networks::{Network, WrittenNetworks};
use imgate_filters::rate_limit::Rate;
use imgate_filters::rules::{Bind, Platforms, Roles};
use imgate_filters::size::Size;
use imgate_filters::{Cause, Step};
use imgate_identity::key::KeyConfig;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::SecretSource;
use super::named::Named;
use super::percent::Percent;
use super::period::{Period, Timeout};
use crate::front::tls::MinVersion;
use crate::route::Methods;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) listeners: Spanned<Vec<Listener>>,
    pub(super) admin: Option<Admin>,
    pub(super) public_url: Spanned<String>,
    pub(super) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) threads: Option<Spanned<usize>>,
    #[serde(default)]
    pub(super) watch: bool,
    #[serde(default)]
    pub(super) limits: Limits,
    pub(super) trusted_proxies: Option<Spanned<WrittenNetworks>>,
    pub(super) cors: Option<Spanned<imgate_filters::cors::Config>>,
    #[serde(default)]
    pub(super) access_log: AccessLog,
    pub(super) identity: Identity,
    pub(super) upstreams: Spanned<Named<String, Upstream>>,
    #[serde(default)]
    pub(super) chains: Named<String, Vec<Spanned<Step>>>,
    #[serde(default)]
    pub(super) errors: Named<Cause, Spanned<Answer>>,
    pub(super) routes: Spanned<Vec<Spanned<Route>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub(super) name: Option<Spanned<String>>,
    pub(super) address: Spanned<String>,
    pub(super) mode: Option<Spanned<String>>,
    pub(super) tls: Option<Spanned<Tls>>,
    pub(super) http2: Option<Spanned<bool>>,
    pub(super) proxy_protocol: Option<Spanned<ProxyProtocol>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) certificate: Option<Spanned<PathBuf>>,
    pub(super) key: Option<Spanned<PathBuf>>,
    pub(super) certificates: Option<Spanned<Vec<CertificatePair>>>,
    pub(super) client_ca: Option<Spanned<PathBuf>>,
    pub(super) client_auth: Option<Spanned<ClientAuth>>,
    pub(super) min_version: Option<MinVersion>,
    pub(super) handshake_timeout: Option<Timeout>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificatePair {
    pub(super) certificate: Spanned<PathBuf>,
    pub(super) key: Spanned<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientAuth {
    Off,
    Optional,
    Required,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyProtocol {
    pub(super) from: Vec<Network>,
    pub(super) timeout: Option<Timeout>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) address: Spanned<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) request_timeout: Option<Spanned<Timeout>>,
    pub(super) client_timeout: Option<Timeout>,
    pub(super) keepalive_timeout: Option<Timeout>,
    pub(super) requests_per_connection: Option<Spanned<u32>>,
    pub(super) head: Head,
    pub(super) drain_timeout: Option<Timeout>,
    pub(super) upgrade_timeout: Option<Timeout>,
    pub(super) body: Option<Spanned<Size>>,
    pub(super) hold: Option<Spanned<Size>>,
    pub(super) connections: Option<Spanned<usize>>,
    pub(super) connections_per_address: Option<Spanned<usize>>,
    pub(super) shed: Shed,
    pub(super) handshakes: Option<Handshakes>,
}

/// How fast new ones may begin.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Handshakes {
    pub(super) rate: Rate,
    pub(super) burst: Spanned<u32>,
    pub(super) wait: Option<Spanned<Period>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Shed {
    pub(super) target: Option<Spanned<Period>>,
    pub(super) interval: Option<Spanned<Timeout>>,
}

/// Bounds on the head of a request.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Head {
    pub(super) timeout: Option<Timeout>,
    pub(super) size: Option<Spanned<Size>>,
    pub(super) line: Option<Spanned<Size>>,
    pub(super) target: Option<Spanned<Size>>,
    pub(super) headers: Option<Spanned<usize>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AccessLog {
    pub(super) output: Output,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Output {
    #[default]
    Stdout,
    Stderr,
    Off,
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub(super) store: Store,
    #[serde(default)]
    pub(super) store_mark: StoreMark,
    pub(super) keys: Option<Spanned<KeyConfig>>,
    pub(super) admin_users: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) cache: Cache,
    pub(super) assertion_key: Option<Spanned<SecretSource>>,
    pub(super) seal_keys: Option<Spanned<SecretSource>>,
    pub(super) accept_plain: Option<Spanned<bool>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Store {
    Redis(Box<Redis>),
    Sentinel(Box<Sentinel>),
    Cluster(Box<Cluster>),
    Memory(Memory),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redis {
    pub(super) url: Spanned<String>,
    pub(super) password: Option<Spanned<SecretSource>>,
    pub(super) tls: Option<Spanned<StoreTls>>,
    pub(super) timeout: Option<Timeout>,
    pub(super) connect_timeout: Option<Timeout>,
    #[serde(default)]
    pub(super) lookups: Lookups,
    #[serde(default)]
    pub(super) proof: Proof,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Lookups {
    pub(super) concurrent: Option<Spanned<usize>>,
    pub(super) queue: Option<usize>,
    pub(super) wait: Option<Spanned<Period>>,
    pub(super) rate: Option<Spanned<Rate>>,
    pub(super) burst: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sentinel {
    pub(super) master: Spanned<String>,
    pub(super) sentinels: Sentinels,
    #[serde(default)]
    pub(super) database: u32,
    pub(super) user: Option<Spanned<String>>,
    pub(super) password: Option<Spanned<SecretSource>>,
    pub(super) tls: Option<Spanned<StoreTls>>,
    pub(super) timeout: Option<Timeout>,
    pub(super) connect_timeout: Option<Timeout>,
    #[serde(default)]
    pub(super) lookups: Lookups,
    #[serde(default)]
    pub(super) proof: Proof,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sentinels {
    pub(super) addresses: Spanned<Vec<Spanned<String>>>,
    pub(super) user: Option<Spanned<String>>,
    pub(super) password: Option<Spanned<SecretSource>>,
    pub(super) tls: Option<Spanned<StoreTls>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) nodes: Spanned<Vec<Spanned<String>>>,
    pub(super) user: Option<Spanned<String>>,
    pub(super) password: Option<Spanned<SecretSource>>,
    pub(super) tls: Option<Spanned<StoreTls>>,
    pub(super) timeout: Option<Timeout>,
    pub(super) connect_timeout: Option<Timeout>,
    #[serde(default)]
    pub(super) lookups: Lookups,
    #[serde(default)]
    pub(super) proof: Proof,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreTls {
    pub(super) ca: Option<Spanned<PathBuf>>,
    pub(super) certificate: Option<Spanned<PathBuf>>,
    pub(super) key: Option<Spanned<SecretSource>>,
    pub(super) server_name: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Proof {
    #[default]
    Canary,
    Info,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoreMark {
    #[default]
    Required,
    Off,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cache {
    pub(super) entries: Option<Spanned<usize>>,
    pub(super) ttl: Option<Timeout>,
    pub(super) negative_ttl: Option<Period>,
    pub(super) stale_grace: Option<Period>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) servers: Spanned<Vec<Spanned<String>>>,
    pub(super) tls: Option<Spanned<UpstreamTls>>,
    pub(super) connect_timeout: Option<Timeout>,
    pub(super) first_byte_timeout: Option<Timeout>,
    pub(super) read_timeout: Option<Timeout>,
    pub(super) idle_timeout: Option<Timeout>,
    pub(super) idle_timeout_unsafe: Option<Period>,
    pub(super) keepalive: Option<usize>,
    #[serde(default)]
    pub(super) balance: Balance,
    #[serde(default)]
    pub(super) resolve: Resolve,
    pub(super) health_check: Option<Spanned<HealthCheck>>,
    pub(super) failure_codes: Option<Vec<i64>>,
    #[serde(default)]
    pub(super) eject: Eject,
    #[serde(default)]
    pub(super) breaker: Breaker,
    #[serde(default)]
    pub(super) retries: Retries,
    pub(super) slow_return: Option<Period>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamTls {
    pub(super) ca: Option<PathBuf>,
    pub(super) server_name: Option<String>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Balance {
    #[default]
    LeastLoaded,
    Hash(HashKey),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HashKey {
    User,
    Address,
    Header(Spanned<String>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Resolve {
    pub(super) every: Option<Spanned<Timeout>>,
    pub(super) timeout: Option<Timeout>,
    pub(super) strict: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthCheck {
    pub(super) ask: Ask,
    pub(super) interval: Option<Spanned<Timeout>>,
    pub(super) timeout: Option<Spanned<Timeout>>,
    pub(super) unhealthy_after: Option<Spanned<u32>>,
    pub(super) healthy_after: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    OpenimApi,
    OpenimSocket,
    Http(Spanned<String>),
    Tcp,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Eject {
    pub(super) enabled: Option<bool>,
    pub(super) failures: Option<Spanned<u32>>,
    pub(super) users: Option<Spanned<usize>>,
    pub(super) share: Option<Percent>,
    pub(super) within: Option<Timeout>,
    pub(super) pause: Option<Spanned<Timeout>>,
    pub(super) longest_pause: Option<Timeout>,
    pub(super) at_most: Option<Percent>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Breaker {
    pub(super) enabled: Option<bool>,
    pub(super) failures: Option<Spanned<u32>>,
    pub(super) users: Option<Spanned<usize>>,
    pub(super) share: Option<Percent>,
    pub(super) within: Option<Timeout>,
    pub(super) pause: Option<Spanned<Timeout>>,
    pub(super) longest_pause: Option<Timeout>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retries {
    pub(super) share: Option<Percent>,
    pub(super) per_second: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) status: Option<u16>,
    #[serde(rename = "errCode")]
    pub(super) err_code: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) path: Option<Spanned<String>>,
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) table: Option<Spanned<PathBuf>>,
    pub(super) at: Option<Spanned<String>>,
    pub(super) listeners: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) methods: Option<Spanned<Vec<Method>>>,
    pub(super) upstream: Option<Spanned<String>>,
    pub(super) websocket: Option<Spanned<String>>,
    pub(super) chain: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) public: bool,
    pub(super) stream: Option<Spanned<bool>>,
    pub(super) object_names: Option<Spanned<bool>>,
    pub(super) replay_safe: Option<Spanned<bool>>,
    pub(super) timeout: Option<Spanned<Timeout>>,
    pub(super) idle_timeout: Option<Spanned<Timeout>>,
    pub(super) max_body: Option<Spanned<Size>>,
    pub(super) bind: Option<Spanned<Bind>>,
    pub(super) roles: Option<Spanned<Roles>>,
    pub(super) platforms: Option<Spanned<Platforms>>,
}

/// A method that a route can take.
#[derive(Clone, Copy, Deserialize)]
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
