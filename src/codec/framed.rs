//! A whole connection as a stream and a sink of frames.
//!
//! Next: [`inbound`](super::inbound) and [`outbound`](super::outbound), its two directions.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::codec::{Decoder, Encoder};

use super::codecs::Codecs;
use super::factory::CodecFactory;
use super::inbound::Inbound;
use super::outbound::{Operation, Outbound};
use super::{FramedError, FramedRead, FramedWrite};
use crate::{Conn, ReadHalf, WriteHalf};

/// A [`Conn`] as a stream and a sink of frames, which goes on with the next link after a break.
///
/// See [the module](super) for what is reported, what is dropped, and what a loop over it looks like.
///
/// # Breaks
///
/// The stream yields every break once, at its place: between the last frame of the old link and the first of the next.
/// The sink reports a break if it meets it before the stream has yielded it, or if the break took frames that no
/// flush had confirmed. So if the stream reports a break and nothing is unconfirmed, the next send goes to the next
/// link without another error. If the sink reports a break, the stream still yields it, with the same generation.
///
/// That also holds if two tasks use it through `futures_util::StreamExt::split`. But a `SplitSink` has room for one
/// frame of its own, which it may send after it has returned an error. [`into_split`](Framed::into_split) has no such
/// room and no lock, and its sink reports every break.
///
/// # Cancel safety
///
/// You may drop the future of `next()` at any await: no frame is lost. If you drop the future of `send(frame)`, the
/// frame is either not taken yet, or it is in the sink and leaves whole with the next flush.
pub struct Framed<C, S = TcpStream> {
    /// The stream's side. It may be on another link than `write`.
    read: ReadHalf<S>,
    /// The sink's side. Dropping it shuts the writing side down.
    write: WriteHalf<S>,
    /// What was received on the stream's link and is not decoded yet.
    inbound: Inbound,
    /// The frames that the sink has accepted and not written yet.
    outbound: Outbound,
    /// One for both directions, or two while they are on different links.
    codecs: Codecs<C>,
}

impl<C: Clone + Send + 'static, S> Framed<C, S> {
    /// Encodes and decodes frames with a clone of `codec` for each link.
    ///
    /// The value itself is never used, so it should be as it is at the start of a link.
    pub fn new(conn: Conn<S>, codec: C) -> Self {
        Self::build(conn, CodecFactory::clone_of(codec))
    }
}

impl<C, S> Framed<C, S> {
    /// Encodes and decodes frames with codecs that `make` makes: one at once, and one after each break.
    ///
    /// One codec serves both directions of a link. Two are in use only while the sink has reported a break that the
    /// stream has not come to yet. If `make` panics, so does the call that needed the codec. The next call tries
    /// again, and then reports what this one had to report.
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
        Self::build(conn, CodecFactory::new(make))
    }

    /// Splits the connection, with the first codec made at once.
    fn build(conn: Conn<S>, factory: CodecFactory<C>) -> Self {
        let last_reported = conn.last_reported();
        // Halves, so that the stream still gets what arrived before a break that the sink meets first.
        let (mut read, write) = conn.into_split();
        // The peer's close is yielded as a break in any case, after the codec has seen the end of the stream.
        read.set_close_as_error(Some(false));
        let (inbound, outbound) = (Inbound::new(), Outbound::new(last_reported));
        Self { read, write, inbound, outbound, codecs: Codecs::new(last_reported, factory) }
    }

    /// The read half of the connection, for `generation()`, `status()`, `connected()`, `dial_now()` and `get_ref()`.
    pub fn get_ref(&self) -> &ReadHalf<S> {
        &self.read
    }

    /// The number of the link that the stream's next frame comes from. It may not be up yet.
    ///
    /// After a [`Codec`](FramedError::Codec) error this is the link whose bytes make no sense, also if it has broken since
    /// and a newer one is up: `framed.break_link(framed.stream_generation())` drops them.
    pub fn stream_generation(&self) -> u64 {
        self.inbound.generation(&self.read)
    }

    /// The codec of the stream's link.
    pub fn codec(&self) -> &C {
        self.codecs.stream()
    }

    /// Gives the link up, with everything under way on it: what was received and not yielded, and the frames that were
    /// accepted and not flushed, are dropped. Neither direction reports a break, and the next frame belongs to the next
    /// link.
    ///
    /// For a program that has lost its place in the conversation: when a request's answer does not come in time. See
    /// [`Conn::abandon`], which also says which link is broken. To have the break yielded to the code that handles all
    /// breaks, use [`break_link`](Framed::break_link).
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_util::{SinkExt, StreamExt};
    /// use perconn::Conn;
    /// use perconn::codec::{Framed, Terminated};
    /// use tokio::time::timeout;
    /// use tokio_util::codec::LinesCodec;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = server.local_addr()?;
    /// # tokio::spawn(async move {
    /// #     let _never_answers = server.accept().await?;
    /// #     let (mut stream, _) = server.accept().await?;
    /// #     let (mut read, mut write) = stream.split();
    /// #     tokio::io::copy(&mut read, &mut write).await
    /// # });
    /// let conn = Conn::builder(address).retry_min(Duration::from_millis(10)).build()?;
    /// // By itself, a `LinesCodec` takes half a line for a whole one when the peer closes.
    /// let mut framed = Framed::new(conn, Terminated(LinesCodec::new_with_max_length(1024)));
    /// let answer = loop {
    ///     framed.get_ref().connected().await?; // fails when the connection has ended
    ///     let exchange = async {
    ///         framed.send("ping").await?;
    ///         framed.next().await.transpose()
    ///     };
    ///     match timeout(Duration::from_millis(100), exchange).await {
    ///         Ok(Ok(Some(answer))) => break answer,
    ///         // Late, or an error: `send` and `next` would each report the break, and each send the request again.
    ///         _ => framed.abandon(),
    ///     }
    /// };
    /// assert_eq!(answer, "ping");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If the codec cannot be made: then nothing has changed.
    #[doc(alias("reconnect", "reset", "disconnect", "cancel"))]
    pub fn abandon(&mut self) {
        let fresh = self.codecs.make();
        // Either direction may be on a later link than the other.
        let used = self.read.used().max(self.write.used());
        let newest_broken = self.read.conn_state().abandon(used);
        let _given_up = [self.read.skip_breaks(newest_broken), self.write.skip_breaks(newest_broken)];
        self.inbound.start_over();
        self.outbound.start_over(newest_broken);
        self.codecs.start_over(fresh, newest_broken);
    }

    /// Breaks the link of this generation on purpose. If it is the stream's link, what was received on it is dropped, and
    /// the stream's next item is the [`Break`](FramedError::Break), unless the end of the connection comes before it.
    ///
    /// For a program that cannot make sense of what it receives. (The `break_link` of the [half](Framed::get_ref) leaves
    /// the bytes that had arrived to the stream.) Does nothing if that link is gone. The redial keeps to the backoff.
    #[doc(alias("reconnect", "disconnect", "reset"))]
    pub fn break_link(&mut self, generation: u64) {
        self.inbound.break_link(&self.read, generation);
    }

    /// How many bytes of unwritten frames the sink holds before it has to write.
    ///
    /// The default is 8 KiB; [`set_backpressure_boundary`](Framed::set_backpressure_boundary) changes it.
    pub fn backpressure_boundary(&self) -> usize {
        self.outbound.boundary()
    }

    /// Sets how many bytes of unwritten frames the sink holds before it has to write.
    ///
    /// The last frame may go beyond the boundary. With zero, every frame waits until the one before it is flushed.
    pub fn set_backpressure_boundary(&mut self, boundary: usize) {
        self.outbound.set_boundary(boundary);
    }

    /// Gives the connection back. Bytes received and not yielded, and frames accepted and not written, are dropped.
    ///
    /// Call it after a flush and a break, or the next read may begin in the middle of a frame.
    ///
    /// A break may be dropped as well: if the peer has closed, and the stream has yielded the last frame but not the
    /// break, then no operation reports that break any more. Only [`Conn::last_reported`] shows it.
    pub fn into_inner(mut self) -> Conn<S> {
        self.read.set_close_as_error(None);
        match self.read.reunite(self.write) {
            Ok(conn) => conn,
            Err(_) => unreachable!("both halves come from one connection"),
        }
    }

    /// Splits it for two tasks. Each side reports every break.
    ///
    /// Frames that were received or accepted already go with their side. The reading side keeps the codec; the writing
    /// side gets a fresh one. So if your codec carries state from one frame to the next, split before the first frame.
    pub fn into_split(self) -> (FramedRead<C, S>, FramedWrite<C, S>) {
        let (read, write, factory) = self.codecs.into_split();
        let write = FramedWrite::from_parts(self.write, self.outbound, write, factory.clone());
        (FramedRead::from_parts(self.read, self.inbound, read, factory), write)
    }
}

impl<C, S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Framed<C, S> {
    /// Writes and flushes the frames that were accepted, and closes the whole connection.
    ///
    /// `SinkExt::close` needs the type of the frames, flushes, and shuts the writing side down; this one also ends the
    /// reading and the redialing, as [`Conn::close`] does. Frames that were accepted wait for a peer that takes nothing,
    /// and in an outage for the next link, as [`when_down`](crate::Builder::when_down) says: put the call into a timeout,
    /// or [`abandon`](Framed::abandon) them first.
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
        self.read.close().await;
        flushed
    }

    /// Runs an operation. After a loss, makes a fresh codec before it reports the loss.
    fn poll_sink<E>(&mut self, cx: &mut Context<'_>, operation: Operation) -> Poll<Result<(), FramedError<E>>> {
        // A loss of an earlier call, whose codec could not be made then.
        let is_retry = self.outbound.loss().is_some();
        ready!(self.outbound.poll(operation, &mut self.write, cx));
        match self.outbound.loss() {
            Some(FramedError::Break { .. }) => self.codecs.advance_sink(self.outbound.known()),
            Some(_) => self.codecs.renew_sink(is_retry),
            None => {}
        }
        Poll::Ready(self.outbound.take_outcome())
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
        let item = ready!(me.inbound.poll_next(&mut me.read, me.codecs.stream_mut(), cx));
        let (codecs, outbound) = (&mut me.codecs, &mut me.outbound);
        Poll::Ready(me.inbound.report(item, |generation| {
            codecs.advance_stream(generation, outbound.known());
            outbound.set_known(generation);
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
        me.outbound.start_send(me.codecs.sink_mut(), frame)
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
