//! What a framed stream or sink tells instead of a frame.

use std::convert::Infallible;
use std::io;

use crate::Error;

/// Why a stream yields no frame, or a sink takes none. `E` is the codec's own error.
///
/// | variant | the stream | the sink |
/// |---|---|---|
/// | [`Break`](FramedError::Break) | goes on with the next link | what no flush had confirmed is dropped; goes on |
/// | [`Codec`](FramedError::Codec) | goes on as the codec does | the frame was not taken, the others stay |
/// | [`Down`](FramedError::Down) | there is no link yet | what no flush had confirmed is dropped |
/// | [`End`](FramedError::End) | ends: `None` from now on | every call fails with it |
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FramedError<E> {
    /// A link broke. What it had left unfinished is dropped, in both directions; the next frame belongs to a later link.
    #[error("link {generation} broke")]
    #[non_exhaustive]
    Break {
        /// The number of the link that is gone.
        generation: u64,
        /// Why: the error of the read or write that was told, with [`Error::IoError`] inside. Or
        /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) without one, if the peer closed in good order.
        source: io::Error,
    },

    /// The codec failed. The link stands.
    #[error("the codec failed")]
    Codec(#[source] E),

    /// There is no link at the moment, and [`when_down`](crate::Builder::when_down) says not to wait (any longer):
    /// [`Error::Down`] or [`Error::WaitTimeout`].
    #[error("no frame passes without a link")]
    Down(#[source] Error),

    /// It is over: [`Error::ClosedConnection`], [`Error::GaveUp`] or [`Error::RuntimeShutdown`].
    #[error("there will be no further link")]
    End(#[source] Error),
}

impl<E> FramedError<E> {
    /// Whether it is over: no frame can pass any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::End(_))
    }

    /// The number of the link that broke, if that is what this tells.
    pub fn broken_generation(&self) -> Option<u64> {
        match self {
            Self::Break { generation, .. } => Some(*generation),
            _ => None,
        }
    }

    /// The break that a read tells by the end of the stream.
    pub(super) fn peer_closed(generation: u64) -> Self {
        Self::Break { generation, source: io::Error::new(io::ErrorKind::UnexpectedEof, PeerClosed) }
    }

    /// What the error of a connection tells. `None`: nothing, the operation can be tried again (`WouldBlock` and
    /// `Interrupted`, which some streams return; all others come with the crate's own error inside).
    pub(super) fn of(error: io::Error) -> Option<Self> {
        match Error::of(&error)? {
            Error::IoError { generation, .. } => Some(Self::Break { generation: *generation, source: error }),
            _ => {
                let error = error.into_inner()?.downcast::<Error>().ok()?;
                Some(if error.is_final() { Self::End(*error) } else { Self::Down(*error) })
            }
        }
    }
}

/// What is still to be told. (No codec fails later than it is asked.)
pub(super) type Untold = FramedError<Infallible>;

impl Untold {
    pub(super) fn widen<E>(self) -> FramedError<E> {
        match self {
            Self::Break { generation, source } => FramedError::Break { generation, source },
            Self::Codec(never) => match never {},
            Self::Down(error) => FramedError::Down(error),
            Self::End(error) => FramedError::End(error),
        }
    }
}

/// The text of an orderly end.
#[derive(Debug, thiserror::Error)]
#[error("the peer closed the connection")]
struct PeerClosed;
