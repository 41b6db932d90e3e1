//! Bad input and broken peers: what the gateway answers, what it closes, and what reaches nobody.
//!
//! `faults/rows.json` lists the cases by number; raw bytes stand there, and `make differential` sends the
//! same ones to other proxies.

mod peers;
