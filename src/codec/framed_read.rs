//! The read half of a connection as a stream of frames.
//!
//! Next: [`inbound`](super::inbound), which reads and decodes.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::codec::Decoder;

use super::FramedError;
use super::factory::CodecFactory;
use super::inbound::Inbound;
use crate::ReadHalf;

/// A [`ReadHalf`] as a stream of frames, which goes on with the next link after a break.
///
/// It yields every break once, at its place between the last frame of the old link and the first of the next. See
/// [the module](super) for the rest.
///
/// ```
/// use perconn::Conn;
/// use perconn::codec::{FramedRead, FramedWrite};
/// use tokio_util::codec::LinesCodec;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::Error> {
/// let (read, write) = Conn::builder("chat.example:4000").build()?.into_split();
/// let stream = FramedRead::new(read, LinesCodec::new_with_max_length(64 * 1024));
/// let sink = FramedWrite::new(write, LinesCodec::new());
/// # drop((stream, sink));
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// As for [`Framed`](super::Framed#cancel-safety).
pub struct FramedRead<C, S = TcpStream> {
    /// Reports each break, at its place after the last byte of the link.
    half: ReadHalf<S>,
    /// What was received on the half's link and is not decoded yet.
    inbound: Inbound,
    /// For the present link only; replaced before a break is yielded.
    codec: C,
    /// Makes the codec of the next link.
    factory: CodecFactory<C>,
}

impl<C: Clone + Send + 'static, S> FramedRead<C, S> {
    /// Decodes frames with a clone of `codec` for each link.
    ///
    /// The value itself is never used, so it should be as it is at the start of a link.
    pub fn new(half: ReadHalf<S>, codec: C) -> Self {
        Self::build(half, CodecFactory::clone_of(codec))
    }
}

impl<C, S> FramedRead<C, S> {
    /// Decodes frames with codecs that `make` makes: one at once, and one after each break.
    ///
    /// See [`Framed::with_factory`](super::Framed::with_factory) for a `make` that panics.
    pub fn with_factory(half: ReadHalf<S>, make: impl FnMut() -> C + Send + 'static) -> Self {
        Self::build(half, CodecFactory::new(make))
    }

    /// Starts on the half's link, with the first codec made at once.
    fn build(mut half: ReadHalf<S>, factory: CodecFactory<C>) -> Self {
        // The peer's close is yielded as a break in any case, after the codec has seen the end of the stream.
        half.set_close_as_error(Some(false));
        Self::from_parts(half, Inbound::new(), factory.make(), factory)
    }

    /// Goes on where a whole [`Framed`](super::Framed) was.
    pub(super) fn from_parts(half: ReadHalf<S>, inbound: Inbound, codec: C, factory: CodecFactory<C>) -> Self {
        Self { half, inbound, codec, factory }
    }

    /// The half of the connection.
    pub fn get_ref(&self) -> &ReadHalf<S> {
        &self.half
    }

    /// The number of the link that the stream's next frame comes from. It may not be up yet.
    ///
    /// After a [`Codec`](FramedError::Codec) error this is the link whose bytes make no sense, also if it has broken since
    /// and a newer one is up: `framed.break_link(framed.stream_generation())` drops them.
    pub fn stream_generation(&self) -> u64 {
        self.inbound.generation(&self.half)
    }

    /// The codec of the stream's link.
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// Gives the link up for this side, with what was received and not yielded; see
    /// [`Framed::abandon`](super::Framed::abandon).
    ///
    /// If it breaks the link, the other side reports that break. To give a link up with both sides, call it on both.
    ///
    /// # Panics
    ///
    /// If the codec cannot be made: then nothing has changed.
    #[doc(alias("reconnect", "reset", "disconnect", "cancel"))]
    pub fn abandon(&mut self) {
        self.codec = self.factory.make();
        self.half.abandon();
        self.inbound.start_over();
    }

    /// Breaks the link of this generation on purpose. If it is the stream's, drops what was received on it; see
    /// [`Framed::break_link`](super::Framed::break_link).
    #[doc(alias("reconnect", "disconnect", "reset"))]
    pub fn break_link(&mut self, generation: u64) {
        self.inbound.break_link(&self.half, generation);
    }

    /// Gives the half back. What was received and not yielded is dropped.
    ///
    /// That includes the break after the last frame of a link that the peer has closed: no read reports it any more,
    /// only [`ReadHalf::last_reported`] shows it.
    pub fn into_inner(mut self) -> ReadHalf<S> {
        self.half.set_close_as_error(None);
        self.half
    }
}

// A codec is never pinned.
impl<C, S> Unpin for FramedRead<C, S> {}

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
        Poll::Ready(me.inbound.report(item, |_| *codec = factory.make()))
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

impl<C: fmt::Debug, S> fmt::Debug for FramedRead<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedRead").field("half", &self.half).field("codec", &self.codec).finish_non_exhaustive()
    }
}
