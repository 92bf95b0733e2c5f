//! A frame is whole only when its own end has come.

use std::io;

use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

/// A codec that takes no end of a link for the end of a frame.
///
/// Some codecs do, such as [`LinesCodec`](tokio_util::codec::LinesCodec): what stands after the last line feed is a line
/// to it when the peer closes. But the kernel also closes in good order what a killed process had open, in mid-line if
/// that is where it was. With this around it, the rest is no frame but an error, which is told before the break.
///
/// It sees only what the codec has left in the buffer. `LengthDelimitedCodec` takes a head out of it at once, so that a link
/// which ends right after a head ends without an error.
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
                let text = format!("the link ended within a frame, of which {} bytes had come", bytes.len());
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
