//! A `Conn` in the place of a `tokio::net::TcpStream`.
//!
//! The same code runs over a bare stream and over a connection, in each of three shapes: whole, divided by
//! `tokio::io::split`, and as the halves of `into_split`. What both do is written down step by step, and compared.
//! Where they differ, [`differences`], [`parting`] and [`lacking`] show both sides; `docs/tcp_stream.md` is the table
//! of it.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

mod side;
#[path = "../support/mod.rs"]
mod support;

// The tests.
mod after_shutdown;
mod bytes;
mod connecting;
mod differences;
mod ending;
mod halves;
mod lacking;
mod parting;
mod readiness;
mod utilities;
mod vectored;
