//! The pool of connections.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod bad_input;
mod closing;
mod crowd;
mod fitness;
mod lending;
mod own_code;
mod runtimes;
#[path = "../support/mod.rs"]
mod support;
mod waiting;
mod world;
