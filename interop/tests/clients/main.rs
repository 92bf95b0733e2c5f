//! Well-known clients over a connection that outlives its sockets, against real servers that are killed in mid-use.
//!
//! Where a server is not installed, its test prints `skipped: ...` and passes; `scripts/test` installs the servers. The
//! tests print what each client sees at a break: `cargo test -p perconn-interop --test clients -- --nocapture`.
//!
//! Next: [`through_kills`], what every client has to survive.

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
mod backoff;
mod connector;
mod dns;
mod http;
mod postgres;
mod redis;
mod serial;
mod tls;
mod websocket;
