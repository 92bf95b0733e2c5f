//! A `Conn` in the place of a `tokio::net::TcpStream`.
//!
//! The same code runs over a bare stream and over a connection, in each of three shapes: whole, split by
//! `tokio::io::split`, and as the halves of `into_split`. Each step is recorded, and the records are compared. Where
//! the two differ, [`differences`], [`differences_at_the_end`] and [`missing_methods`] show both sides;
//! `docs/tcp_stream.md` has the table.

mod comparison;

mod after_shutdown;
mod bytes;
mod connecting;
mod differences;
mod differences_at_the_end;
mod halves;
mod missing_methods;
mod readiness;
mod shutdown_and_close;
mod utilities;
mod vectored;
