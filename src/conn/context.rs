//! What keeps a connection alive.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime;

use crate::conn_state::ConnState;
use crate::link::StreamRef;
use crate::poll_once::poll_once;
use crate::{Dial, Status, WhenDown};

/// What all handles of a connection hold; when the last one lets go, the connection closes.
pub(crate) struct ConnContext<S> {
    pub(crate) conn_state: Arc<ConnState<S>>,
    pub(crate) when_down: WhenDown,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) job_queue_size: usize,
    pub(crate) runtime: runtime::Handle,
    /// The dialer's own look at a stream that is not a socket.
    pub(super) is_closed: fn(&S) -> bool,
    /// See [`ConnContext::shut`]; a function, as a half is dropped where the stream's traits are not known.
    shut: fn(StreamRef<S>, &Self),
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> ConnContext<S> {
    pub(crate) fn new<D: Dial<Stream = S>>(
        conn_state: Arc<ConnState<S>>,
        when_down: WhenDown,
        idle_timeout: Option<Duration>,
        job_queue_size: usize,
        runtime: runtime::Handle,
    ) -> Self {
        Self {
            conn_state,
            when_down,
            idle_timeout,
            job_queue_size,
            runtime,
            is_closed: D::is_closed,
            shut: shut_in_background,
        }
    }
}

impl<S> ConnContext<S> {
    /// Shuts the writing side of a stream down on behalf of a handle that does not wait for it.
    pub(super) fn shut(&self, stream: StreamRef<S>) {
        (self.shut)(stream, self);
    }
}

impl<S> Drop for ConnContext<S> {
    fn drop(&mut self) {
        self.conn_state.close();
    }
}

fn shut_in_background<S>(mut stream: StreamRef<S>, context: &ConnContext<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if poll_once(poll_fn(|cx| stream.poll_shutdown(cx))).is_some() {
        return;
    }
    // It has something to send first, such as a farewell of its protocol.
    let mut status = context.conn_state.watch_status();
    context.runtime.spawn(async move {
        tokio::select! {
            _ = poll_fn(|cx| stream.poll_shutdown(cx)) => {}
            // The link or the connection is over.
            _ = status.wait_for(Status::is_final) => {}
        }
    });
}
