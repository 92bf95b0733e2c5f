//! Tests of `perconn::postgres` against a real PostgreSQL that is killed, frozen and restarted.
//!
//! If PostgreSQL is not installed, a test prints one line, `skipped: ...`, and passes. (`scripts/test` installs PostgreSQL.)
//! The tests print what they measure: `cargo test --all-features --test postgres -- --nocapture`.
//!
//! Next: `server`, the real server, and `scripted_server`, which speaks only as much of the protocol as a test needs.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod delivery_check;
mod helpers;
#[allow(dead_code)]
#[path = "../partitions/in_a_lab.rs"]
mod in_a_lab;
#[allow(dead_code)]
#[path = "../partitions/lab.rs"]
mod lab;
#[allow(dead_code)]
#[path = "../partitions/net.rs"]
mod net;
mod pgbouncer;
#[path = "../support/real_server.rs"]
mod real_server;
mod scripted_server;
mod server;
#[path = "../support/mod.rs"]
mod support;

// The tests.
mod busy;
mod credentials;
mod custom_streams;
mod delivery;
mod dial_limit;
mod ending;
mod example;
mod hooks;
mod listening;
mod losses;
mod many_hosts;
mod names;
mod one_connection;
mod panics;
mod partition;
mod poolers;
mod queue;
mod races;
mod receivers;
mod server_works;
mod silence;
mod starting;
