//! Real partitions: client, router and server in network namespaces of their own, and faults made in the router.
//!
//! Each test runs itself twice. The outer run builds the [`lab`] and starts the test binary again inside the client's
//! namespace; the inner run is the test. Where namespaces are not to be had (no root, no `ip`), a test says so in one
//! line, `skipped: partitions: ...`, and passes. What the tests measure is printed: `cargo test --test partitions --
//! --nocapture`. Times are given in `T`, the limit that the test has set.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod calls;
mod in_a_lab;
mod lab;
mod net;
mod remote;
mod server;
#[path = "../support/mod.rs"]
mod support;

// The tests.
mod address_fails;
mod both_ways;
mod left_alone;
mod name_moves;
mod one_way;
mod server_dies;
mod server_stops;
mod sums;
