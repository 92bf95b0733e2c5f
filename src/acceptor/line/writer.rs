//! The sending side of a connection of lines.
//!
//! Next: [`super::reader`], the receiving side.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, WriteHalf};

use super::Stream;
use crate::sync::Mutex;

/// Sends lines as wholes. `None` once the connection has ended.
///
/// The lock is held for one poll at most. So the end of the connection can take the half from a task that is sending,
/// and even from a future that is never polled again.
#[derive(Debug)]
pub(super) struct LineWriter(Mutex<Option<OpenWriter>>);

/// The writer of a connection that has not ended.
#[derive(Debug)]
struct OpenWriter {
    /// Given back when the connection ends, for the close that lets the client read the last lines.
    half: WriteHalf<Stream>,
    /// Lines that are not written yet; the first may be written in part.
    buffer: Vec<u8>,
    /// How much of the buffer is written.
    written: usize,
}

/// How much of a buffer's capacity is kept after it was needed once.
const KEPT_CAPACITY: usize = 16 << 10;

impl LineWriter {
    /// Nothing is buffered.
    pub(super) fn new(half: WriteHalf<Stream>) -> Self {
        Self(Mutex::new(Some(OpenWriter { half, buffer: Vec::new(), written: 0 })))
    }

    /// Takes the half and what is left to be written. `None` if they were taken before.
    pub(super) fn take(&self) -> Option<(WriteHalf<Stream>, Vec<u8>)> {
        let OpenWriter { half, mut buffer, written } = self.0.lock().take()?;
        buffer.drain(..written);
        Some((half, buffer))
    }

    /// Sends a line. Only one task may call this at a time.
    pub(super) async fn send(&self, line: &[u8]) -> io::Result<()> {
        // Before the new line is buffered, so that the buffer never has more than one line.
        self.write_unsent().await?;
        if let Some(writer) = &mut *self.0.lock() {
            writer.buffer.reserve(line.len() + 1);
            writer.buffer.extend_from_slice(line);
            writer.buffer.push(b'\n');
        }
        self.write_unsent().await
    }

    /// Writes what is buffered. The progress is kept, so that this future can be dropped at any await.
    pub(super) async fn write_unsent(&self) -> io::Result<()> {
        poll_fn(|cx| match &mut *self.0.lock() {
            Some(writer) => writer.poll_write_unsent(cx),
            None => Poll::Ready(Err(io::Error::new(io::ErrorKind::NotConnected, "the connection has ended"))),
        })
        .await
    }
}

impl OpenWriter {
    /// `Ready` when everything is written and flushed.
    fn poll_write_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            match ready!(Pin::new(&mut self.half).poll_write(cx, &self.buffer[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        self.buffer.clear();
        self.written = 0;
        if self.buffer.capacity() > KEPT_CAPACITY {
            self.buffer = Vec::new();
        }
        Pin::new(&mut self.half).poll_flush(cx)
    }
}
