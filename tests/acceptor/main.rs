//! The acceptor, over real sockets.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod abandoned;
#[cfg(all(target_os = "linux", feature = "activation"))]
mod activation;
mod admission;
mod bad_input;
mod chaos;
mod closed;
mod common;
mod concurrent_lines;
mod cut;
#[cfg(target_os = "linux")]
mod exhaustion;
mod last_call;
mod limits;
mod line_conns;
mod lines;
#[cfg(unix)]
mod listeners;
mod overflow;
mod panics;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol_sent;
mod serving;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
mod unix;
