//! The sending side: whole frames of one link at a time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Encoder;
use tokio_util::io::poll_write_buf;

use super::error::Untold;
use super::{FramedError, INITIAL_CAPACITY};
use crate::WriteHalf;

/// Frames that were accepted and are not written yet.
///
/// After every error but the codec's, it is empty: what the caller was told may be lost will never be sent.
pub(super) struct Outbound {
    buffer: BytesMut,
    boundary: usize,
    /// The newest break that the caller knows of, be it from the other side. New frames are for the links after it.
    position: u64,
    /// Frames were accepted since the last flush that succeeded.
    is_unconfirmed: bool,
    /// Frames were lost in a break that is still to be told: one after this.
    lost_after: Option<u64>,
    /// A close tells of this when the conversation is shut down.
    close_error: Option<Untold>,
    /// The outcome of an operation, until it is told.
    untold: Option<Untold>,
}

/// What a sink does, besides accepting frames.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Ready,
    Flush,
    Close,
}

impl Outbound {
    pub(super) fn new(last_reported: u64) -> Self {
        Self {
            buffer: BytesMut::new(),
            boundary: INITIAL_CAPACITY,
            position: last_reported,
            is_unconfirmed: false,
            lost_after: None,
            close_error: None,
            untold: None,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn boundary(&self) -> usize {
        self.boundary
    }

    pub(super) fn set_boundary(&mut self, boundary: usize) {
        self.boundary = boundary;
    }

    /// The other side of a whole `Framed` has told of this break.
    pub(super) fn learn(&mut self, generation: u64) {
        if generation <= self.position {
            return;
        }
        if self.is_unconfirmed {
            self.empty();
            self.lost_after = Some(self.position);
        }
        self.position = generation;
    }

    /// Does an operation, whose outcome [`tell`](Outbound::tell) gives.
    ///
    /// Before that, the caller makes a fresh codec if there is a [`loss`](Outbound::loss). If that panics, the next call comes
    /// back here, and tells of it then.
    pub(super) fn poll<S>(&mut self, operation: Operation, half: &mut WriteHalf<S>, cx: &mut Context<'_>) -> Poll<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.untold.is_none() {
            let outcome = ready!(match operation {
                Operation::Ready if self.lost_after.is_none() && self.buffer.len() < self.boundary =>
                    return Poll::Ready(()),
                Operation::Ready | Operation::Flush => self.poll_flush(half, cx),
                Operation::Close => self.poll_close(half, cx),
            });
            self.untold = outcome.err();
        }
        Poll::Ready(())
    }

    /// What is to be told, if with it everything was thrown away that the codec had encoded.
    pub(super) fn loss(&self) -> Option<&Untold> {
        self.untold.as_ref().filter(|error| !error.is_final())
    }

    pub(super) fn tell<E>(&mut self) -> Result<(), FramedError<E>> {
        self.untold.take().map_or(Ok(()), |error| Err(error.widen()))
    }

    pub(super) fn start_send<C, I>(&mut self, codec: &mut C, item: I) -> Result<(), FramedError<C::Error>>
    where
        C: Encoder<I>,
    {
        if self.lost_after.is_some() || self.untold.is_some() {
            // The sink was ready before the break. This frame is one of those that the next call tells may be lost.
            return Ok(());
        }
        let mut frame = Frame { begin: self.buffer.len(), buffer: &mut self.buffer };
        codec.encode(item, frame.buffer).map_err(FramedError::Codec)?;
        frame.begin = frame.buffer.len();
        self.is_unconfirmed = true;
        Ok(())
    }

    fn poll_flush<S>(&mut self, half: &mut WriteHalf<S>, cx: &mut Context<'_>) -> Poll<Result<(), Untold>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        loop {
            let outcome = if self.lost_after.is_some() {
                // The half has not been told of that break yet, so that this returns its error and writes nothing.
                let outcome = ready!(Pin::new(&mut *half).poll_write(cx, &[]));
                debug_assert!(
                    outcome.is_err(),
                    "the half has been last_reported of a break that its sink does not know"
                );
                outcome.map(|_| self.lost_after = None)
            } else if self.buffer.is_empty() {
                let outcome = ready!(Pin::new(&mut *half).poll_flush(cx));
                if outcome.is_ok() {
                    self.is_unconfirmed = false;
                    return Poll::Ready(Ok(()));
                }
                outcome
            } else {
                ready!(poll_write_buf(Pin::new(&mut *half), cx, &mut self.buffer)).map(drop)
            };
            if let Err(error) = outcome {
                if let Some(error) = ready!(self.poll_error(error, cx)) {
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    fn poll_close<S>(&mut self, half: &mut WriteHalf<S>, cx: &mut Context<'_>) -> Poll<Result<(), Untold>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.close_error.is_none() {
            match ready!(self.poll_flush(half, cx)) {
                Err(error) if error.is_final() => return Poll::Ready(Err(error)),
                // The conversation ends all the same.
                outcome => self.close_error = outcome.err(),
            }
        }
        while let Err(error) = ready!(Pin::new(&mut *half).poll_shutdown(cx)) {
            if let Some(error) = ready!(self.poll_error(error, cx)) {
                self.close_error.get_or_insert(error);
                break;
            }
        }
        Poll::Ready(self.close_error.take().map_or(Ok(()), Err))
    }

    /// What to tell of an error. `None`: the caller knows of it already.
    fn poll_error(&mut self, error: io::Error, cx: &Context<'_>) -> Poll<Option<Untold>> {
        let Some(error) = Untold::of(error) else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        if let Untold::Break { generation, .. } = &error {
            if *generation <= self.lost_after.unwrap_or(self.position) {
                return Poll::Ready(None);
            }
            self.position = self.position.max(*generation);
        }
        self.empty();
        Poll::Ready(Some(error))
    }

    fn empty(&mut self) {
        self.buffer = BytesMut::new();
        self.is_unconfirmed = false;
        self.lost_after = None;
    }
}

/// A frame that is being encoded. Unless it gets whole, none of it must go out before the next one, even if the encoder panics.
struct Frame<'a> {
    buffer: &'a mut BytesMut,
    begin: usize,
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.begin);
    }
}
