//! Real partitions: client, router and server in network namespaces of their own, and packet loss in the router.
//!
//! A binary of its own, as each test starts it again: the outer run builds the [`lab`] and starts this binary inside
//! the client's namespace, and that inner run is the test. On a machine without namespaces, because of no root or no
//! `ip`, a test prints one line, `skipped: partitions: ...`, and passes. `cargo test --test partitions -- --nocapture`
//! prints what the tests measure. Times are in units of `T`, the limit that the test sets.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod calls;
mod in_a_lab;
mod lab;
mod net;
mod server;
mod server_process;
#[path = "../support/mod.rs"]
mod support;

// The tests.
mod address_fails;
mod both_ways;
mod byte_counts;
mod local_ports;
mod name_changes;
mod one_way;
mod quiet_peers;
mod server_dies;
mod server_stops;
