//! The events of an acceptor, as its event hook receives them.
//!
//! Next: [`super::registry`], which emits most of them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Peer, RejectReason};

/// Something that has happened at an acceptor; for the hook of
/// [`AcceptorBuilder::on_event`](super::AcceptorBuilder::on_event).
///
/// Of one connection, [`Accepted`](Event::Accepted) comes first and [`Closed`](Event::Closed) last. Events of different
/// connections come from different tasks, possibly at the same time. An event prints as one line for a log.
///
/// ```
/// use perconn::acceptor::{Acceptor, Event};
///
/// let builder = Acceptor::builder("127.0.0.1:0").on_event(|event| match event {
///     Event::Closed { peer, reason, bytes_read, .. } => println!("{peer} sent {bytes_read} bytes: {reason}"),
///     Event::Ended { cause, .. } => eprintln!("the server is down: {cause}"),
///     other => println!("{other}"),
/// });
/// # drop(builder);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection has got an acceptor slot, and its handler starts. The handshake is done, if there is one.
    #[non_exhaustive]
    Accepted {
        /// The number of the connection, from 1.
        id: u64,
        /// Its other end.
        peer: Peer,
    },
    /// A connection has ended. Its slot is free when the hook has returned.
    #[non_exhaustive]
    Closed {
        /// The number of the connection.
        id: u64,
        /// Its other end.
        peer: Peer,
        /// How it ended.
        reason: EndReason,
        /// How long it had its slot.
        lived: Duration,
        /// The number of bytes that the handler has read.
        bytes_read: u64,
        /// The number of bytes that the handler has written.
        bytes_written: u64,
    },
    /// A connection was refused, as all slots were busy.
    #[non_exhaustive]
    Refused {
        /// Its other end.
        peer: Peer,
    },
    /// A client was not let in. Its connection was closed when it was accepted, or when the header of its proxy had arrived.
    #[non_exhaustive]
    Rejected {
        /// Its other end.
        peer: Peer,
        /// Why.
        reason: RejectReason,
    },
    /// A TLS handshake failed, a proxy sent no PROXY header, or either took too long.
    #[non_exhaustive]
    HandshakeFailed {
        /// Its other end: the client, or the proxy if there is no header.
        peer: Peer,
        /// The cause; of the kind [`TimedOut`](io::ErrorKind::TimedOut) if it took too long.
        cause: Arc<io::Error>,
    },
    /// The number of slots has grown. Two changes at the same moment may be reported in either order;
    /// [`stats`](super::Acceptor::stats) has the present number.
    #[non_exhaustive]
    Grown {
        /// The number of slots.
        acceptors: usize,
    },
    /// The number of slots has shrunk; see [`Grown`](Event::Grown).
    #[non_exhaustive]
    Shrunk {
        /// The number of slots.
        acceptors: usize,
    },
    /// No connection can be accepted at the moment. Reported as often as [`Error::Accept`](super::Error::Accept).
    #[non_exhaustive]
    Paused {
        /// The cause.
        cause: Arc<io::Error>,
    },
    /// Connections are accepted again. Comes once after each `Paused`.
    #[non_exhaustive]
    Resumed {
        /// How long none could be accepted.
        after: Duration,
    },
    /// New TLS sessions get new certificates.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    CertificatesReloaded,
    /// The certificate files have changed and are not usable. The old certificates stay in use.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[non_exhaustive]
    CertificatesKept {
        /// The cause: an [`Error::InvalidConfig`](super::Error::InvalidConfig).
        cause: Arc<super::Error>,
    },
    /// The certificate has expired or expires soon. Reported as often as
    /// [`Error::CertificateExpires`](super::Error::CertificateExpires).
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[non_exhaustive]
    CertificateExpires {
        /// The last second in which it is valid.
        not_after: std::time::SystemTime,
        /// How long it is still valid. Zero if it has expired.
        left: Duration,
    },
    /// No more connections are accepted: [`stop`](super::Acceptor::stop) was called, or the
    /// [`Acceptor`](super::Acceptor) was dropped. Open connections end after this event. A connection that was
    /// accepted at the same moment may be reported after it.
    Stopping,
    /// The acceptor has ended by itself: no more connections are accepted, though the program has not stopped it.
    /// Comes at most once, after the listener is closed.
    ///
    /// Open connections go on, unless their runtime shuts down as well. [`Acceptor::closed`](super::Acceptor::closed)
    /// returns the same cause.
    #[non_exhaustive]
    Ended {
        /// The cause: an [`Error::RuntimeShutdown`](super::Error::RuntimeShutdown) or
        /// [`Error::AcceptPanicked`](super::Error::AcceptPanicked).
        cause: Arc<super::Error>,
    },
}

/// How a connection ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EndReason {
    /// Its handler returned `Ok`; or the client [left without a close_notify](super::Stream#the-end-of-a-tls-session), and
    /// nothing was under way.
    Finished,
    /// Its handler returned this error.
    Failed(Arc<io::Error>),
    /// It was silent or slow for longer than [`first_byte_timeout`](super::AcceptorBuilder::first_byte_timeout) or
    /// [`idle_timeout`](super::AcceptorBuilder::idle_timeout) allows.
    TimedOut,
    /// Its handler panicked.
    Panicked,
    /// It was cut: the deadline of [`stop`](super::Acceptor::stop) was over, the [`Acceptor`](super::Acceptor) was
    /// dropped, or the runtime shut down.
    Cut,
}

impl EndReason {
    /// Of a handler that has returned this.
    pub(super) fn of(outcome: io::Result<()>) -> Self {
        outcome.map_or_else(|error| Self::Failed(Arc::new(error)), |()| Self::Finished)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::TimedOut => f.write_str("silent or slow for too long"),
            Self::Panicked => f.write_str("its handler panicked"),
            Self::Cut => f.write_str("cut"),
        }
    }
}

/// When a certificate expires that is valid for so long: the rest of a sentence.
#[cfg(feature = "tls")]
pub(super) fn expires(left: Duration) -> String {
    match left.as_secs().div_ceil(3600) {
        0 => "has expired".into(),
        hours @ 1..=48 => format!("expires within {hours} hours"),
        hours => format!("expires in {} days", hours / 24),
    }
}

/// One line for a log.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { id, peer } => write!(f, "connection {id}: accepted from {peer}"),
            Self::Closed { id, peer, reason, lived, .. } => {
                write!(f, "connection {id}: closed after {lived:.1?}, from {peer}: {reason}")
            }
            Self::Refused { peer } => write!(f, "refused {peer}"),
            Self::Rejected { peer, reason } => write!(f, "rejected {peer}: {reason}"),
            Self::HandshakeFailed { peer, cause } => write!(f, "handshake with {peer} failed: {cause}"),
            Self::Grown { acceptors } => write!(f, "grown to {acceptors} acceptors"),
            Self::Shrunk { acceptors } => write!(f, "shrunk to {acceptors} acceptors"),
            Self::Paused { cause } => write!(f, "cannot accept: {cause}"),
            Self::Resumed { after } => write!(f, "accepting again after {after:.1?}"),
            #[cfg(feature = "tls")]
            Self::CertificatesReloaded => f.write_str("certificates reloaded"),
            #[cfg(feature = "tls")]
            Self::CertificatesKept { cause } => write!(f, "certificates not reloaded: {cause}"),
            #[cfg(feature = "tls")]
            Self::CertificateExpires { left, .. } => write!(f, "the certificate {}", expires(*left)),
            Self::Stopping => f.write_str("stopping"),
            Self::Ended { cause } => write!(f, "ended: {cause}"),
        }
    }
}
