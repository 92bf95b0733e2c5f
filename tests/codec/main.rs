//! Tests of `perconn::codec`: whole frames of one link, in order, and every break at its place.

#[path = "../support/mod.rs"]
mod support;

mod abandon;
mod beside_tokio_util;
mod break_link;
mod chaos;
mod close;
mod factory;
mod framed;
mod patterns;
mod sink;
mod stream;

use std::fmt::Debug;
use std::io;

use futures_util::{Stream, StreamExt};
use perconn::codec::FramedError;
use support::in_time;
use tokio_util::bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

/// The next item, which must come.
async fn next<T: Stream + Unpin>(framed: &mut T) -> T::Item {
    in_time("an item", framed.next()).await.expect("the stream has ended")
}

/// The next item, which must be a frame.
async fn next_frame<T, F: Debug, E: Debug>(framed: &mut T) -> F
where
    T: Stream<Item = Result<F, FramedError<E>>> + Unpin,
{
    next(framed).await.expect("a frame")
}

/// The next item, which must be a break: the number of its link, and the kind of its cause.
async fn next_break<T, F: Debug, E: Debug>(framed: &mut T) -> (u64, io::ErrorKind)
where
    T: Stream<Item = Result<F, FramedError<E>>> + Unpin,
{
    broken(next(framed).await.expect_err("a break"))
}

/// The number of the broken link, and the kind of the cause.
fn broken<E: Debug>(error: FramedError<E>) -> (u64, io::ErrorKind) {
    match error {
        FramedError::Break { generation, source, .. } => (generation, source.kind()),
        other => panic!("not a break: {other:?}"),
    }
}

/// Frames with a number that starts over with each codec, so both ends must use a fresh codec on each link.
#[derive(Debug)]
struct Numbered {
    inner: LengthDelimitedCodec,
    sent: u32,
    received: u32,
}

impl Numbered {
    fn new() -> Self {
        Self { inner: LengthDelimitedCodec::new(), sent: 0, received: 0 }
    }

    /// A frame as it stands on the link.
    fn bytes(&mut self, payload: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::new();
        self.encode(payload, &mut bytes).unwrap();
        bytes
    }
}

impl<T: AsRef<[u8]>> Encoder<T> for Numbered {
    type Error = io::Error;

    fn encode(&mut self, payload: T, bytes: &mut BytesMut) -> io::Result<()> {
        let payload = payload.as_ref();
        let mut frame = BytesMut::with_capacity(4 + payload.len());
        frame.put_u32(self.sent);
        frame.extend_from_slice(payload);
        self.sent += 1;
        self.inner.encode(frame.freeze(), bytes)
    }
}

impl Decoder for Numbered {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Bytes>> {
        let Some(mut frame) = self.inner.decode(bytes)? else { return Ok(None) };
        let number = frame.get_u32();
        if number != self.received {
            let text = format!("frame {number}, but {} was expected", self.received);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.received += 1;
        Ok(Some(frame.freeze()))
    }
}
