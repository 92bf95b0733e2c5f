//! What all parts of a pool have in common.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::book::{Book, Parked};
use super::stats::{Stats, Tally, count};
use super::{Event, GetError, PoolBuilder, Why};
use crate::hooks::panic_message;

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) settings: PoolBuilder,
    pub(super) tally: Tally,
    /// Told when the pool is closed.
    pub(super) closed: Notify,
}

pub(super) struct State {
    pub(super) book: Book<Arc<dyn Parking>, GetError>,
    /// The task that sees to the idle connections, and when it looks next.
    pub(super) reaper: Option<(AbortHandle, Instant)>,
}

/// A resource, as the book knows it while its connection is idle.
pub(super) trait Parking: Send + Sync {
    fn take_out(&self) -> Box<dyn Leaving>;
}

/// A connection on its way out.
pub(super) trait Leaving: Send {
    /// Drops it, and tells of it.
    fn close(self: Box<Self>, shared: &Shared, why: Why);
}

impl Parked for Arc<dyn Parking> {
    type Live = Box<dyn Leaving>;

    fn take(&self) -> Box<dyn Leaving> {
        self.take_out()
    }
}

impl Shared {
    pub(super) fn new(settings: PoolBuilder) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { book: Book::new(settings.max), reaper: None }),
            settings,
            tally: Tally::default(),
            closed: Notify::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing of a user's runs while it is held, so that nothing panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what was taken out of the book for nobody. Its slot goes to whoever waits.
    pub(super) fn close_one(&self, live: Box<dyn Leaving>, why: Why) {
        live.close(self, why);
        let next = self.lock().book.released();
        wake(next);
    }

    pub(super) fn close_idle(&self, why: Why) {
        // As many as there are now: others may go on meanwhile.
        for _ in 0..self.stats().idle {
            let idle = self.lock().book.take_any_idle();
            let Some(live) = idle else { return };
            self.close_one(live, why);
        }
    }

    pub(super) fn close(&self) {
        let waiting = self.lock().book.close(|| GetError::Closed);
        wake(waiting);
        self.closed.notify_waiters();
        self.close_idle(Why::Gone);
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.lock();
        self.tally.with(state.book.counts(), state.book.reused)
    }

    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        let Some(hook) = &self.settings.on_event else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(&event()))) {
            let message = panic_message(panic);
            log::warn!(target: "perconn", "the event hook of a pool panicked: {message}");
        }
    }

    /// Counts and tells of a connection that was closed.
    pub(super) fn tell_closed(&self, name: &Arc<str>, opened: Instant, why: Why) {
        match why {
            Why::Evicted => count(&self.tally.evicted),
            Why::Dead => count(&self.tally.found_dead),
            _ => {}
        }
        self.tell(|| Event::Closed { name: Arc::clone(name), why, lived: opened.elapsed() });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some((reaper, _)) = &self.lock().reaper {
            reaper.abort();
        }
    }
}

/// (When the lock is released.)
pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(crate::hooks::wake);
}
