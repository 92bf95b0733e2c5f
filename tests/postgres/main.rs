//! `perconn::postgres` against a real PostgreSQL that is killed, stopped and restarted.
//!
//! Where PostgreSQL is not installed, a test says so in one line, `skipped: ...`, and passes. (`scripts/test` installs it.)
//! What the tests measure is printed: `cargo test --all-features --test postgres -- --nocapture`.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod fake;
#[allow(dead_code)]
#[path = "../partitions/in_a_lab.rs"]
mod in_a_lab;
mod judge;
#[allow(dead_code)]
#[path = "../partitions/lab.rs"]
mod lab;
#[allow(dead_code)]
#[path = "../partitions/net.rs"]
mod net;
#[path = "../support/real_server.rs"]
mod real_server;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod world;

// The tests.
mod ending;
mod example;
mod ledger;
mod listening;
mod losses;
mod odd_streams;
mod one_connection;
mod overlooked;
mod partition;
mod queue;
mod server_itself;
mod silence;
mod starting;
