//! What a handler can do about a stop: wait for it by a future, mark that work goes on, or say that a message is done.
//!
//! The future and the mark are counted in the record of the connection. While one of them exists, no read of the
//! stream ends by itself.
//!
//! Next: [`super::conn_record`], which counts them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Stream;
use super::conn_record::{ConnRecord, Hold};

/// What a handler can do about a stop.
impl Stream {
    /// Marks what was received so far as whole and handled.
    ///
    /// The idle limit starts over. If the acceptor is stopping, the next read ends the connection. A write has the
    /// same effect, so this is for handlers that take data and do not answer.
    pub fn message_done(&self) {
        self.record().message_done();
    }

    /// Whether the acceptor is stopping, so that the connection should end.
    pub fn is_stopping(&self) -> bool {
        self.record().is_stopping()
    }

    /// Ready when the acceptor stops. While you keep it, you end the connection: reads go on as usual until the deadline.
    ///
    /// For a session that ends in its own way: a goodbye of the protocol, or `graceful_shutdown` of a hyper connection
    /// (`interop/examples/http_server.rs` is a complete server).
    ///
    /// Poll what reads first. Without `biased`, the order of a `select!` is random, and a stop could lose a request that arrived
    /// before the first poll. Poll `&mut stopping`, so that it stays yours after it is ready. Or drop it when the acceptor may
    /// end the connection again, as here between two requests:
    ///
    /// ```
    /// use perconn::acceptor::{Acceptor, Peer, Stream};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// async fn serve(mut stream: Stream, _: Peer) -> std::io::Result<()> {
    ///     let mut request = [0; 16];
    ///     loop {
    ///         let stopping = stream.stopping();
    ///         tokio::select! {
    ///             biased; // what has arrived comes first
    ///             outcome = stream.read_exact(&mut request) => outcome?,
    ///             () = stopping => return stream.write_all(b"the server stops\n").await,
    ///         };
    ///         stream.write_all(&request).await?;
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::acceptor::Error> {
    /// # drop(Acceptor::builder("127.0.0.1:0").handler(serve).build()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn stopping(&self) -> Stopping {
        Stopping::new(self.record())
    }

    /// Marks the connection as busy for as long as you keep the mark: a stop waits for it, until its deadline.
    ///
    /// For work that the stream does not show: several requests at once, or an answer that another task sends later.
    ///
    /// ```
    /// use perconn::acceptor::{Acceptor, Peer, Stream};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// async fn serve(mut stream: Stream, _: Peer) -> std::io::Result<()> {
    ///     let mut order = [0; 16];
    ///     while stream.read_exact(&mut order).await.is_ok() {
    ///         stream.write_all(b"accepted\n").await?;
    ///         let _busy = stream.busy();
    ///         // What takes time, and has no answer.
    ///         tokio::task::yield_now().await;
    ///     }
    ///     Ok(())
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::acceptor::Error> {
    /// # drop(Acceptor::builder("127.0.0.1:0").handler(serve).build()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn busy(&self) -> Busy {
        Busy::new(self.record())
    }
}

/// Ready when the acceptor stops; by [`Stream::stopping`](super::Stream::stopping).
///
/// While one exists, the end of the connection is the handler's own business: no read returns `Ok(0)` before the peer has
/// closed. Only the deadline of the stop cuts the connection. A clone waits on its own, in any task.
#[must_use = "it holds the connection open while the acceptor stops; await it"]
pub struct Stopping {
    /// Counted while this exists.
    hold: Hold,
    /// The wait, once it has been polled.
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Stopping {
    /// For the connection of this record.
    pub(super) fn new(record: &Arc<ConnRecord>) -> Self {
        Self { hold: Hold::stopping(record), wait: None }
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        let record = me.hold.record();
        if record.is_stopping() {
            me.wait = None;
            return Poll::Ready(());
        }
        let wait = me.wait.get_or_insert_with(|| {
            let record = Arc::clone(record);
            Box::pin(async move { record.stop_begun().await })
        });
        wait.as_mut().poll(cx)
    }
}

impl Clone for Stopping {
    fn clone(&self) -> Self {
        Self::new(self.hold.record())
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping").field("is_stopping", &self.hold.record().is_stopping()).finish()
    }
}

/// A mark that work goes on for a connection; by [`Stream::busy`](super::Stream::busy) and
/// [`LineConn::busy`](super::LineConn::busy).
///
/// While one exists, the connection does not count as idle, so a stop waits for it, until its deadline. A clone is another
/// mark.
#[must_use = "the work counts as done when this is dropped"]
pub struct Busy {
    /// Counted while this exists.
    hold: Hold,
}

impl Busy {
    /// For the connection of this record.
    pub(super) fn new(record: &Arc<ConnRecord>) -> Self {
        Self { hold: Hold::busy(record) }
    }
}

impl Clone for Busy {
    fn clone(&self) -> Self {
        Self::new(self.hold.record())
    }
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Busy").field("connection", &self.hold.record().id).finish()
    }
}
