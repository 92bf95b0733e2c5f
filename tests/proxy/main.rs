//! Links through SOCKS5 and HTTP proxies: what is said to them, what they may answer, and real ones.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

#[cfg(target_os = "linux")]
#[path = "../support/real_server.rs"]
mod real_server;
mod scripted;
#[path = "../support/mod.rs"]
mod support;

// The tests.
mod answers;
mod dials;
#[cfg(target_os = "linux")]
mod servers;
mod settings;
