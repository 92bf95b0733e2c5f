//! Limits for clients that nobody knows, by one call.
//!
//! Next: [`super::AcceptorBuilder`], which takes them, and [`super::time_budget`], which enforces the times.

use std::time::Duration;

/// How long a client may take, and how much it may send in a line; for
/// [`AcceptorBuilder::limits`](super::AcceptorBuilder::limits).
///
/// Each field has the name of the setter that documents it.
///
/// ```
/// use std::time::Duration;
/// use perconn::acceptor::{Acceptor, Limits};
///
/// // A chat: clients may be silent for long, as their pings come every two minutes.
/// let builder = Acceptor::builder("0.0.0.0:6667").limits(Limits::internet()).idle_timeout(Duration::from_secs(300));
/// # drop(builder);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// [`first_byte_timeout`](super::AcceptorBuilder::first_byte_timeout)
    pub first_byte_timeout: Option<Duration>,
    /// [`idle_timeout`](super::AcceptorBuilder::idle_timeout)
    pub idle_timeout: Option<Duration>,
    /// [`min_rate`](super::AcceptorBuilder::min_rate), in bytes a second
    pub min_rate: Option<u32>,
    /// [`max_line_length`](super::AcceptorBuilder::max_line_length), in bytes; only for a handler of lines
    pub max_line_length: usize,
    /// [`handshake_timeout`](super::AcceptorBuilder::handshake_timeout); only with TLS or the PROXY protocol
    pub handshake_timeout: Option<Duration>,
}

impl Limits {
    /// For a server that anybody can reach: no client keeps a slot for long by being silent or slow.
    ///
    /// | limit | value | why |
    /// |---|---|---|
    /// | `first_byte_timeout` | 10 s | An honest client sends at once. Three lost packets in a row cost it 7 s (RFC 6298). The CIS benchmark for nginx has the same for `client_header_timeout` |
    /// | `idle_timeout` | 60 s | The default of nginx for `client_body_timeout` and `send_timeout` |
    /// | `min_rate` | 240 bytes/s | The default of Kestrel (ASP.NET Core) for requests and responses. A client that sends less runs out of its 60 s |
    /// | `max_line_length` | 8192 bytes | The default of Kestrel. HTTP asks for at least 8000 (RFC 9112, section 3) |
    /// | `handshake_timeout` | 10 s | The default of Kestrel |
    ///
    /// It limits neither the connections of an address ([`max_per_peer`](super::AcceptorBuilder::max_per_peer)) nor the rate of
    /// new ones ([`accept_rate`](super::AcceptorBuilder::accept_rate)): a whole office may have one address, and only you know how
    /// many clients come at once.
    ///
    /// Raise `idle_timeout` if your clients are silent between two requests for longer.
    pub const fn internet() -> Self {
        Self {
            first_byte_timeout: Some(Duration::from_secs(10)),
            idle_timeout: Some(Duration::from_secs(60)),
            min_rate: Some(240),
            max_line_length: 8192,
            handshake_timeout: Some(Duration::from_secs(10)),
        }
    }
}
