//! Both directions in one value.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::codec::{Decoder, Encoder};

use super::codecs::Codecs;
use super::factory::Factory;
use super::inbound::Inbound;
use super::outbound::{Operation, Outbound};
use super::{FramedError, FramedRead, FramedWrite};
use crate::{Conn, ReadHalf, WriteHalf};

/// A [`Conn`] as a stream and a sink of frames, which goes on with the next link after a break.
///
/// See [the module](super) for what is told, what is dropped, and what a loop over it looks like.
///
/// # Breaks
///
/// The stream yields every break once, at its place: between the last frame of the old link and the first of the next.
/// The sink is told of a break if it meets it before the stream has yielded it, or if the break took frames that no flush had
/// confirmed. So a program that is told by the stream, and has nothing unconfirmed, sends on the next link without another
/// error; and one that is told by the sink still sees the break in the stream, with the same generation.
///
/// That holds as well if two tasks use it through `futures_util::StreamExt::split`; but its `SplitSink` has room for one frame
/// of its own, which it may send after it has passed on an error. [`into_split`](Framed::into_split) has no such room and no
/// lock, and its sink is told of every break.
///
/// # Cancel safety
///
/// The future of `next()` may be dropped at any await: no frame is lost. If the future of `send(frame)` is dropped, the
/// frame was either not taken yet, or it is in the sink and leaves with the next flush, whole.
pub struct Framed<C, S = TcpStream> {
    read: ReadHalf<S>,
    write: WriteHalf<S>,
    inbound: Inbound,
    outbound: Outbound,
    codecs: Codecs<C>,
}

impl<C: Clone + Send + 'static, S> Framed<C, S> {
    /// Frames by `codec`, of which every link gets a clone.
    ///
    /// The value itself is never used, so it should be as it is at the start of a link.
    pub fn new(conn: Conn<S>, codec: C) -> Self {
        Self::build(conn, Factory::prototype(codec))
    }
}

impl<C, S> Framed<C, S> {
    /// Frames by codecs that `make` makes: one at once, and one after each break.
    ///
    /// One codec serves both directions of a link. (Only when the sink has been told of a break that the stream has not
    /// come to yet, two are in use.) If `make` panics, the call that needed the codec does; the next one tries again, and then
    /// tells what this one had to tell.
    ///
    /// ```
    /// use perconn::codec::Framed;
    /// use tokio_util::codec::LengthDelimitedCodec;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::Error> {
    /// let conn = perconn::Conn::builder("frames.example:4000").build()?;
    /// let framed = Framed::with_factory(conn, || LengthDelimitedCodec::builder().max_frame_length(1 << 16).new_codec());
    /// # drop(framed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_factory(conn: Conn<S>, make: impl FnMut() -> C + Send + 'static) -> Self {
        Self::build(conn, Factory::new(make))
    }

    fn build(conn: Conn<S>, factory: Factory<C>) -> Self {
        let last_reported = conn.last_reported();
        // Halves, so that a break which the sink meets first takes nothing that has arrived from the stream.
        let (read, write) = conn.into_split();
        let (inbound, outbound) = (Inbound::new(), Outbound::new(last_reported));
        Self { read, write, inbound, outbound, codecs: Codecs::new(last_reported, factory) }
    }

    /// The connection, by its reading half: `generation()`, `status()`, `connected()`, `close()`, `get_ref()`.
    ///
    /// To break the link on purpose, use [`reconnect`](Framed::reconnect) instead of the half's own.
    pub fn get_ref(&self) -> &ReadHalf<S> {
        &self.read
    }

    /// The codec of the link on which the stream is.
    pub fn codec(&self) -> &C {
        self.codecs.of_stream()
    }

    /// Breaks the stream's link on purpose and drops what was received on it: the stream's next item is the
    /// [`Break`](FramedError::Break), unless the end of the connection comes before it.
    ///
    /// For a caller who cannot make sense of what he receives. ([`Conn::reconnect`] alone lets the reader have the bytes
    /// that had arrived.) If that link has broken already, nothing is done to a newer one. The redial keeps to the backoff.
    ///
    /// In an outage, the next dial is made at once. But not as long as the stream has still to tell of the break and has
    /// received something on that link: a server that says nonsense and closes would be redialed without a delay. The
    /// `reconnect` of the [half](Framed::get_ref) does it even then.
    pub fn reconnect(&mut self) {
        self.inbound.reconnect(&self.read);
    }

    /// How many bytes of frames that are not flushed the sink takes before it has to write: 8 KiB unless
    /// [set](Framed::set_backpressure_boundary).
    pub fn backpressure_boundary(&self) -> usize {
        self.outbound.boundary()
    }

    /// Sets how many bytes the sink takes before it has to write. The last frame may go beyond it. With zero, every frame
    /// waits until the one before it is flushed.
    pub fn set_backpressure_boundary(&mut self, boundary: usize) {
        self.outbound.set_boundary(boundary);
    }

    /// Gives the connection back. What was received and not yielded, and accepted and not written, is dropped: do it
    /// after a flush and a break, or what is read next may begin within a frame.
    ///
    /// That holds for a break as well: if the peer has closed, and the stream has yielded what was left before it but not the
    /// break itself, then no operation tells of it any more. [`Conn::told`] shows it.
    pub fn into_inner(self) -> Conn<S> {
        match self.read.reunite(self.write) {
            Ok(conn) => conn,
            Err(_) => unreachable!("both halves come from one connection"),
        }
    }

    /// Divides it for two tasks. Each side is told of every break.
    ///
    /// Frames that were received or accepted already go with their side. The reading side keeps the codec; the writing
    /// side gets a fresh one. So if a codec carries something from one frame to the next, split before the first.
    pub fn into_split(self) -> (FramedRead<C, S>, FramedWrite<C, S>) {
        let (read, write, factory) = self.codecs.into_split();
        let write = FramedWrite::from_parts(self.write, self.outbound, write, factory.clone());
        (FramedRead::from_parts(self.read, self.inbound, read, factory), write)
    }
}

impl<C, S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Framed<C, S> {
    fn poll_sink<E>(&mut self, cx: &mut Context<'_>, operation: Operation) -> Poll<Result<(), FramedError<E>>> {
        let is_late = self.outbound.loss().is_some();
        ready!(self.outbound.poll(operation, &mut self.write, cx));
        match self.outbound.loss() {
            Some(FramedError::Break { .. }) => self.codecs.advance_sink(self.outbound.position()),
            Some(_) => self.codecs.renew_sink(is_late),
            None => {}
        }
        Poll::Ready(self.outbound.tell())
    }
}

// A codec is never pinned.
impl<C, S> Unpin for Framed<C, S> {}

impl<C, S> Stream for Framed<C, S>
where
    C: Decoder,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Item = Result<C::Item, FramedError<C::Error>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let me = self.get_mut();
        let item = ready!(me.inbound.poll_next(&mut me.read, me.codecs.of_stream_mut(), cx));
        let (codecs, outbound) = (&mut me.codecs, &mut me.outbound);
        Poll::Ready(me.inbound.tell(item, |generation| {
            codecs.advance_stream(generation, outbound.position());
            outbound.learn(generation);
        }))
    }
}

impl<C, S> FusedStream for Framed<C, S>
where
    C: Decoder,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn is_terminated(&self) -> bool {
        self.inbound.is_ended()
    }
}

impl<C, S, I> Sink<I> for Framed<C, S>
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
        me.outbound.start_send(me.codecs.of_sink_mut(), frame)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().poll_sink(cx, Operation::Flush)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().poll_sink(cx, Operation::Close)
    }
}

impl<C: fmt::Debug, S> fmt::Debug for Framed<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framed").field("conn", &self.read).field("codec", self.codec()).finish_non_exhaustive()
    }
}
