//! The gateway as its users meet it: the real binary, a faithful OpenIM, a real Redis, raw sockets.

#![allow(
    clippy::unwrap_used,
    clippy::large_futures,
    clippy::print_stderr,
    reason = "the lints see only `#[test]` functions as tests, not their helpers"
)]

mod support;

mod admin;
mod admin_rest;
mod canonical;
mod cli;
mod clients;
mod crossed;
mod doors;
mod edge_filters;
mod embedder;
mod faults;
mod front;
mod handover;
mod heal;
mod holes;
mod http2;
mod limits;
mod listeners;
mod objects;
mod objects_s3;
mod proxy_protocol;
mod rates;
mod redis;
mod reload;
mod respond;
mod rest;
mod routes;
mod sdk_token;
mod sealed;
mod shadow;
mod sidecar;
mod socket;
mod tidy;
mod tls;
mod upstreams;
mod watch;
