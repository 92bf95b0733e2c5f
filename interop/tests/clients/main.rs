//! Well-known clients over a connection that outlives its sockets, against real servers that are killed in mid-use.
//!
//! Where a server is not installed, its test says so in one line, `skipped: ...`, and passes. (`scripts/test` installs
//! them.) What each client sees at a break is printed: `cargo test -p perconn-interop --test clients -- --nocapture`.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

#[path = "../../../tests/postgres/server.rs"]
mod postgres_server;
#[path = "../../../tests/support/real_server.rs"]
mod real_server;
mod servers;
#[path = "../../../tests/support/mod.rs"]
mod support;
mod through_kills;

// The tests.
mod http;
mod postgres;
mod redis;
mod tls;
mod websocket;
