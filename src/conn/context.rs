//! What all handles of a connection share.
//!
//! Next: [`handle`](super::handle), which holds it.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime;

use crate::conn_state::ConnState;
use crate::link::StreamRef;
use crate::poll_once::poll_once;
use crate::{Dial, Status, WhenDown};

/// The settings and the state that all handles of a connection share.
///
/// Dropping it closes the connection, so the connection lives as long as its last handle. The actor holds only the
/// [`ConnState`].
pub(crate) struct ConnContext<S> {
    /// What the actor knows, too. Each handle has a copy of this pointer.
    pub(crate) conn_state: Arc<ConnState<S>>,
    /// What an operation does that finds no link.
    pub(crate) when_down: WhenDown,
    /// How long a read may wait without receiving anything.
    pub(crate) idle_timeout: Option<Duration>,
    /// Whether a read reports the peer's close as an error.
    pub(crate) close_as_error: bool,
    /// How many jobs a `SharedConn` queues.
    pub(crate) job_queue_size: usize,
    /// How long a `SharedConn`'s jobs wait on the link after a short one.
    pub(crate) settle_time: Duration,
    /// The runtime of the actor. Timers and background tasks run there, whatever executor polls the handles.
    pub(crate) runtime: runtime::Handle,
    /// The dialer's check whether the peer has closed a stream that is not a socket.
    pub(super) is_closed: fn(&S) -> bool,
    /// The dialer's answer why the peer has closed such a stream.
    pub(super) closing_error: fn(&mut S) -> Option<io::Error>,
    /// See [`ConnContext::shut_down`]. A function pointer, because a half can be dropped where `S` has no trait bounds.
    shut_down: fn(StreamRef<S>, &Self),
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> ConnContext<S> {
    /// The context of a connection whose links come from a dialer of type `D`.
    pub(crate) fn new<D: Dial<Stream = S>>(
        conn_state: Arc<ConnState<S>>,
        when_down: WhenDown,
        idle_timeout: Option<Duration>,
        close_as_error: bool,
        job_queue_size: usize,
        settle_time: Duration,
        runtime: runtime::Handle,
    ) -> Self {
        Self {
            conn_state,
            when_down,
            idle_timeout,
            close_as_error,
            job_queue_size,
            settle_time,
            runtime,
            is_closed: D::is_closed,
            closing_error: D::closing_error,
            shut_down: shut_down_in_background,
        }
    }
}

impl<S> ConnContext<S> {
    /// Shuts down the writing side of a stream for a handle that does not wait for it.
    pub(super) fn shut_down(&self, stream: StreamRef<S>) {
        (self.shut_down)(stream, self);
    }
}

impl<S> Drop for ConnContext<S> {
    fn drop(&mut self) {
        self.conn_state.close();
    }
}

/// Shuts a stream down now, or in a task of the runtime if the stream needs time. The task ends with the link or the
/// connection.
fn shut_down_in_background<S>(mut stream: StreamRef<S>, context: &ConnContext<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if poll_once(poll_fn(|cx| stream.poll_shutdown(cx))).is_some() {
        return;
    }
    // The stream has to send something first, such as the closing message of its protocol.
    let mut status = context.conn_state.watch_status();
    context.runtime.spawn(async move {
        tokio::select! {
            _ = poll_fn(|cx| stream.poll_shutdown(cx)) => {}
            // The link or the connection has ended.
            _ = status.wait_for(Status::is_final) => {}
        }
    });
}
