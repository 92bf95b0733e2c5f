//! A handler for each line.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::{Mutex, Notify};

use self::reader::LineReader;
use super::connection::see_off;
use super::seat::{BUSY, CUT, DRAINED, Seat};
use super::{Peer, Stream};

mod reader;

/// The connection that a line came from: what the handler of [`AcceptorBuilder::line_handler`] answers by.
///
/// Clones are the same connection. They can be kept and used by other tasks, as long as the connection is open; they do not
/// keep it open.
///
/// [`AcceptorBuilder::line_handler`]: super::AcceptorBuilder::line_handler
#[derive(Clone, Debug)]
pub struct LineConn {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: u64,
    peer: Peer,
    /// `None` when the connection has ended.
    out: Mutex<Option<Out>>,
    is_closing: AtomicBool,
    close: Notify,
}

#[derive(Debug)]
struct Out {
    half: WriteHalf<Stream>,
    /// What was not written yet: whole lines, but that the first may have lost its beginning.
    rest: Vec<u8>,
}

impl LineConn {
    /// The number of the connection, from 1, as in the events.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// The other end.
    pub fn peer(&self) -> Peer {
        self.inner.peer
    }

    /// Sends a line: these bytes, and a line feed.
    ///
    /// Lines of several tasks come one after the other. If the peer does not read, this waits; for how long,
    /// [`idle_timeout`](super::AcceptorBuilder::idle_timeout) says.
    ///
    /// # Errors
    ///
    /// What the socket says, `TimedOut` if the peer takes nothing, and [`NotConnected`](io::ErrorKind::NotConnected) if the
    /// connection has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the line is sent as a whole or not at all. What is left of one that has begun to be sent goes
    /// before the next line.
    pub async fn send(&self, line: impl AsRef<[u8]>) -> io::Result<()> {
        let mut out = self.inner.out.lock().await;
        let ended = || io::Error::new(io::ErrorKind::NotConnected, "the connection has ended");
        let outcome = match &mut *out {
            Some(out) => out.send(line.as_ref()).await,
            None => Err(ended()),
        };
        if outcome.is_err() {
            // A line may have been cut in two, and nothing may follow that.
            *out = None;
            self.close();
        }
        outcome
    }

    /// Ends the connection in good order: what was sent arrives, but no more lines are read. If a handler is at work, it comes
    /// to its end before that.
    pub fn close(&self) {
        self.inner.is_closing.store(true, Ordering::SeqCst);
        self.inner.close.notify_one();
    }

    /// Whether [`close`](Self::close) was called, or the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closing.load(Ordering::SeqCst)
    }
}

impl Out {
    async fn send(&mut self, line: &[u8]) -> io::Result<()> {
        // Before the new line is taken up, so that no more than one is kept.
        self.write_rest().await?;
        self.rest.reserve(line.len() + 1);
        self.rest.extend_from_slice(line);
        self.rest.push(b'\n');
        self.write_rest().await?;
        if self.rest.capacity() > KEPT {
            self.rest = Vec::new();
        }
        Ok(())
    }

    /// What is written is taken away at once, so that this can be dropped at any time.
    async fn write_rest(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match self.half.write(&self.rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => drop(self.rest.drain(..n)),
            }
        }
        self.half.flush().await
    }
}

/// How much of a buffer that was needed once is kept.
const KEPT: usize = 16 << 10;

/// Serves a connection line by line.
pub(super) async fn serve<F, Fut>(stream: Stream, max: usize, handler: Arc<F>) -> io::Result<()>
where
    F: Fn(Vec<u8>, LineConn) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let (id, peer, seat) = (stream.id(), stream.peer(), stream.seat());
    let (read_half, half) = tokio::io::split(stream);
    let out = Mutex::new(Some(Out { half, rest: Vec::new() }));
    let inner = Inner { id, peer, out, is_closing: AtomicBool::new(false), close: Notify::new() };
    let conn = LineConn { inner: Arc::new(inner) };
    // However this ends, it is the end of the connection, and of the clones' use.
    let _end = End { conn: conn.clone(), seat: Arc::downgrade(&seat) };
    let mut reader = LineReader::new(read_half, max);
    let outcome = converse(&mut reader, &conn, &seat, &*handler).await;
    conn.inner.is_closing.store(true, Ordering::SeqCst);
    // (If it is gone, a send has failed.)
    if let Some(Out { half, rest }) = conn.inner.out.lock().await.take() {
        let mut stream = reader.into_inner().unsplit(half);
        see_off(stream.io(), &rest).await;
    }
    outcome
}

async fn converse<F, Fut>(reader: &mut LineReader, conn: &LineConn, seat: &Seat, handler: &F) -> io::Result<()>
where
    F: Fn(Vec<u8>, LineConn) -> Fut,
    Fut: Future<Output = io::Result<()>>,
{
    // Once the acceptor stops: how many lines are handled still.
    let mut last = None;
    while !conn.is_closed() {
        if seat.has(DRAINED) {
            let last = last.get_or_insert_with(|| reader.begun());
            if *last == 0 {
                break;
            }
            *last -= 1;
        }
        let line = tokio::select! {
            biased;
            () = conn.inner.close.notified() => continue,
            line = reader.next() => line?,
        };
        let Some(line) = line else { break };
        handler(line, conn.clone()).await?;
        // What a `send` that was dropped has left.
        if let Some(out) = &mut *conn.inner.out.lock().await {
            out.write_rest().await?;
        }
        seat.is_done();
        if reader.begun() > 0 {
            seat.set(BUSY);
        }
    }
    Ok(())
}

/// What ends a connection whose client sends a longer line.
#[derive(Debug, thiserror::Error)]
#[error("a line of more than {0} bytes")]
struct LineTooLong(usize);

struct End {
    conn: LineConn,
    seat: Weak<Seat>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.conn.close();
        // A `send` of another task that waits is ended by this, and takes the stream with it.
        if let Some(seat) = self.seat.upgrade() {
            seat.call(CUT);
        }
        if let Ok(mut out) = self.conn.inner.out.try_lock() {
            *out = None;
        }
    }
}
