//! The protocols of `perconn::outbox` against real servers that are killed with SIGKILL in mid-stream, and started
//! again.
//!
//! Every message has a number, and every test counts what has arrived. Two variables set how many messages are sent and
//! how often the server is killed:
//!
//! ```text
//! PERCONN_DELIVERY_MESSAGES=1000000 PERCONN_DELIVERY_KILLS=200 \
//!   cargo test --release -p perconn-interop --test delivery -- --nocapture relp::relp_loses
//! ```
//!
//! Where a server is not installed, its test prints `skipped: ...` and passes; `scripts/test` installs the servers.
//!
//! Next: [`numbered`], what all of these tests do.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod numbered;
#[path = "../../../tests/support/real_server.rs"]
mod real_server;
mod rsyslog;
#[path = "../../../tests/support/mod.rs"]
mod support;

// The tests.
mod forward;
mod logging;
mod redis;
mod relp;
mod ship;
mod syslog;
mod tls;
mod unacknowledged;
