//! The outbox: what becomes of every accepted message.

#![allow(unreachable_pub, reason = "a test has no public items")]

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
#[cfg(feature = "blocking")]
mod blocking;
mod closing;
mod dial_limit;
mod first;
mod mutants;
#[cfg(all(target_os = "linux", not(perconn_portable)))]
mod numbered_lines;
mod queue;
mod races;
mod through_cuts;
