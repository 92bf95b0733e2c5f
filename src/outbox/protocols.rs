//! Protocols of well-known servers: syslog, RELP, Redis streams, and Fluentd's forward protocol.
//!
//! Each type here takes the builder of a connection and returns the builder of an outbox: it adds what each link needs
//! before its first message, and encodes and decodes.
//!
//! ```no_run
//! use std::time::Duration;
//! use perconn::Conn;
//! use perconn::outbox::protocols::Relp;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let outbox = Relp::new().outbox(Conn::builder("logs.example:2514")).start()?;
//! outbox.send("<13>1 2026-11-30T19:00:00Z host app - - - a line").await?;
//! let tally = outbox.close(Duration::from_secs(5)).await;
//! println!("{tally}"); // 1 accepted: 1 answered
//! # Ok(())
//! # }
//! ```
//!
//! | type | the server answers | so it is |
//! |---|---|---|
//! | [`Syslog`] | nothing | without a promise: a killed server loses what its kernel had |
//! | [`Relp`] | each message | at least once |
//! | [`RedisStream`] | each message | at least once |
//! | [`Forward`] | each message | at least once |
//!
//! An answer is worth what the server does before it answers. What to set there is on the page of each type.
//!
//! TLS is a setting of the connection: [`Builder::tls`](crate::Builder#method.tls). It changes nothing here. For a
//! protocol of your own, see [`Protocol`](super::Protocol).
//!
//! Next: [`Relp`], the one for logs that must not be lost.

pub use self::forward::Forward;
pub use self::redis::RedisStream;
pub use self::relp::Relp;
pub use self::syslog::Syslog;

mod forward;
mod msgpack;
mod redis;
mod relp;
mod set_up;
mod syslog;
