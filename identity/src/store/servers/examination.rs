//! What an operator should know of the servers that hold records, asked once on connections of its own.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::{AsyncConnectionConfig, Cmd, RedisError, Value};

use super::topology::Server;
use super::{Fleet, Shared, tag};
use crate::key::Keys;
use crate::store::Unavailable;
use crate::store::address::Address;

/// What a server says of itself. A field is missing where it does not tell us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Where it is.
    pub address: Address,
    /// Whether it bears its mark.
    pub is_marked: bool,
    /// Its clock, since the Unix epoch.
    pub time: Option<Duration>,
    /// The version.
    pub version: Option<Box<str>>,
    /// Whether it is a replica, which loses what is written to it.
    pub is_replica: bool,
    /// What it removes when memory runs out, by Redis's name of the policy.
    pub eviction: Option<Box<str>>,
    /// The most memory it takes, in bytes; 0 for no limit.
    pub max_memory: Option<u64>,
    /// Whether it keeps an append-only file.
    pub appends: Option<bool>,
    /// When it writes snapshots, as its `save` says; nothing there for never.
    pub snapshots: Option<Box<str>>,
}

impl Fleet {
    /// Asks every server that holds records.
    ///
    /// # Errors
    /// It is not known which they are, or one cannot be asked.
    pub(in crate::store) async fn examine(&self, keys: &Keys) -> Result<Vec<ServerInfo>, Unavailable> {
        let view = self.shared.discover().await?;
        try_join_all(view.servers().iter().map(|server| examine(&self.shared, server, keys))).await
    }
}

async fn examine(shared: &Shared, server: &Server, keys: &Keys) -> Result<ServerInfo, Unavailable> {
    let patience = Some(shared.target.connect_timeout);
    let config = AsyncConnectionConfig::new().set_response_timeout(patience);
    let mut wire = shared.target.dialer.open(&server.address, config).await?;
    let mut ask = async |command: &mut Cmd| command.query_async::<Value>(&mut wire.commands).await;
    let mark = keys.store_mark_in(server.slot.map(tag));
    let is_marked = ask(redis::cmd("EXISTS").arg(mark)).await.map_err(|error| Unavailable::from(&error))?;
    let mut info = ServerInfo {
        address: server.address.clone(),
        is_marked: matches!(is_marked, Value::Int(count) if count > 0),
        time: None,
        version: None,
        is_replica: false,
        eviction: None,
        max_memory: None,
        appends: None,
        snapshots: None,
    };
    // This user may not be allowed to ask the rest, and need not be.
    info.time = allowed(ask(&mut redis::cmd("TIME")).await)?.and_then(time);
    if let Some(Value::VerbatimString { text, .. }) = allowed(ask(&mut redis::cmd("INFO")).await)? {
        info.read(&text);
    }
    let save = allowed(ask(redis::cmd("CONFIG").arg("GET").arg("save")).await)?;
    let save = save.and_then(|save| redis::from_redis_value::<HashMap<String, String>>(save).ok());
    info.snapshots = save.and_then(|mut save| save.remove("save")).map(Into::into);
    Ok(info)
}

/// The answer, if the server gives us one.
fn allowed(answer: Result<Value, RedisError>) -> Result<Option<Value>, Unavailable> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_io_error() || error.is_unrecoverable_error() => Err(Unavailable::from(&error)),
        Err(_) => Ok(None),
    }
}

fn time(answer: Value) -> Option<Duration> {
    let (seconds, micros) = redis::from_redis_value::<(u64, u32)>(answer).ok()?;
    Some(Duration::from_secs(seconds) + Duration::from_micros(micros.into()))
}

impl ServerInfo {
    /// Reads what `INFO` prints: a name, a colon and a value on each line.
    fn read(&mut self, text: &str) {
        for (name, value) in text.lines().filter_map(|line| line.trim_end().split_once(':')) {
            match name {
                "redis_version" | "valkey_version" => self.version = Some(value.into()),
                "role" => self.is_replica = value == "slave",
                "maxmemory_policy" => self.eviction = Some(value.into()),
                "maxmemory" => self.max_memory = value.parse().ok(),
                "aof_enabled" => self.appends = Some(value == "1"),
                _ => {}
            }
        }
    }
}
