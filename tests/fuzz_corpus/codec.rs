//! Any bytes on two links, through a codec: the frames and errors of each link are those of the codec alone, whatever arrives
//! together, and nothing of one link is left on the next.
//!
//! Next: `src/codec/inbound.rs`.

use std::fmt::Debug;
use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use perconn::Conn;
use perconn::codec::{FramedError, FramedRead, Terminated};
use perconn::testing::{ScriptedDialer, ScriptedStream};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{AnyDelimiterCodec, Decoder, LengthDelimitedCodec, LinesCodec};

/// The first byte chooses the codec, the second says how long the pieces are that arrive together.
pub(crate) fn check(bytes: &[u8]) {
    let [codec, piece, bytes @ ..] = bytes else { return };
    let pieces = bytes.chunks(usize::from(*piece).max(1));
    match codec % 5 {
        0 => compare(bytes, pieces, LinesCodec::new),
        1 => compare(bytes, pieces, || LinesCodec::new_with_max_length(16)),
        2 => compare(bytes, pieces, || LengthDelimitedCodec::builder().max_frame_length(300).new_codec()),
        3 => compare(bytes, pieces, || Terminated(LinesCodec::new())),
        _ => compare(bytes, pieces, || AnyDelimiterCodec::new(b",;".to_vec(), b";".to_vec())),
    }
}

fn compare<'a, C>(bytes: &[u8], pieces: impl Iterator<Item = &'a [u8]> + Clone, codec: fn() -> C)
where
    C: Decoder<Item: Debug, Error: Debug> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let script = || pieces.clone().fold(ScriptedStream::new(), ScriptedStream::sends);
        // The second link is cut: what is left of it is no frame.
        let dialer = ScriptedDialer::new()
            .connects(script().closes())
            .connects(script().read_fails(io::ErrorKind::ConnectionReset));
        let (read, _write) = Conn::builder("any").dialer(dialer).logger(|_| {}).build().unwrap().into_split();
        let mut framed = FramedRead::with_factory(read, codec);
        for link in [1, 2] {
            let mut items = Vec::new();
            loop {
                let item = tokio::time::timeout(Duration::from_secs(3600), framed.next()).await.expect("an item");
                match item.expect("the connection goes on") {
                    Ok(frame) => items.push(format!("{frame:?}")),
                    Err(FramedError::Codec(error)) => items.push(format!("{error:?}")),
                    Err(FramedError::Break { generation, .. }) => {
                        assert_eq!(generation, link);
                        break;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            let (expected, has_failed) = alone(bytes, codec(), link == 1);
            // After an error of the codec, it depends on the pieces what follows.
            let end = if has_failed { expected.len().min(items.len()) } else { items.len() };
            assert_eq!(items[..end], expected, "link {link}");
        }
    });
}

/// What a codec makes of the bytes, up to its first error: that is the last item then. `is_closed`: the end of the bytes is the
/// end of the link.
fn alone<C>(bytes: &[u8], mut codec: C, is_closed: bool) -> (Vec<String>, bool)
where
    C: Decoder<Item: Debug, Error: Debug>,
{
    let (mut items, mut bytes) = (Vec::new(), BytesMut::from(bytes));
    let mut decode: fn(&mut C, &mut BytesMut) -> _ = C::decode;
    let mut is_at_end = !is_closed;
    loop {
        match decode(&mut codec, &mut bytes) {
            Ok(Some(frame)) => items.push(format!("{frame:?}")),
            Ok(None) if is_at_end => return (items, false),
            Ok(None) => (decode, is_at_end) = (C::decode_eof, true),
            Err(error) => {
                items.push(format!("{error:?}"));
                return (items, true);
            }
        }
    }
}
