//! The write half of a connection as a sink of frames.
//!
//! Next: [`outbound`](super::outbound), which encodes and writes.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::codec::Encoder;

use super::FramedError;
use super::factory::CodecFactory;
use super::outbound::{Operation, Outbound};
use crate::WriteHalf;

/// A [`WriteHalf`] as a sink of frames, which goes on with the next link after a break.
///
/// It reports every break once. See [the module](super) for the rest. Dropping it shuts the writing side down, as
/// dropping a [`WriteHalf`] does.
///
/// [`FramedRead`](super::FramedRead) shows both halves in use.
///
/// # Cancel safety
///
/// As for [`Framed`](super::Framed#cancel-safety).
pub struct FramedWrite<C, S = TcpStream> {
    /// Dropping it shuts the writing side down.
    half: WriteHalf<S>,
    /// The frames that were accepted and not written yet; all for the same link.
    outbound: Outbound,
    /// For the present link only; replaced when frames are lost.
    codec: C,
    /// Makes the codec of the next link.
    factory: CodecFactory<C>,
}

impl<C: Clone + Send + 'static, S> FramedWrite<C, S> {
    /// Encodes frames with a clone of `codec` for each link.
    ///
    /// The value itself is never used, so it should be as it is at the start of a link.
    pub fn new(half: WriteHalf<S>, codec: C) -> Self {
        Self::build(half, CodecFactory::clone_of(codec))
    }
}

impl<C, S> FramedWrite<C, S> {
    /// Encodes frames with codecs that `make` makes: one at once, and one after each break.
    ///
    /// See [`Framed::with_factory`](super::Framed::with_factory) for a `make` that panics.
    pub fn with_factory(half: WriteHalf<S>, make: impl FnMut() -> C + Send + 'static) -> Self {
        Self::build(half, CodecFactory::new(make))
    }

    /// Starts without unwritten frames, with the first codec made at once.
    fn build(half: WriteHalf<S>, factory: CodecFactory<C>) -> Self {
        let outbound = Outbound::new(half.last_reported());
        Self::from_parts(half, outbound, factory.make(), factory)
    }

    /// Goes on where a whole [`Framed`](super::Framed) was.
    pub(super) fn from_parts(half: WriteHalf<S>, outbound: Outbound, codec: C, factory: CodecFactory<C>) -> Self {
        Self { half, outbound, codec, factory }
    }

    /// The half of the connection.
    pub fn get_ref(&self) -> &WriteHalf<S> {
        &self.half
    }

    /// The codec for the next frame.
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// How many bytes of unwritten frames the sink holds before it has to write.
    ///
    /// The default is 8 KiB; [`set_backpressure_boundary`](FramedWrite::set_backpressure_boundary) changes it.
    pub fn backpressure_boundary(&self) -> usize {
        self.outbound.boundary()
    }

    /// Sets how many bytes the sink holds before it has to write; see
    /// [`Framed::set_backpressure_boundary`](super::Framed::set_backpressure_boundary).
    pub fn set_backpressure_boundary(&mut self, boundary: usize) {
        self.outbound.set_boundary(boundary);
    }

    /// Gives the link up for this side, with the frames that were accepted and not flushed; see
    /// [`Framed::abandon`](super::Framed::abandon).
    ///
    /// If it breaks the link, the other side reports that break.
    ///
    /// # Panics
    ///
    /// If the codec cannot be made: then nothing has changed.
    #[doc(alias("reconnect", "reset", "disconnect", "cancel"))]
    pub fn abandon(&mut self) {
        self.codec = self.factory.make();
        self.half.abandon();
        self.outbound.start_over(self.half.last_reported());
    }

    /// Gives the half back. Frames that were accepted and not written are dropped: flush first.
    pub fn into_inner(self) -> WriteHalf<S> {
        self.half
    }
}

impl<C, S: AsyncRead + AsyncWrite + Unpin + Send + 'static> FramedWrite<C, S> {
    /// Writes and flushes the frames that were accepted, and closes the whole connection; see
    /// [`Framed::close`](super::Framed::close).
    ///
    /// # Errors
    ///
    /// The error of the flush: these frames may be lost. The connection is closed all the same.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a future that is dropped during the flush leaves the connection open; call it again.
    pub async fn close(&mut self) -> Result<(), FramedError<Infallible>> {
        let flushed = poll_fn(|cx| self.poll_sink(cx, Operation::Flush)).await;
        self.half.close().await;
        flushed
    }

    /// Runs an operation. After a loss, makes a fresh codec before it reports the loss.
    fn poll_sink<E>(&mut self, cx: &mut Context<'_>, operation: Operation) -> Poll<Result<(), FramedError<E>>> {
        ready!(self.outbound.poll(operation, &mut self.half, cx));
        if self.outbound.loss().is_some() {
            self.codec = self.factory.make();
        }
        Poll::Ready(self.outbound.take_outcome())
    }
}

// A codec is never pinned.
impl<C, S> Unpin for FramedWrite<C, S> {}

impl<C, S, I> Sink<I> for FramedWrite<C, S>
where
    C: Encoder<I>,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Error = FramedError<C::Error>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().poll_sink(cx, Operation::Ready)
    }

    fn start_send(self: Pin<&mut Self>, frame: I) -> Result<(), Self::Error> {
        let me = self.get_mut();
        me.outbound.start_send(&mut me.codec, frame)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().poll_sink(cx, Operation::Flush)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().poll_sink(cx, Operation::Close)
    }
}

impl<C: fmt::Debug, S> fmt::Debug for FramedWrite<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedWrite").field("half", &self.half).field("codec", &self.codec).finish_non_exhaustive()
    }
}
