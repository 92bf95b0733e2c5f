//! The receiving side: bytes of one link at a time, and where the reader stands between two links.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder;
use tokio_util::io::poll_read_buf;

use super::error::Untold;
use super::{FramedError, INITIAL_CAPACITY};
use crate::{ReadHalf, Status};

/// What has been received of one link and not been decoded yet.
///
/// Before each read, the codec has taken every whole frame. So when a break is told, what is left is at most a part of
/// one.
pub(super) struct Inbound {
    buffer: BytesMut,
    state: State,
    /// How long the buffer was when the codec last failed, if it has not succeeded since.
    failed_at: Option<usize>,
    /// Something has come of this link.
    has_received: bool,
    /// A break for which there is no codec yet.
    untold: Option<Untold>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// The codec wants more bytes.
    Read,
    /// There may be a frame in the buffer.
    Decode,
    /// What still comes from this link is not wanted.
    Discard,
    /// The peer has closed; the codec has the last word about what it left.
    LastFrames,
    /// The peer's close is to be told.
    TellClose,
    /// It was told that there will be no further link.
    Ended,
}

type Item<C> = Result<<C as Decoder>::Item, FramedError<<C as Decoder>::Error>>;

impl Inbound {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::new(), state: State::Read, failed_at: None, has_received: false, untold: None }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The next item, to be passed on by [`tell`](Inbound::tell). After a `Break` the caller passes a fresh codec.
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
        if let Some(error) = self.untold.take() {
            return Poll::Ready(Some(Err(error.widen())));
        }
        loop {
            match self.state {
                State::Ended => return Poll::Ready(None),
                State::Decode => match codec.decode(&mut self.buffer) {
                    Ok(frame) => {
                        self.failed_at = None;
                        match frame {
                            Some(frame) => return Poll::Ready(Some(Ok(frame))),
                            None => self.state = State::Read,
                        }
                    }
                    // It cannot get past these bytes, and would fail for ever.
                    Err(_) if self.failed_at == Some(self.buffer.len()) => self.reconnect(half),
                    Err(error) => {
                        self.failed_at = Some(self.buffer.len());
                        return Poll::Ready(Some(Err(FramedError::Codec(error))));
                    }
                },
                State::LastFrames => match codec.decode_eof(&mut self.buffer) {
                    Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                    Ok(None) => self.state = State::TellClose,
                    Err(error) => {
                        self.state = State::TellClose;
                        return Poll::Ready(Some(Err(FramedError::Codec(error))));
                    }
                },
                State::TellClose => {
                    self.begin_link();
                    return Poll::Ready(Some(Err(FramedError::peer_closed(half.last_reported()))));
                }
                State::Read | State::Discard => match ready!(self.poll_read(half, cx)) {
                    None => {}
                    Some(error) => {
                        self.begin_link();
                        if error.is_final() {
                            self.state = State::Ended;
                        }
                        return Poll::Ready(Some(Err(error)));
                    }
                },
            }
        }
    }

    /// Passes an item on. Before a break is told, `renew` makes the codec for what comes after it. If that panics, the next
    /// item is the break again.
    pub(super) fn tell<F, E>(
        &mut self,
        item: Option<Result<F, FramedError<E>>>,
        renew: impl FnOnce(u64),
    ) -> Option<Result<F, FramedError<E>>> {
        match item {
            Some(Err(FramedError::Break { generation, source })) => {
                self.untold = Some(Untold::Break { generation, source });
                renew(generation);
                self.untold.take().map(|error| Err(error.widen()))
            }
            item => item,
        }
    }

    /// Reads once and says what to do next: that is in the state, or the error to tell.
    fn poll_read<S, E>(&mut self, half: &mut ReadHalf<S>, cx: &mut Context<'_>) -> Poll<Option<FramedError<E>>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let is_wanted = self.state == State::Read;
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(INITIAL_CAPACITY);
        }
        // A read into no room at all would look like the end of the stream.
        self.buffer.reserve(1);
        let outcome = ready!(poll_read_buf(Pin::new(half), cx, &mut self.buffer));
        self.has_received |= outcome.as_ref().is_ok_and(|n| *n > 0);
        match outcome {
            Ok(0) if is_wanted => self.state = State::LastFrames,
            Ok(0) => self.state = State::TellClose,
            Ok(_) if is_wanted => self.state = State::Decode,
            Ok(_) => self.buffer.clear(),
            Err(error) => {
                let error = FramedError::of(error);
                if error.is_none() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(error);
            }
        }
        Poll::Ready(None)
    }

    /// Breaks the link on which the reader is and drops what came of it; in an outage, dials at once.
    pub(super) fn reconnect<S>(&mut self, half: &ReadHalf<S>) {
        match self.state {
            State::Ended | State::TellClose => return,
            // The half has been told already: a link that is up now is the next one.
            _ if self.untold.is_some() => return,
            State::LastFrames => {
                self.state = State::TellClose;
                return;
            }
            State::Read | State::Decode | State::Discard => {}
        }
        self.buffer.clear();
        self.failed_at = None;
        let last_reported = half.last_reported();
        let newest = half.generation();
        if newest == last_reported {
            // There is nothing of a link to discard.
            self.state = State::Read;
            half.reconnect();
            return;
        }
        self.state = State::Discard;
        let shall_redial = match half.status() {
            Status::Connected { generation, .. } => generation == last_reported + 1,
            // The reader's link has broken already. If it has said something, that may be what the caller complains of, and
            // a server that says it and closes must not be dialed without a delay.
            _ => !self.has_received,
        };
        if shall_redial {
            half.reconnect();
        }
    }

    /// Nothing of the old link is left. (Nor its memory: one large frame may have made it grow.)
    fn begin_link(&mut self) {
        self.buffer = BytesMut::new();
        self.failed_at = None;
        self.has_received = false;
        self.state = State::Read;
    }
}
