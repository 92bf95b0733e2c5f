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
    /// Nothing was written since the last flush. Without TLS, a flush costs as much as a small write without its system call.
    is_flushed: bool,
}

/// How much of a buffer's capacity is kept after it was needed once.
const KEPT_CAPACITY: usize = 16 << 10;

impl LineWriter {
    /// Nothing is buffered.
    pub(super) fn new(half: WriteHalf<Stream>) -> Self {
        Self(Mutex::new(Some(OpenWriter { half, buffer: Vec::new(), written: 0, is_flushed: true })))
    }

    /// Takes the half and what is left to be written. `None` if they were taken before.
    pub(super) fn take(&self) -> Option<(WriteHalf<Stream>, Vec<u8>)> {
        let OpenWriter { half, mut buffer, written, .. } = self.0.lock().take()?;
        buffer.drain(..written);
        Some((half, buffer))
    }

    /// Sends a line. Only one task may call this at a time.
    pub(super) async fn send(&self, line: &[u8]) -> io::Result<()> {
        let mut line = Some(line);
        self.write(|writer, cx| {
            // Before the new line is buffered, so that the buffer never has more than one line.
            ready!(writer.poll_write_unsent(cx))?;
            if let Some(line) = line.take() {
                writer.push(line);
            }
            writer.poll_write_unsent(cx)
        })
        .await
    }

    /// Writes what is buffered. The progress is kept, so that this future can be dropped at any await.
    pub(super) async fn write_unsent(&self) -> io::Result<()> {
        self.write(OpenWriter::poll_write_unsent).await
    }

    /// Whether a `send` that was dropped has left something, or one is at work.
    pub(super) fn has_unsent(&self) -> bool {
        self.0.lock().as_ref().is_some_and(OpenWriter::has_unsent)
    }

    /// Polls the writer under the lock.
    async fn write(
        &self,
        mut poll: impl FnMut(&mut OpenWriter, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> io::Result<()> {
        poll_fn(|cx| match &mut *self.0.lock() {
            Some(writer) => poll(writer, cx),
            None => Poll::Ready(Err(io::Error::new(io::ErrorKind::NotConnected, "the connection has ended"))),
        })
        .await
    }
}

impl OpenWriter {
    /// Buffers a line.
    fn push(&mut self, line: &[u8]) {
        self.buffer.reserve(line.len() + 1);
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
    }

    /// Whether something is not written, or not flushed.
    fn has_unsent(&self) -> bool {
        !self.buffer.is_empty() || !self.is_flushed
    }

    /// `Ready` when everything is written and flushed.
    fn poll_write_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_unsent() {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.buffer.len() {
            self.is_flushed = false;
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
        ready!(Pin::new(&mut self.half).poll_flush(cx))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }
}
