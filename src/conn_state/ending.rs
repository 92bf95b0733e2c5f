//! The end of a connection: the ways to it, and the error with which operations report it.
//!
//! Next: [`inner`](super::inner), where the end is recorded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ConnState;
use super::inner::Command;
use crate::Error;
use crate::link::Socket;
use crate::status::ActorStage;

/// Why there will be no further link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The program called `close()` or dropped the last handle.
    Closed,
    /// The program called `shutdown()`, and the last link has ended.
    Finished,
    /// The retries are used up.
    GaveUp {
        /// Dials since the last stable link.
        attempts: u32,
    },
    /// The runtime has shut down.
    RuntimeShutdown,
}

impl End {
    /// Whether this end takes the link away at once and stays. The two others let a reader read the last link to its
    /// end.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Closed | Self::RuntimeShutdown)
    }
}

impl<S> ConnState<S> {
    /// Begins the shutdown of the connection: the live link becomes the last one, and its socket's writing side is shut
    /// down. Returns the live link's generation and, if it is a socket, the outcome of the shutdown.
    ///
    /// All of it happens under the lock: the peer may answer with its own close at once, and that must not count as a
    /// break that a redial follows.
    pub(crate) fn begin_shutdown(&self) -> Option<(u64, Option<std::io::Result<()>>)> {
        self.change(|inner| {
            if inner.end.is_some() {
                return None;
            }
            let generation = inner.generation;
            if self.is_live(generation) {
                inner.is_shutting_down = true;
                return Some((generation, inner.socket().map(Socket::shutdown_write)));
            }
            inner.end(End::Finished, false);
            inner.send(Command::Close);
            None
        })
    }

    /// Ends the connection at once for all handles, and the actor too.
    pub(crate) fn close(&self) {
        if self.end(End::Closed) {
            self.change(|inner| inner.send(Command::Close));
        }
    }

    /// Records the end. Returns whether it was recorded.
    ///
    /// The first end stays, with one exception: a close or the runtime's shutdown replaces the two others and takes the
    /// link away.
    pub(crate) fn end(&self, end: End) -> bool {
        self.change(|inner| {
            let is_recorded = match inner.end {
                None => true,
                Some(earlier) => end.is_final() && !earlier.is_final(),
            };
            if is_recorded {
                let is_up = self.is_live(inner.generation);
                if end.is_final() {
                    self.broken.store(u64::MAX, Ordering::Release); // rule: end-breaks-every-link
                }
                inner.end(end, is_up);
            }
            is_recorded
        })
    }

    /// Why there will be no further link, if that is so.
    pub(crate) fn ended(&self) -> Option<End> {
        self.lock().end
    }

    /// Whether the program or its runtime has closed the connection. Then no break is reported any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.ended().is_some_and(End::is_final)
    }

    /// The error with which operations report an end.
    pub(crate) fn end_error(&self, end: End) -> Error {
        match end {
            End::Closed | End::Finished => Error::ClosedConnection,
            End::GaveUp { attempts } => {
                let last_error = self.lock().figures.last_error();
                let source = last_error.unwrap_or_else(|| Arc::new(Error::ClosedConnection));
                Error::GaveUp { address: self.address.clone(), attempts, source }
            }
            End::RuntimeShutdown => Error::RuntimeShutdown,
        }
    }

    /// The actor runs a hook of the program, which can take any time.
    pub(crate) fn actor_runs_hook(&self) {
        self.status.set_actor(ActorStage::InHook);
    }

    /// The hook has returned.
    pub(crate) fn actor_is_back(&self) {
        self.status.set_actor(ActorStage::Attentive);
    }

    /// The actor has ended, and has dropped its dialer and its hooks.
    pub(crate) fn actor_ended(&self) {
        self.status.set_actor(ActorStage::Gone);
    }

    /// Waits until the actor has ended, or until it runs a hook: no close waits for that. Once the connection was closed,
    /// it dials no more.
    pub(crate) async fn actor_gone(&self) {
        self.status.actor_gone().await;
    }

    /// Waits until there will be no further link.
    pub(crate) async fn end_reached(&self) -> End {
        self.status.wait_until(|_| self.ended()).await
    }
}
