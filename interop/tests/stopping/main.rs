//! A stop of an acceptor beside `GracefulShutdown` of hyper-util: the same clients are served.
//!
//! Next: [`http`], hyper behind an acceptor.

#[path = "../../../tests/support/mod.rs"]
mod support;

mod http;
mod proxy;
