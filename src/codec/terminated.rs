//! A codec wrapper for which the end of a link ends no frame.
//!
//! Next: [`inbound`](super::inbound), which calls `decode_eof`.

use std::io;

use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

/// A codec that never takes the end of a link for the end of a frame.
///
/// Some codecs do, such as [`LinesCodec`](tokio_util::codec::LinesCodec): when the peer closes, what follows the last
/// line feed is a line to it. But the kernel also closes the sockets of a killed process cleanly, in the middle of a
/// line if that is how far it came. With this wrapper, such a rest is an error, which is returned before the break.
///
/// It sees only what the codec has left in the buffer. `LengthDelimitedCodec` takes a frame's head out of the buffer
/// at once, so a link that ends right after a head ends without an error.
///
/// ```
/// use perconn::codec::Terminated;
/// use tokio_util::bytes::BytesMut;
/// use tokio_util::codec::{Decoder, LinesCodec};
///
/// let mut half = BytesMut::from("half a li");
/// assert!(Terminated(LinesCodec::new()).decode_eof(&mut half).is_err());
/// assert_eq!(LinesCodec::new().decode_eof(&mut half).unwrap(), Some("half a li".to_owned()));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminated<C>(pub C);

impl<C: Decoder> Decoder for Terminated<C> {
    type Item = C::Item;
    type Error = C::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<C::Item>, C::Error> {
        self.0.decode(bytes)
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> Result<Option<C::Item>, C::Error> {
        match self.0.decode(bytes)? {
            None if !bytes.is_empty() => {
                let text = format!("the link ended in the middle of a frame, with {} bytes left over", bytes.len());
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, text).into())
            }
            frame => Ok(frame),
        }
    }
}

impl<C: Encoder<I>, I> Encoder<I> for Terminated<C> {
    type Error = C::Error;

    fn encode(&mut self, frame: I, bytes: &mut BytesMut) -> Result<(), C::Error> {
        self.0.encode(frame, bytes)
    }
}
