//! The acceptor, over real sockets.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod abandoned;
#[cfg(feature = "tls")]
mod authority;
mod bad_input;
#[cfg(feature = "tls")]
mod certificates;
mod chaos;
mod closed;
mod common;
mod cut;
#[cfg(target_os = "linux")]
mod exhaustion;
#[cfg(feature = "tls")]
mod handshakes;
mod limits;
mod line_conns;
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
