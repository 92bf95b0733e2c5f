//! The pool of connections.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod background;
mod bad_input;
mod chaos;
mod closing;
mod dial_limit;
mod dials;
mod fixtures;
mod health;
mod hooks;
mod lending;
mod panics;
mod releases;
mod runtimes;
mod stats;
mod stress;
#[path = "../support/mod.rs"]
mod support;
mod waiting;
