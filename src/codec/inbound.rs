//! The receiving side: the bytes of one link, and the reader's place between two links.
//!
//! Next: [`outbound`](super::outbound), the sending side.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder;
use tokio_util::io::poll_read_buf;

use super::error::ConnError;
use super::{FramedError, INITIAL_CAPACITY, KEPT_CAPACITY};
use crate::ReadHalf;

/// What was received on one link and is not decoded yet.
///
/// Before each read, the codec has taken every whole frame. So when a break is reported, at most a part of a frame is
/// left.
pub(super) struct Inbound {
    /// Bytes that the codec has not consumed; emptied between two links.
    buffer: BytesMut,
    /// The most that it has held. Its capacity does not say that, as frames are split off.
    peak: usize,
    /// Says whether the next step is to read, to decode or to report.
    state: InboundState,
    /// The length of the buffer when the codec last failed, if it has not succeeded since.
    failed_at: Option<usize>,
    /// A break that the half has reported, but for which there is no fresh codec yet.
    unreported: Option<ConnError>,
}

/// What the reader does next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum InboundState {
    /// Reads: the codec wants more bytes. Then `Decode`, `DecodeEof`, or the next link.
    Read,
    /// Asks the codec: there may be a frame in the buffer. Then `Read`, when there is none.
    Decode,
    /// Reads and drops what is left on this link, up to its break.
    Discard,
    /// Asks the codec what it makes of the rest: the peer has closed. Then `ReportClose`.
    DecodeEof,
    /// Reports the peer's close. Then `Read`, on the next link.
    ReportClose,
    /// Yields `None`: the end of the connection is reported.
    Ended,
}

/// A frame, or why there is none.
type Item<C> = Result<<C as Decoder>::Item, FramedError<<C as Decoder>::Error>>;

impl Inbound {
    /// Nothing received. The buffer is allocated by the first read.
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::new(), peak: 0, state: InboundState::Read, failed_at: None, unreported: None }
    }

    /// Whether the stream has ended.
    pub(super) fn is_ended(&self) -> bool {
        self.state == InboundState::Ended
    }

    /// Gets the next item, which the caller passes through [`report`](Inbound::report).
    pub(super) fn poll_next<C, S>(
        &mut self,
        half: &mut ReadHalf<S>,
        codec: &mut C,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Item<C>>>
    where
        C: Decoder,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Some(error) = self.unreported.take() {
            return Poll::Ready(Some(Err(error.with_codec_error())));
        }
        loop {
            match self.state {
                InboundState::Ended => return Poll::Ready(None),
                InboundState::Decode => match codec.decode(&mut self.buffer) {
                    Ok(frame) => {
                        self.failed_at = None;
                        match frame {
                            Some(frame) => return Poll::Ready(Some(Ok(frame))),
                            None => self.state = InboundState::Read,
                        }
                    }
                    // It cannot get past these bytes, and would fail for ever.
                    Err(_) if self.failed_at == Some(self.buffer.len()) => self.break_link(half, self.generation(half)),
                    Err(error) => {
                        self.failed_at = Some(self.buffer.len());
                        return Poll::Ready(Some(Err(FramedError::Codec(error))));
                    }
                },
                InboundState::DecodeEof => match codec.decode_eof(&mut self.buffer) {
                    Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                    Ok(None) => self.state = InboundState::ReportClose,
                    Err(error) => {
                        self.state = InboundState::ReportClose;
                        return Poll::Ready(Some(Err(FramedError::Codec(error))));
                    }
                },
                InboundState::ReportClose => {
                    self.start_link();
                    return Poll::Ready(Some(Err(FramedError::peer_closed(half.last_reported()))));
                }
                InboundState::Read | InboundState::Discard => match ready!(self.poll_read(half, cx)) {
                    None => {}
                    Some(error) => {
                        self.start_link();
                        if error.is_final() {
                            self.state = InboundState::Ended;
                        }
                        return Poll::Ready(Some(Err(error)));
                    }
                },
            }
        }
    }

    /// Passes an item on to the program. For a break, `renew` makes the codec of the next link first.
    ///
    /// If `renew` panics, the next item is the break again.
    pub(super) fn report<F, E>(
        &mut self,
        item: Option<Result<F, FramedError<E>>>,
        renew: impl FnOnce(u64),
    ) -> Option<Result<F, FramedError<E>>> {
        match item {
            Some(Err(FramedError::Break { generation, source })) => {
                self.unreported = Some(ConnError::Break { generation, source });
                renew(generation);
                self.unreported.take().map(|error| Err(error.with_codec_error()))
            }
            item => item,
        }
    }

    /// Reads once, and either sets the next state or returns the error to yield.
    fn poll_read<S, E>(&mut self, half: &mut ReadHalf<S>, cx: &mut Context<'_>) -> Poll<Option<FramedError<E>>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let is_wanted = self.state == InboundState::Read;
        if self.buffer.is_empty() && self.peak > KEPT_CAPACITY {
            // One long frame must not hold the memory for ever.
            (self.buffer, self.peak) = (BytesMut::new(), 0);
        }
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(INITIAL_CAPACITY);
        }
        // A read into an empty space would look like the end of the stream.
        self.buffer.reserve(1);
        let outcome = ready!(poll_read_buf(Pin::new(half), cx, &mut self.buffer));
        self.peak = self.peak.max(self.buffer.len());
        match outcome {
            Ok(0) if is_wanted => self.state = InboundState::DecodeEof,
            Ok(0) => self.state = InboundState::ReportClose,
            Ok(_) if is_wanted => self.state = InboundState::Decode,
            Ok(_) => self.buffer.clear(),
            Err(error) => {
                let error = FramedError::from_conn(error);
                if error.is_none() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(error);
            }
        }
        Poll::Ready(None)
    }

    /// The link that the next frame comes from.
    pub(super) fn generation<S>(&self, half: &ReadHalf<S>) -> u64 {
        match self.state {
            // The half has reported the close, and the codec may still find a frame in the rest.
            InboundState::DecodeEof | InboundState::ReportClose => half.last_reported(),
            _ => half.used().max(half.last_reported() + 1),
        }
    }

    /// Breaks a link. If it is the reader's, drops what was received on it: the next item is the break.
    pub(super) fn break_link<S>(&mut self, half: &ReadHalf<S>, generation: u64) {
        // The next link to read from may not be there yet.
        let is_current = generation == self.generation(half) && generation <= half.generation();
        match self.state {
            InboundState::DecodeEof if is_current => self.state = InboundState::ReportClose,
            InboundState::Read | InboundState::Decode if is_current && self.unreported.is_none() => {
                self.buffer.clear();
                self.failed_at = None;
                self.state = InboundState::Discard;
            }
            _ => {}
        }
        half.break_link(generation);
    }

    /// Drops what was received and reports nothing of the links before the next one. Keeps the end of the connection.
    pub(super) fn start_over(&mut self) {
        self.unreported = None;
        if self.state != InboundState::Ended {
            self.start_link();
        }
    }

    /// Starts over for the next link. Frees the buffer as well, which one large frame may have made grow.
    fn start_link(&mut self) {
        (self.buffer, self.peak) = (BytesMut::new(), 0);
        self.failed_at = None;
        self.state = InboundState::Read;
    }
}
