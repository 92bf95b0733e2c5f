//! Reading what a proxy answers, and nothing after it: the next byte is the target's.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::poll_once::poll_once;

/// How many bytes of something that is no answer an error shows.
const SHOWN: usize = 60;

/// Reads this many bytes.
pub(super) async fn read<S: AsyncRead + Unpin, const N: usize>(stream: &mut S) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    read_into(stream, &mut bytes).await?;
    Ok(bytes)
}

/// Fills `bytes`.
pub(super) async fn read_into<S: AsyncRead + Unpin>(stream: &mut S, bytes: &mut [u8]) -> io::Result<()> {
    match stream.read_exact(bytes).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(io::Error::new(error.kind(), "it has closed before the end of its answer"))
        }
        Err(error) => Err(error),
    }
}

/// The error of bytes that are not of the protocol. Shows them, and what else has arrived.
pub(super) fn not_the_protocol<S: AsyncRead + Unpin>(stream: &mut S, begin: &[u8], expected: &str) -> io::Error {
    let mut shown = begin.to_vec();
    let mut more = [0; SHOWN];
    if let Some(Ok(length)) = poll_once(stream.read(&mut more)) {
        shown.extend_from_slice(&more[..length]);
    }
    shown.truncate(SHOWN);
    let text = format!("it answers \"{}\": expected {expected}", shown.escape_ascii());
    io::Error::new(io::ErrorKind::InvalidData, text)
}
