//! One direction each, for two tasks.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::codec::{Decoder, Encoder};

use super::FramedError;
use super::factory::Factory;
use super::inbound::Inbound;
use super::outbound::{Operation, Outbound};
use crate::{ReadHalf, WriteHalf};

/// A [`ReadHalf`] as a stream of frames, which goes on with the next link after a break.
///
/// It yields every break once, at its place between the last frame of the old link and the first of the next. See
/// [the module](super) for the rest.
///
/// # Cancel safety
///
/// As for [`Framed`](super::Framed#cancel-safety).
pub struct FramedRead<C, S = TcpStream> {
    half: ReadHalf<S>,
    inbound: Inbound,
    codec: C,
    factory: Factory<C>,
}

/// A [`WriteHalf`] as a sink of frames, which goes on with the next link after a break.
///
/// It is told of every break once. See [the module](super) for the rest. Dropping it ends the conversation, as dropping a
/// [`WriteHalf`] does.
///
/// # Cancel safety
///
/// As for [`Framed`](super::Framed#cancel-safety).
pub struct FramedWrite<C, S = TcpStream> {
    half: WriteHalf<S>,
    outbound: Outbound,
    codec: C,
    factory: Factory<C>,
}

impl<C: Clone + Send + 'static, S> FramedRead<C, S> {
    /// Frames by `codec`, of which every link gets a clone.
    pub fn new(half: ReadHalf<S>, codec: C) -> Self {
        Self::build(half, Factory::prototype(codec))
    }
}

impl<C, S> FramedRead<C, S> {
    /// Frames by codecs that `make` makes: one at once, and one after each break.
    pub fn with_factory(half: ReadHalf<S>, make: impl FnMut() -> C + Send + 'static) -> Self {
        Self::build(half, Factory::new(make))
    }

    fn build(half: ReadHalf<S>, factory: Factory<C>) -> Self {
        Self::from_parts(half, Inbound::new(), factory.make(), factory)
    }

    pub(super) fn from_parts(half: ReadHalf<S>, inbound: Inbound, codec: C, factory: Factory<C>) -> Self {
        Self { half, inbound, codec, factory }
    }

    /// The half of the connection. To break the link on purpose, use [`reconnect`](FramedRead::reconnect) instead of the
    /// half's own.
    pub fn get_ref(&self) -> &ReadHalf<S> {
        &self.half
    }

    /// The codec of the link on which the stream is.
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// Breaks the stream's link on purpose and drops what was received on it; see
    /// [`Framed::reconnect`](super::Framed::reconnect).
    pub fn reconnect(&mut self) {
        self.inbound.reconnect(&self.half);
    }

    /// Gives the half back. What was received and not yielded is dropped, be it the break after the last frame of a link
    /// that the peer has closed: no read tells of that any more, only [`ReadHalf::told`] does.
    pub fn into_inner(self) -> ReadHalf<S> {
        self.half
    }
}

impl<C: Clone + Send + 'static, S> FramedWrite<C, S> {
    /// Frames by `codec`, of which every link gets a clone.
    pub fn new(half: WriteHalf<S>, codec: C) -> Self {
        Self::build(half, Factory::prototype(codec))
    }
}

impl<C, S> FramedWrite<C, S> {
    /// Frames by codecs that `make` makes: one at once, and one after each break.
    pub fn with_factory(half: WriteHalf<S>, make: impl FnMut() -> C + Send + 'static) -> Self {
        Self::build(half, Factory::new(make))
    }

    fn build(half: WriteHalf<S>, factory: Factory<C>) -> Self {
        let outbound = Outbound::new(half.last_reported());
        Self::from_parts(half, outbound, factory.make(), factory)
    }

    pub(super) fn from_parts(half: WriteHalf<S>, outbound: Outbound, codec: C, factory: Factory<C>) -> Self {
        Self { half, outbound, codec, factory }
    }

    /// The half of the connection.
    pub fn get_ref(&self) -> &WriteHalf<S> {
        &self.half
    }

    /// The codec of the link for which the next frame is.
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// How many bytes of frames that are not flushed the sink takes before it has to write: 8 KiB unless
    /// [set](FramedWrite::set_backpressure_boundary).
    pub fn backpressure_boundary(&self) -> usize {
        self.outbound.boundary()
    }

    /// Sets how many bytes the sink takes before it has to write; see
    /// [`Framed::set_backpressure_boundary`](super::Framed::set_backpressure_boundary).
    pub fn set_backpressure_boundary(&mut self, boundary: usize) {
        self.outbound.set_boundary(boundary);
    }

    /// Gives the half back. What was accepted and not written is dropped: do it after a flush.
    pub fn into_inner(self) -> WriteHalf<S> {
        self.half
    }
}

impl<C, S: AsyncRead + AsyncWrite + Unpin + Send + 'static> FramedWrite<C, S> {
    fn poll_sink<E>(&mut self, cx: &mut Context<'_>, operation: Operation) -> Poll<Result<(), FramedError<E>>> {
        ready!(self.outbound.poll(operation, &mut self.half, cx));
        if self.outbound.loss().is_some() {
            self.codec = self.factory.make();
        }
        Poll::Ready(self.outbound.tell())
    }
}

// A codec is never pinned.
impl<C, S> Unpin for FramedRead<C, S> {}
impl<C, S> Unpin for FramedWrite<C, S> {}

impl<C, S> Stream for FramedRead<C, S>
where
    C: Decoder,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Item = Result<C::Item, FramedError<C::Error>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let me = self.get_mut();
        let item = ready!(me.inbound.poll_next(&mut me.half, &mut me.codec, cx));
        let (codec, factory) = (&mut me.codec, &me.factory);
        Poll::Ready(me.inbound.tell(item, |_| *codec = factory.make()))
    }
}

impl<C, S> FusedStream for FramedRead<C, S>
where
    C: Decoder,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn is_terminated(&self) -> bool {
        self.inbound.is_ended()
    }
}

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

impl<C: fmt::Debug, S> fmt::Debug for FramedRead<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedRead").field("half", &self.half).field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl<C: fmt::Debug, S> fmt::Debug for FramedWrite<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedWrite").field("half", &self.half).field("codec", &self.codec).finish_non_exhaustive()
    }
}
