//! The configuration as an operator meets it: text in, meaning or a helpful error out.

mod admission;
mod changes;
mod conf;
mod listeners;
mod refused;
mod routes;
mod secrets;
mod store;
mod tables;
mod understood;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use imgate_filters::{Authorities, Deps, ReplayMemory};
use imgate_identity::key::Keys;
use imgate_identity::store::{CacheConfig, Memory, Store};
use imgate_identity::user::UserId;

use super::{Config, ConfigError};

const BASE: &str = r#"listeners: [{ address: 0.0.0.0:8080 }]
public_url: https://im.example.com
identity: { store: { memory: {} } }
upstreams:
  chat: { servers: ["127.0.0.1:10001"] }
chains:
  socket: [{ operation_id: {} }, { verify_socket: {} }]
routes:
  - { path: /ws, websocket: chat, chain: socket }
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "imgate.yaml", Path::new("/nonexistent"))
}

/// The base with one text replaced by another.
fn with(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from:?} stands once in the base");
    BASE.replace(from, to)
}

fn accepted(from: &str, to: &str) -> Config {
    parse(&with(from, to)).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(from: &str, to: &str) -> String {
    parse(&with(from, to)).expect_err(to).to_string()
}

/// A route appended to the base.
fn with_route(route: &str) -> String {
    format!("{BASE}  - {route}\n")
}

fn deps() -> Deps {
    Deps {
        store: Store::memory(Arc::new(Memory::new()), Keys::default(), CacheConfig::default()),
        authorities: Arc::new(Authorities::new(["im.example.com"], "https")),
        admin_users: Arc::new(HashSet::from([UserId::parse("imAdmin").unwrap()])),
        assertion_key: None,
        replays: Arc::new(ReplayMemory::default()),
        jwks: Arc::<crate::jwks::Feeds>::default(),
        rates: Arc::default(),
        base: Path::new("").into(),
        custom: Arc::default(),
    }
}
