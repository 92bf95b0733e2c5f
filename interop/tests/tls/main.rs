//! TLS on both sides, over real sockets: connections, acceptors, and the listener of PostgreSQL.
//!
//! Next: [`client`], the connections; then [`authority`], the certificates that the acceptors' tests share.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod authority;
#[allow(dead_code, reason = "shared with the plain tests of `perconn::acceptor`")]
#[path = "../../../tests/acceptor/common.rs"]
mod common;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "shared with the plain tests of `perconn::postgres`")]
#[path = "../../../tests/postgres/helpers.rs"]
mod helpers;
#[cfg(target_os = "linux")]
#[path = "../../../tests/support/real_server.rs"]
mod real_server;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "shared with the plain tests of `perconn::postgres`")]
#[path = "../../../tests/postgres/scripted_server.rs"]
mod scripted_server;
#[cfg(target_os = "linux")]
#[path = "../../../tests/postgres/server.rs"]
mod server;
#[path = "../../../tests/support/mod.rs"]
mod support;

// The tests.
mod abort;
mod addresses;
mod certificates;
#[cfg(target_os = "linux")]
mod channel_binding;
mod client;
mod closed;
mod expiry;
mod handshakes;
mod pooled;
#[cfg(target_os = "linux")]
mod postgres;
#[cfg(target_os = "linux")]
mod proxied;
mod refused;
mod rotated;
mod sessions;
#[cfg(target_os = "linux")]
mod tunnel;
