//! Why a server has ended a session, for a program that only writes.
//!
//! Next: [`Dial::closing_error`](crate::Dial::closing_error), which asks for it.

use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;

use tokio::io::{AsyncRead, ReadBuf};
use tokio_rustls::rustls::ClientConnection;

use crate::io_error::is_try_again;
use crate::link::read_queued;
use crate::poll_once::poll_once;

/// The error with which the session has ended: usually an alert of the server.
///
/// Reads the records that have arrived, as the reader would. Their plaintext stays in the session for the reader, and
/// so does the error. `None` if the session has not ended with an error, or if it holds so much unread plaintext that
/// it takes no more records.
pub(super) fn session_error<S>(socket: &mut S, session: &mut ClientConnection) -> Option<io::Error>
where
    S: AsyncRead + Unpin + 'static,
{
    loop {
        match session.process_new_packets() {
            // The kind that a read would return.
            Err(error) => return Some(io::Error::new(io::ErrorKind::InvalidData, error)),
            Ok(state) if state.peer_has_closed() => return None,
            Ok(_) => {}
        }
        let mut arrived = Arrived { stream: socket, failure: None };
        match session.read_tls(&mut arrived) {
            Ok(0) | Err(_) => return arrived.failure,
            Ok(_) => {}
        }
    }
}

/// The bytes that have arrived on the stream below a session.
struct Arrived<'a, S> {
    /// The stream.
    stream: &'a mut S,
    /// An error that was taken from the stream. A later read may not get it again.
    failure: Option<io::Error>,
}

impl<S: AsyncRead + Unpin + 'static> Read for Arrived<'_, S> {
    /// Never waits: "would block" if there are none.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // The kernel can have bytes that the runtime has not seen.
        if let Some(outcome) = read_queued(&*self.stream, buf) {
            return outcome;
        }
        let mut buf = ReadBuf::new(buf);
        match poll_once(poll_fn(|cx| Pin::new(&mut *self.stream).poll_read(cx, &mut buf))) {
            Some(Ok(())) => Ok(buf.filled().len()),
            Some(Err(error)) => {
                let kind = error.kind();
                self.failure = Some(error).filter(|error| !is_try_again(error));
                Err(kind.into())
            }
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
