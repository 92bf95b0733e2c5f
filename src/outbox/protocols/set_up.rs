//! One reply to the set-up of a link.
//!
//! Next: `relp.rs`, which opens its session with it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::bytes::{BufMut, BytesMut};

/// How long a reply may be. More than any server sends.
const MAX_REPLY: usize = 64 * 1024;

/// Reads until `decode` has found a reply, and not a byte more: what follows belongs to the outbox. So it reads byte by
/// byte, once for each link.
///
/// # Errors
///
/// Those of the stream and of `decode`; the stream has ended; the reply is too long.
pub(super) async fn read_reply<S, T>(
    stream: &mut S,
    mut decode: impl FnMut(&mut BytesMut) -> io::Result<Option<T>>,
) -> io::Result<T>
where
    S: AsyncRead + Unpin,
{
    let mut inbound = BytesMut::new();
    while inbound.len() < MAX_REPLY {
        inbound.put_u8(stream.read_u8().await?);
        if let Some(reply) = decode(&mut inbound)? {
            return Ok(reply);
        }
    }
    Err(invalid(format!("no end of a reply in {MAX_REPLY} bytes")))
}

/// What the peer has sent makes no sense.
pub(super) fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The beginning of what has arrived, for an error.
pub(super) fn start_of(inbound: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&inbound[..inbound.len().min(64)]))
}
