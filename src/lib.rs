//! imgate, the edge gateway in front of OpenIM.
//!
//! The straight line of a request is also the reading order: [`front`] accepts a connection, Pingora
//! parses the head, [`admission`] refuses what is too much, [`proxy`] finds the route ([`route`]), runs its chain (crate `imgate-filters`) and
//! takes one of three ways to an [`upstream`]: [`exchange`] (small and whole), Pingora's own stream, or
//! [`tunnel`] (WebSocket). [`answer`] is what comes back, [`reply`] what we say ourselves. [`config`]
//! is what was written, [`gateway`] what it means, [`server`] what runs.
//!
//! # Filters of your own
//!
//! [`Builder`] makes a binary that is `imgate` and knows your filters too. A filter is a type that
//! implements [`filters::Filter`]: it sees the request's headers, the facts that filters before it wrote
//! ([`filters::Context`]) and, if it asks, the body, and lets through, answers or refuses. The
//! [`prelude`] has what that takes. `examples/own_filter.rs` is a whole one with its configuration:
//!
//! ```sh
//! cargo run --example own_filter -- check -c examples/own_filter.yaml
//! ```
//!
//! - What it needs to know it declares: facts it [reads](filters::Filter::reads) and
//!   [writes](filters::Filter::writes), whether it reads the [body](filters::Filter::body). A chain in
//!   which that does not work out does not load.
//! - A refusal is a [`filters::Cause`] and a word for the log; one place turns it into OpenIM's envelope.
//!   No text from the request belongs into the word.
//! - A filter that does nothing but refuse may say [`filters::Shadow::Allowed`]; then `shadow: true` in
//!   the YAML has it count and log what it would have refused. It need not do anything for that.
//! - It keeps no socket and no global; what outlives a reload comes in through what it was made with.

pub mod config;

pub mod gateway;

pub mod wire;

pub mod front;

pub mod admission;
pub mod handover;

pub mod proxy;

pub mod route;

pub mod operation;

pub mod forward;

pub mod upstream;

pub mod exchange;

pub mod tunnel;

pub mod envelope;

pub mod answer;

pub mod reply;

pub mod access_log;

pub mod jwks;

pub mod metrics;

pub mod admin;

pub mod server;

pub mod cli;

pub mod builder;

pub use imgate_filters as filters;
pub use imgate_identity as identity;
pub use {http, pingora_http};

pub use crate::builder::Builder;

/// What it takes to write a filter.
pub mod prelude {
    pub use async_trait::async_trait;
    pub use http::{HeaderName, HeaderValue, StatusCode};
    pub use imgate_filters::context::{Caller, Context, Fact};
    pub use imgate_filters::reject::{Cause, Hint, Reject};
    pub use imgate_filters::{Body, BodyUse, Deps, Filter, Fixed, Flow, Request, Shadow};
    pub use pingora_http::{RequestHeader, ResponseHeader};

    pub use crate::Builder;
}
