//! The server's side, over real sockets.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod bad_input;
mod chaos;
#[cfg(target_os = "linux")]
mod exhaustion;
mod limits;
mod lines;
#[cfg(unix)]
mod listeners;
mod overflow;
mod serving;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tls")]
mod tls;
mod world;
