//! A handler for each line.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, Notify};

use self::outlet::Outlet;
use self::reader::LineReader;
use super::connection::see_off;
use super::seat::{BUSY, CUT, DRAINED, Seat};
use super::{Peer, Stream};

mod outlet;
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
    /// Whose turn it is to send.
    turn: Mutex<()>,
    out: Outlet,
    is_closing: AtomicBool,
    close: Notify,
    /// Why a `send` has failed, which the handler may not know of: another task may have sent.
    failure: crate::sync::Mutex<Option<io::Error>>,
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
        let inner = &*self.inner;
        let _turn = inner.turn.lock().await;
        let outcome = inner.out.send(line.as_ref()).await;
        if let Err(error) = &outcome {
            // A line may have been cut in two, and nothing may follow that.
            drop(inner.out.take());
            if error.kind() != io::ErrorKind::NotConnected {
                let copy = io::Error::new(error.kind(), error.to_string());
                inner.failure.lock().get_or_insert(copy);
            }
            self.close();
        }
        outcome
    }

    /// Ends the connection in good order: what was sent arrives, but no more lines are read. If a handler is at work, it comes
    /// to its end before that. A client that has not read everything a second later, and has not closed either, may lose what
    /// is left.
    pub fn close(&self) {
        self.inner.is_closing.store(true, Ordering::SeqCst);
        self.inner.close.notify_one();
    }

    /// Whether [`close`](Self::close) was called, or the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closing.load(Ordering::SeqCst)
    }
}

/// Serves a connection line by line.
pub(super) async fn serve<F, Fut>(stream: Stream, max: usize, handler: Arc<F>) -> io::Result<()>
where
    F: Fn(Vec<u8>, LineConn) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let (id, peer, seat) = (stream.id(), stream.peer(), stream.seat());
    let (read_half, half) = tokio::io::split(stream);
    let conn = LineConn {
        inner: Arc::new(Inner {
            id,
            peer,
            turn: Mutex::new(()),
            out: Outlet::new(half),
            is_closing: AtomicBool::new(false),
            close: Notify::new(),
            failure: crate::sync::Mutex::new(None),
        }),
    };
    // However this ends, it is the end of the connection, and of the clones' use.
    let _end = End { conn: conn.clone(), seat: Arc::downgrade(&seat) };
    let mut reader = LineReader::new(read_half, max);
    let outcome = converse(&mut reader, &conn, &seat, &*handler).await;
    conn.inner.is_closing.store(true, Ordering::SeqCst);
    // (If it is gone, a send has failed.)
    if let Some((half, rest)) = conn.inner.out.take() {
        let mut stream = reader.into_inner().unsplit(half);
        see_off(stream.io(), &rest).await;
    }
    let failure = conn.inner.failure.lock().take();
    outcome.and_then(|()| failure.map_or(Ok(()), Err))
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
            let last = last.get_or_insert_with(|| reader.count());
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
        // What a `send` that was dropped has left; unless another is at it.
        if let Ok(_turn) = conn.inner.turn.try_lock() {
            conn.inner.out.write_rest().await?;
        }
        seat.is_done();
        if reader.has_begun() {
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
        // However many clones there are, nothing of the connection is left.
        drop(self.conn.inner.out.take());
        // A `send` of another task that waits is ended by this.
        if let Some(seat) = self.seat.upgrade() {
            seat.call(CUT);
        }
    }
}
