//! What a handler can hold to take part in a stop: a future that is ready at the stop, and a mark that work goes on.
//!
//! Both are counted in the record of the connection. While one of them exists, no read of the stream ends by itself.
//!
//! Next: [`super::conn_record`], which counts them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::conn_record::{ConnRecord, Hold};

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
