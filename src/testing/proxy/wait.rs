//! Waiting for what the ledger will say, with or without a runtime.
//!
//! Next: [`FaultProxy`](super::FaultProxy), whose methods return a [`Wait`].

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::ledger::LinkRecord;

/// A wait for an event at a [`FaultProxy`](super::FaultProxy): await it, or [block](Wait::block) on it.
///
/// It needs no runtime and no clock, and it has no limit: put a timeout around it, so that a test that waits for
/// something that never comes fails. Not while tokio's clock is paused (`tokio::time::pause`, `start_paused`): that clock
/// jumps ahead while the proxy and its sockets still work in real time, so every timeout has passed at once. There, use
/// [`block_within`](Wait::block_within).
///
/// # Cancel safety
///
/// Cancel safe: if it is dropped, nothing is lost. The next wait for the same event is ready if the event has come.
#[must_use = "it waits only when it is awaited, or by `block`"]
pub struct Wait<'a> {
    /// Waits for the ledger.
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The proxy lives on.
    proxy: PhantomData<&'a ()>,
}

impl Wait<'_> {
    /// Until the records are as `is_there` wants them.
    pub(super) fn new(
        mut records: watch::Receiver<Vec<LinkRecord>>,
        is_there: impl Fn(&[LinkRecord]) -> bool + Send + 'static,
    ) -> Self {
        let future = Box::pin(async move {
            // The sender lives as long as the proxy, which this wait borrows.
            let _ = records.wait_for(move |records| is_there(records)).await;
        });
        Self { future, proxy: PhantomData }
    }

    /// Blocks this thread until the event has come, for tests without a runtime.
    pub fn block(self) {
        self.block_until(None);
    }

    /// The same for at most this long. Returns whether the event has come.
    #[must_use = "it says whether the event has come"]
    pub fn block_within(self, limit: Duration) -> bool {
        // A limit beyond the range of the clock is none.
        self.block_until(Instant::now().checked_add(limit))
    }

    /// Polls and parks.
    fn block_until(self, deadline: Option<Instant>) -> bool {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        let mut wait = pin!(self);
        while wait.as_mut().poll(&mut cx).is_pending() {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(rest) => thread::park_timeout(rest),
                None => thread::park(),
            }
        }
        true
    }
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").finish_non_exhaustive()
    }
}
