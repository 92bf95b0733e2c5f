//! What all parts of a pool have in common.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::time::Instant;

use super::book::{Book, Parked};
use super::stats::{Stats, Tally, count};
use super::{Event, GetError, PoolBuilder, Why};

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) settings: PoolBuilder,
    pub(super) tally: Tally,
    /// When the pool was made.
    pub(super) epoch: Instant,
}

pub(super) struct State {
    pub(super) book: Book<Arc<dyn Parking>, GetError>,
    /// A task sees to the idle connections.
    pub(super) has_reaper: bool,
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
            state: Mutex::new(State { book: Book::new(settings.max), has_reaper: false }),
            settings,
            tally: Tally::default(),
            epoch: Instant::now(),
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
        loop {
            let Some(live) = self.lock().book.take_any_idle() else { return };
            self.close_one(live, why);
        }
    }

    pub(super) fn close(&self) {
        let waiting = self.lock().book.close(|| GetError::Closed);
        wake(waiting);
        self.close_idle(Why::Gone);
    }

    pub(super) fn stats(&self) -> Stats {
        let book = &self.lock().book;
        self.tally.with(book.counts(), book.reused)
    }

    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        let Some(hook) = &self.settings.on_event else { return };
        if catch_unwind(AssertUnwindSafe(|| hook(&event()))).is_err() {
            log::warn!(target: "perconn", "the event hook of a pool panicked");
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

/// (When the lock is released.)
pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(crate::hooks::wake);
}
