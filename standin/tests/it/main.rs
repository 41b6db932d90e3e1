//! The stand-in against OpenIM's contract, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

mod body;
mod framing;
mod levers;
mod marks;
mod objects;
mod order;
mod sockets;
mod support;
mod tokens;
