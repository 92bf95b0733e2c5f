//! What happens at an acceptor, as told to its hook.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Peer;

/// A turn in the life of an acceptor, as told to [`AcceptorBuilder::on_event`](super::AcceptorBuilder::on_event).
///
/// Of one connection, [`Accepted`](Event::Accepted) comes first and [`Closed`](Event::Closed) last. Events of different
/// connections come from different tasks, at the same time if need be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection has an acceptor; its handler is started. With TLS, the handshake is over.
    #[non_exhaustive]
    Accepted {
        /// The number of the connection, from 1.
        id: u64,
        /// Its other end.
        peer: Peer,
    },
    /// A connection is over. Its acceptor is free when the hook has returned.
    #[non_exhaustive]
    Closed {
        /// The number of the connection.
        id: u64,
        /// Its other end.
        peer: Peer,
        /// How it ended.
        reason: EndReason,
        /// How long it had an acceptor.
        lived: Duration,
        /// How many bytes the handler has read.
        bytes_read: u64,
        /// How many bytes the handler has written.
        bytes_written: u64,
    },
    /// A connection was refused, as all acceptors were busy.
    #[non_exhaustive]
    Refused {
        /// Its other end.
        peer: Peer,
    },
    /// A TLS handshake failed, or took too long.
    #[non_exhaustive]
    HandshakeFailed {
        /// Its other end.
        peer: Peer,
        /// Why; of the kind `TimedOut` if it took too long.
        cause: Arc<io::Error>,
    },
    /// There are more acceptors now. (Two changes at the same moment may be told in either order;
    /// [`stats`](super::Acceptor::stats) has the number.)
    #[non_exhaustive]
    Grown {
        /// How many.
        acceptors: usize,
    },
    /// There are fewer acceptors now; see [`Grown`](Event::Grown).
    #[non_exhaustive]
    Shrunk {
        /// How many.
        acceptors: usize,
    },
    /// No connection can be accepted at the moment; see [`Error::Accept`](super::Error::Accept), which is told as often.
    #[non_exhaustive]
    Paused {
        /// Why.
        cause: Arc<io::Error>,
    },
    /// Connections are accepted again; told after each `Paused`.
    #[non_exhaustive]
    Resumed {
        /// How long none could be.
        after: Duration,
    },
    /// New TLS sessions have new certificates.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    CertificatesReloaded,
    /// New certificates were not taken, as something is wrong with them.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[non_exhaustive]
    CertificatesKept {
        /// Why: an [`Error::InvalidConfig`](super::Error::InvalidConfig).
        cause: Arc<super::Error>,
    },
    /// No more connections are accepted, by [`stop`](super::Acceptor::stop) or as the [`Acceptor`](super::Acceptor) was
    /// dropped. Those that are open end after this. (One that was accepted at the same moment may be told after it.)
    Stopping,
}

/// How a connection ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EndReason {
    /// Its handler returned `Ok`.
    Finished,
    /// Its handler returned this error.
    Failed(Arc<io::Error>),
    /// It was silent, or slow, for longer than [`first_byte_timeout`](super::AcceptorBuilder::first_byte_timeout) or
    /// [`idle_timeout`](super::AcceptorBuilder::idle_timeout) allows.
    TimedOut,
    /// Its handler panicked.
    Panicked,
    /// It was cut: the deadline of [`stop`](super::Acceptor::stop) was over, the [`Acceptor`](super::Acceptor) was
    /// dropped, or the runtime shut down.
    Cut,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::TimedOut => f.write_str("silent for too long"),
            Self::Panicked => f.write_str("its handler panicked"),
            Self::Cut => f.write_str("cut"),
        }
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
            Self::HandshakeFailed { peer, cause } => write!(f, "handshake with {peer} failed: {cause}"),
            Self::Grown { acceptors } => write!(f, "grown to {acceptors} acceptors"),
            Self::Shrunk { acceptors } => write!(f, "shrunk to {acceptors} acceptors"),
            Self::Paused { cause } => write!(f, "cannot accept: {cause}"),
            Self::Resumed { after } => write!(f, "accepting again after {after:.1?}"),
            #[cfg(feature = "tls")]
            Self::CertificatesReloaded => f.write_str("certificates reloaded"),
            #[cfg(feature = "tls")]
            Self::CertificatesKept { cause } => write!(f, "certificates not reloaded: {cause}"),
            Self::Stopping => f.write_str("stopping"),
        }
    }
}
