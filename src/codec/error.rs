//! What a framed stream or sink returns instead of a frame.
//!
//! Next: [`inbound`](super::inbound) and [`outbound`](super::outbound), which return it.

use std::convert::Infallible;
use std::io;

use crate::Error;

/// Why a stream yields no frame, or a sink takes none. `E` is the codec's own error.
///
/// | variant | the stream | the sink |
/// |---|---|---|
/// | [`Break`](FramedError::Break) | goes on with the next link | drops what no flush has confirmed; goes on |
/// | [`Codec`](FramedError::Codec) | goes on as the codec does | has not taken this frame, keeps the others |
/// | [`Down`](FramedError::Down) | has no link yet | drops what no flush has confirmed |
/// | [`End`](FramedError::End) | ends: `None` from now on | fails every call with it |
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FramedError<E> {
    /// A link broke. Unfinished frames are dropped, in both directions; the next frame belongs to a later link.
    #[error("link {generation} broke")]
    #[non_exhaustive]
    Break {
        /// The number of the link that is gone.
        generation: u64,
        /// The cause: the error of the read or write that reported it, with [`Error::IoError`] inside. If the peer
        /// closed cleanly, an [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) without one.
        source: io::Error,
    },

    /// The codec failed. The link stays up.
    #[error("the codec failed")]
    Codec(#[source] E),

    /// There is no link at the moment, and [`when_down`](crate::Builder::when_down) says not to wait, or no longer:
    /// [`Error::Down`] or [`Error::WaitTimeout`].
    #[error("there is no link for a frame at the moment")]
    Down(#[source] Error),

    /// The connection has ended: [`Error::ClosedConnection`], [`Error::GaveUp`] or [`Error::RuntimeShutdown`].
    #[error("the connection has ended, and there will be no further link")]
    End(#[source] Error),
}

impl<E> FramedError<E> {
    /// Whether the connection has ended, so that no further frame can pass.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::End(_))
    }

    /// The number of the link that broke, if this is a [`Break`](FramedError::Break).
    pub fn broken_generation(&self) -> Option<u64> {
        match self {
            Self::Break { generation, .. } => Some(*generation),
            _ => None,
        }
    }

    /// The break that a read reports by the end of the stream.
    pub(super) fn peer_closed(generation: u64) -> Self {
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection");
        Self::Break { generation, source }
    }

    /// The error to return for one of the connection's. `None` if it only says "try again".
    ///
    /// Some streams return `WouldBlock` or `Interrupted` for that. All other errors have the crate's own inside.
    pub(super) fn from_conn(error: io::Error) -> Option<Self> {
        match Error::of(&error)? {
            Error::IoError { generation, .. } => Some(Self::Break { generation: *generation, source: error }),
            _ => {
                let error = error.into_inner()?.downcast::<Error>().ok()?;
                Some(if error.is_final() { Self::End(*error) } else { Self::Down(*error) })
            }
        }
    }
}

/// An error of the connection: any but the codec's.
pub(super) type ConnError = FramedError<Infallible>;

impl ConnError {
    /// The same error for a codec whose own error is `E`.
    pub(super) fn with_codec_error<E>(self) -> FramedError<E> {
        match self {
            Self::Break { generation, source } => FramedError::Break { generation, source },
            Self::Codec(never) => match never {},
            Self::Down(error) => FramedError::Down(error),
            Self::End(error) => FramedError::End(error),
        }
    }
}
