//! A small OpenIM that answers as the real one does: its REST API and its message gateway, on loopback.
//!
//! It exists so that the gateway's demo, tests and benches meet OpenIM's wire contract, with its oddities and its
//! authorisation holes, without MongoDB, Redis or Kafka. What it does not do: persist anything, push messages on its
//! own, or decode the Go SDK's frames.
//!
//! Start with [`Standin::start`]; [`routes::ROUTES`] lists who may call what.

mod standin;

mod fault;
mod options;
mod record;
pub mod routes;

mod authorise;
mod endpoints;
mod rest;
mod token;
mod world;

mod frame;
mod gateway;
mod handshake;
mod socket;
mod sockets;

mod date;
mod envelope;
mod http;
mod incoming;
mod json;
mod query;
mod server;
mod shared;

pub use endpoints::object::KNOWN_OBJECT;
pub use fault::Answer;
pub use options::{Line, MultiLogin, Options};
pub use record::{Record, Server};
pub use socket::GO_KICK;
pub use standin::Standin;
pub use token::{ADMIN_PLATFORM, Claims, TokenState, sign};
