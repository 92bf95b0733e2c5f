//! The server's side, over real sockets.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod bad_input;
mod chaos;
mod cut;
#[cfg(target_os = "linux")]
mod exhaustion;
mod given_up;
mod kept;
mod limits;
mod lines;
#[cfg(unix)]
mod listeners;
mod overflow;
mod serving;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
mod unix;
mod world;
