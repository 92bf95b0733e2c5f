//! The sending side: whole frames of one link at a time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Encoder;
use tokio_util::io::poll_write_buf;

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
}

impl Outbound {
    pub(super) fn new(told: u64) -> Self {
        Self {
            buffer: BytesMut::new(),
            boundary: INITIAL_CAPACITY,
            position: told,
            is_unconfirmed: false,
            lost_after: None,
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

    pub(super) fn poll_ready<S, E>(
        &mut self,
        half: &mut WriteHalf<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), FramedError<E>>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.lost_after.is_some() || self.buffer.len() >= self.boundary {
            self.poll_flush(half, cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    pub(super) fn start_send<C, I>(&mut self, codec: &mut C, item: I) -> Result<(), FramedError<C::Error>>
    where
        C: Encoder<I>,
    {
        if self.lost_after.is_some() {
            // The sink was ready before the break. This frame is one of those that the next call tells may be lost.
            return Ok(());
        }
        let len = self.buffer.len();
        let outcome = codec.encode(item, &mut self.buffer).map_err(FramedError::Codec);
        match outcome {
            Ok(()) => self.is_unconfirmed = true,
            // Half a frame must not go out before the next one.
            Err(_) => self.buffer.truncate(len),
        }
        outcome
    }

    pub(super) fn poll_flush<S, E>(
        &mut self,
        half: &mut WriteHalf<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), FramedError<E>>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        loop {
            let outcome = if self.lost_after.is_some() {
                // The half has not been told of that break yet, so that this returns its error and writes nothing.
                let outcome = ready!(Pin::new(&mut *half).poll_write(cx, &[]));
                debug_assert!(outcome.is_err(), "the half has been told of a break that its sink does not know");
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

    pub(super) fn poll_close<S, E>(
        &mut self,
        half: &mut WriteHalf<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), FramedError<E>>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        ready!(self.poll_flush(half, cx))?;
        loop {
            let Err(error) = ready!(Pin::new(&mut *half).poll_shutdown(cx)) else { return Poll::Ready(Ok(())) };
            if let Some(error) = ready!(self.poll_error(error, cx)) {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// What to tell of an error. `None`: the caller knows of it already.
    fn poll_error<E>(&mut self, error: io::Error, cx: &Context<'_>) -> Poll<Option<FramedError<E>>> {
        let Some(error) = FramedError::of(error) else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        if let FramedError::Break { generation, .. } = &error {
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
