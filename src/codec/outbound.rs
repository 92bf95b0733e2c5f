//! The sending side: whole frames of one link.
//!
//! Next: [`framed`](super::framed), where both sides meet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Encoder;
use tokio_util::io::poll_write_buf;

use super::error::ConnError;
use super::{FramedError, INITIAL_CAPACITY, KEPT_CAPACITY};
use crate::WriteHalf;

/// Frames that were accepted and are not written yet.
///
/// After every error but the codec's, it is empty: a frame that was reported as possibly lost is never sent later.
pub(super) struct Outbound {
    /// Encoded frames, all for the same link. The first may be written in part.
    buffer: BytesMut,
    /// The most that it has held.
    peak: usize,
    /// In bytes: a buffer of this size is written before another frame is accepted. Defaults to 8 KiB.
    boundary: usize,
    /// The newest break that the program knows of, from either direction. New frames are for the links after it.
    known: u64,
    /// Whether frames were accepted since the last flush that succeeded.
    is_unconfirmed: bool,
    /// Set if a break after this one took frames, and the sink has not reported that yet.
    lost_after: Option<u64>,
    /// What a close returns once the writing side is shut down.
    close_error: Option<ConnError>,
    /// The error of an operation, until [`take_outcome`](Outbound::take_outcome) returns it.
    unreported: Option<ConnError>,
}

/// What a sink does, besides accepting frames.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    /// Makes room for a frame: writes what is there, but only if the buffer has reached the boundary.
    Ready,
    /// Writes all frames, and flushes the stream.
    Flush,
    /// Flushes, and then shuts the writing side down.
    Close,
}

impl Outbound {
    /// A sink on a half that has reported all breaks up to `last_reported`.
    pub(super) fn new(last_reported: u64) -> Self {
        Self {
            buffer: BytesMut::new(),
            peak: 0,
            boundary: INITIAL_CAPACITY,
            known: last_reported,
            is_unconfirmed: false,
            lost_after: None,
            close_error: None,
            unreported: None,
        }
    }

    /// The newest break that the program knows of.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// The number of bytes at which the sink has to write before it accepts a frame.
    pub(super) fn boundary(&self) -> usize {
        self.boundary
    }

    /// Takes effect with the next frame. With 0, the sink flushes before each frame.
    pub(super) fn set_boundary(&mut self, boundary: usize) {
        self.boundary = boundary;
    }

    /// Notes a break that the stream of the same connection has reported.
    pub(super) fn set_known(&mut self, generation: u64) {
        if generation <= self.known {
            return;
        }
        if self.is_unconfirmed {
            self.clear();
            self.lost_after = Some(self.known);
        }
        self.known = generation;
    }

    /// Runs an operation, whose outcome [`take_outcome`](Outbound::take_outcome) returns.
    ///
    /// In between, the caller makes a fresh codec if there is a [`loss`](Outbound::loss). If that panics, the next
    /// operation does nothing but return the same outcome.
    pub(super) fn poll<S>(&mut self, operation: Operation, half: &mut WriteHalf<S>, cx: &mut Context<'_>) -> Poll<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.unreported.is_none() {
            let outcome = ready!(match operation {
                Operation::Ready if self.lost_after.is_none() && self.buffer.len() < self.boundary =>
                    return Poll::Ready(()),
                Operation::Ready | Operation::Flush => self.poll_flush(half, cx),
                Operation::Close => self.poll_close(half, cx),
            });
            self.unreported = outcome.err();
        }
        Poll::Ready(())
    }

    /// The error to return, if with it all that the codec has encoded was dropped.
    pub(super) fn loss(&self) -> Option<&ConnError> {
        self.unreported.as_ref().filter(|error| !error.is_final())
    }

    /// Takes the outcome of the last operation.
    pub(super) fn take_outcome<E>(&mut self) -> Result<(), FramedError<E>> {
        self.unreported.take().map_or(Ok(()), |error| Err(error.with_codec_error()))
    }

    /// Encodes a frame into the buffer.
    pub(super) fn start_send<C, I>(&mut self, codec: &mut C, item: I) -> Result<(), FramedError<C::Error>>
    where
        C: Encoder<I>,
    {
        if self.lost_after.is_some() || self.unreported.is_some() {
            // The sink was ready before the break. The next call reports this frame as lost together with the others.
            return Ok(());
        }
        let mut frame = PartialFrame { start: self.buffer.len(), buffer: &mut self.buffer };
        codec.encode(item, frame.buffer).map_err(FramedError::Codec)?;
        frame.start = frame.buffer.len();
        self.peak = self.peak.max(frame.start);
        self.is_unconfirmed = true;
        Ok(())
    }

    /// Writes the buffer and flushes the stream. Before that, reports frames that a known break has taken.
    fn poll_flush<S>(&mut self, half: &mut WriteHalf<S>, cx: &mut Context<'_>) -> Poll<Result<(), ConnError>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        loop {
            let outcome = if self.lost_after.is_some() {
                // The half has not reported that break yet, so this returns its error and writes nothing.
                let outcome = ready!(Pin::new(&mut *half).poll_write(cx, &[]));
                debug_assert!(outcome.is_err(), "the half has reported a break that its sink does not know");
                outcome.map(|_| self.lost_after = None)
            } else if self.buffer.is_empty() {
                let outcome = ready!(Pin::new(&mut *half).poll_flush(cx));
                if outcome.is_ok() {
                    self.is_unconfirmed = false;
                    if self.peak > KEPT_CAPACITY.max(self.boundary.saturating_mul(2)) {
                        // One long frame must not hold the memory for ever.
                        (self.buffer, self.peak) = (BytesMut::new(), 0);
                    }
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

    /// Flushes and shuts the writing side down, even if the flush fails.
    fn poll_close<S>(&mut self, half: &mut WriteHalf<S>, cx: &mut Context<'_>) -> Poll<Result<(), ConnError>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.close_error.is_none() {
            // Kept for the end of the shutdown.
            self.close_error = ready!(self.poll_flush(half, cx)).err();
        }
        while let Err(error) = ready!(Pin::new(&mut *half).poll_shutdown(cx)) {
            if let Some(error) = ready!(self.poll_error(error, cx)) {
                self.close_error.get_or_insert(error);
                break;
            }
        }
        Poll::Ready(self.close_error.take().map_or(Ok(()), Err))
    }

    /// The error to return for one of the half's; `None` if the program knows of that break already.
    fn poll_error(&mut self, error: io::Error, cx: &Context<'_>) -> Poll<Option<ConnError>> {
        let Some(error) = ConnError::from_conn(error) else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        if let ConnError::Break { generation, .. } = &error {
            if *generation <= self.lost_after.unwrap_or(self.known) {
                return Poll::Ready(None);
            }
            self.known = self.known.max(*generation);
        }
        self.clear();
        Poll::Ready(Some(error))
    }

    /// Drops all frames and reports nothing of the links up to `generation`.
    pub(super) fn start_over(&mut self, generation: u64) {
        self.clear();
        self.known = self.known.max(generation);
        (self.close_error, self.unreported) = (None, None);
    }

    /// Drops all frames, and frees the buffer, which one large frame may have made grow.
    fn clear(&mut self) {
        (self.buffer, self.peak) = (BytesMut::new(), 0);
        self.is_unconfirmed = false;
        self.lost_after = None;
    }
}

/// A frame that is being encoded.
///
/// Unless it becomes whole, dropping it removes its bytes, so that none of them is sent. That holds even if the encoder
/// panics.
struct PartialFrame<'a> {
    /// The sink's buffer, which has whole frames before `start`.
    buffer: &'a mut BytesMut,
    /// Where the frame begins, and so the length to cut back to.
    start: usize,
}

impl Drop for PartialFrame<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.start);
    }
}
