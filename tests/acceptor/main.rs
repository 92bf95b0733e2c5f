//! The server's side, over real sockets.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

#[cfg(feature = "tls")]
mod authority;
mod bad_input;
#[cfg(feature = "tls")]
mod certificates;
mod chaos;
mod cut;
#[cfg(target_os = "linux")]
mod exhaustion;
mod given_up;
#[cfg(feature = "tls")]
mod handshakes;
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
#[cfg(feature = "tls")]
mod tls;
#[cfg(target_os = "linux")]
mod unix;
mod world;
