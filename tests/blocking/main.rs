//! Tests of `perconn::blocking` with threads and servers of std's.

mod abandon;
mod breaks;
mod chaos;
mod closing;
mod like_tcp_stream;
mod runtimes_and_hooks;
mod support;
mod threads;
mod timeouts;
mod waits;
