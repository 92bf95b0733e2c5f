//! What keeps a connection alive.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime;

use crate::ledger::Ledger;
use crate::link::Grip;
use crate::{Dial, Status, WhenDown};

/// What all handles of a connection hold; when the last one lets go, the connection closes.
pub(crate) struct Tether<S> {
    pub(crate) ledger: Arc<Ledger<S>>,
    pub(crate) when_down: WhenDown,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) job_queue_size: usize,
    pub(crate) runtime: runtime::Handle,
    /// The dialer's own look at a stream that is not a socket.
    pub(super) is_closed: fn(&S) -> bool,
    /// See [`Tether::shut`]; a function, as a half is dropped where the stream's traits are not known.
    shut: fn(Grip<S>, &Self),
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Tether<S> {
    pub(crate) fn new<D: Dial<Stream = S>>(
        ledger: Arc<Ledger<S>>,
        when_down: WhenDown,
        idle_timeout: Option<Duration>,
        job_queue_size: usize,
        runtime: runtime::Handle,
    ) -> Self {
        Self {
            ledger,
            when_down,
            idle_timeout,
            job_queue_size,
            runtime,
            is_closed: D::is_closed,
            shut: shut_in_background,
        }
    }
}

impl<S> Tether<S> {
    /// Shuts the writing side of a stream down on behalf of a handle that does not wait for it.
    pub(super) fn shut(&self, grip: Grip<S>) {
        (self.shut)(grip, self);
    }
}

impl<S> Drop for Tether<S> {
    fn drop(&mut self) {
        self.ledger.close();
    }
}

fn shut_in_background<S>(mut grip: Grip<S>, tether: &Tether<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if grip.poll_shutdown(&mut Context::from_waker(Waker::noop())).is_ready() {
        return;
    }
    // It has something to send first, such as a farewell of its protocol.
    let mut status = tether.ledger.watch_status();
    tether.runtime.spawn(async move {
        tokio::select! {
            _ = poll_fn(|cx| grip.poll_shutdown(cx)) => {}
            // The link or the connection is over.
            _ = status.wait_for(Status::is_final) => {}
        }
    });
}
