//! What the tests stand on: a real gateway process, a stand-in for OpenIM, a Redis of their own, and a
//! client that says exactly which bytes are sent.

pub(crate) mod certificates;
mod client;
#[path = "../../../identity/tests/support/cluster.rs"]
pub(crate) mod cluster;
pub(crate) mod command;
pub(crate) mod fault_proxy;
mod gateway;
pub(crate) mod leaks;
mod people;
#[path = "../../../identity/tests/support/proxy.rs"]
pub(crate) mod proxy;
#[path = "../../../identity/tests/support/redis_server.rs"]
mod redis_server;
#[path = "../../../identity/tests/support/sentinel.rs"]
pub(crate) mod sentinel;
mod upstream;
mod wait;
pub(crate) mod ws;

pub(crate) use self::client::{Client, Reply, Sent};
pub(crate) use self::gateway::{Gateway, HOST, Setup};
pub(crate) use self::people::Person;
pub(crate) use self::people::writer;
pub(crate) use self::redis_server::RedisServer;
pub(crate) use self::upstream::{Act, Closed, Got, Upstream, ok};
pub(crate) use self::wait::{eventually, within};
