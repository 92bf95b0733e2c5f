//! The server's side, over real sockets.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod overflow;
mod serving;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
mod world;
