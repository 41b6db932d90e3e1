//! The gateway as its users meet it: the real binary, a faithful OpenIM, a real Redis, raw sockets.

mod support;

mod heal;
mod rest;
mod tidy;
