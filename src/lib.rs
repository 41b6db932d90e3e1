//! imgate, the edge gateway in front of OpenIM.
//!
//! The straight line of a request is also the reading order: [`front`] accepts a connection, Pingora
//! parses the head, [`proxy`] finds the route ([`route`]), runs its chain (crate `imgate-filters`) and
//! takes one of three ways to an [`upstream`]: [`exchange`] (small and whole), Pingora's own stream, or
//! [`tunnel`] (WebSocket). [`answer`] is what comes back, [`reply`] what we say ourselves. [`config`]
//! is what was written, [`gateway`] what it means, [`server`] what runs.

pub mod config;

pub mod gateway;

pub mod front;

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
