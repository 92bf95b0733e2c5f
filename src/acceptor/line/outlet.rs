//! The way out of a connection of lines.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::MutexGuard;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, WriteHalf};

use super::Stream;
use crate::sync::Mutex;

/// What is sent goes through here. The lock is held for one poll only, so that the end of the connection can take the half from
/// whoever is sending, and even from a future that is never polled again.
#[derive(Debug)]
pub(super) struct Outlet(Mutex<Option<Out>>);

#[derive(Debug)]
struct Out {
    half: WriteHalf<Stream>,
    /// What was not written yet: whole lines, but that the first may have lost its beginning.
    rest: Vec<u8>,
    /// So much of it was.
    written: usize,
}

/// How much of a buffer that was needed once is kept.
const KEPT: usize = 16 << 10;

impl Outlet {
    pub(super) fn new(half: WriteHalf<Stream>) -> Self {
        Self(Mutex::new(Some(Out { half, rest: Vec::new(), written: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Out>> {
        self.0.lock()
    }

    /// The half, and what is left to be written. `None`: it has gone before.
    pub(super) fn take(&self) -> Option<(WriteHalf<Stream>, Vec<u8>)> {
        let Out { half, mut rest, written } = self.lock().take()?;
        rest.drain(..written);
        Some((half, rest))
    }

    pub(super) async fn send(&self, line: &[u8]) -> io::Result<()> {
        // Before the new line is taken up, so that no more than one is kept.
        self.write_rest().await?;
        if let Some(out) = &mut *self.lock() {
            out.rest.reserve(line.len() + 1);
            out.rest.extend_from_slice(line);
            out.rest.push(b'\n');
        }
        self.write_rest().await
    }

    /// Writes what is left. How far it has come is kept, so that this can be dropped at any time.
    pub(super) async fn write_rest(&self) -> io::Result<()> {
        poll_fn(|cx| match &mut *self.lock() {
            Some(out) => out.poll_write_rest(cx),
            None => Poll::Ready(Err(io::Error::new(io::ErrorKind::NotConnected, "the connection has ended"))),
        })
        .await
    }
}

impl Out {
    fn poll_write_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.rest.len() {
            match ready!(Pin::new(&mut self.half).poll_write(cx, &self.rest[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        self.rest.clear();
        self.written = 0;
        if self.rest.capacity() > KEPT {
            self.rest = Vec::new();
        }
        Pin::new(&mut self.half).poll_flush(cx)
    }
}
