//! What all parts of a pool have in common.

use std::sync::{Arc, MutexGuard};
use std::task::Waker;
use std::thread::{self, ThreadId};

use tokio::runtime;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::book::{Board, Book, DeskOf, Parked, Taken};
use super::notice::Notices;
use super::stats::{Stats, Tally, count};
use super::{CloseReason, Event, GetError, PoolBuilder};
use crate::sync::Mutex;

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) board: Arc<Board>,
    pub(super) notices: Notices,
    pub(super) settings: PoolBuilder,
    pub(super) tally: Tally,
}

pub(super) struct State {
    pub(super) book: Book<Arc<dyn Parking>, GetError>,
    /// The tasks that see to the idle connections: one for each runtime in which some were given back.
    pub(super) reapers: Vec<(runtime::Id, AbortHandle)>,
    /// The threads that close all that are idle, each with how many it has still to close.
    clearing: Vec<(ThreadId, usize)>,
}

pub(super) type Desk = DeskOf<Arc<dyn Parking>, GetError>;

/// A resource, as the book knows it while its connection is idle.
pub(super) trait Parking: Send + Sync {
    fn take_out(&self) -> Box<dyn Leaving>;
}

/// A connection on its way out.
pub(super) trait Leaving: Send {
    /// Drops it, and tells of it.
    fn close(self: Box<Self>, shared: &Shared, reason: CloseReason);
}

impl Parked for Arc<dyn Parking> {
    type Live = Box<dyn Leaving>;

    fn take(&self) -> Box<dyn Leaving> {
        self.take_out()
    }
}

impl Shared {
    pub(super) fn new(settings: PoolBuilder) -> Arc<Self> {
        let book = Book::new(settings.max);
        Arc::new(Self {
            board: book.board(),
            notices: Notices::default(),
            state: Mutex::new(State { book, reapers: Vec::new(), clearing: Vec::new() }),
            settings,
            tally: Tally::default(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing of a user's runs while it is held, so that nothing panics.
        self.state.lock()
    }

    /// Closes what was taken out of the book for nobody. Its slot goes to whoever waits.
    pub(super) fn close_one(&self, Taken { live, entry }: Taken<Box<dyn Leaving>>, reason: CloseReason) {
        live.close(self, reason);
        let next = self.lock().book.release(entry, true);
        wake(next);
    }

    pub(super) fn close_idle(&self, reason: CloseReason) {
        let me = thread::current().id();
        let mut state = self.lock();
        // As many as there are now: others may go on meanwhile.
        let count = state.book.idle_count();
        // The hook that is told of a closing may ask for this again: then the loop that it is called from goes on.
        if let Some((_, left)) = state.clearing.iter_mut().find(|(thread, _)| *thread == me) {
            *left = count;
            return;
        }
        state.clearing.push((me, count));
        while let Some(idle) = state.next_to_clear(me) {
            drop(state);
            self.close_one(idle, reason);
            state = self.lock();
        }
        state.clearing.retain(|(thread, _)| *thread != me);
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        let waiting = state.book.close(|| GetError::Closed);
        drop(state);
        wake(waiting);
        self.notices.close();
        self.close_idle(CloseReason::Gone);
    }

    pub(super) fn stats(&self) -> Stats {
        let counts = self.lock().book.counts();
        self.tally.with(counts)
    }

    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        self.settings.hooks.emit(event);
    }

    /// Counts and tells of a connection that was closed.
    pub(super) fn tell_closed(&self, name: &Arc<str>, opened: Instant, reason: CloseReason) {
        match reason {
            CloseReason::Evicted => count(&self.tally.evicted),
            CloseReason::Dead => count(&self.tally.found_dead),
            _ => {}
        }
        self.tell(|| Event::Closed { name: Arc::clone(name), reason, lived: opened.elapsed() });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.lock().reapers.iter().for_each(|(_, reaper)| reaper.abort());
    }
}

impl State {
    fn next_to_clear(&mut self, thread: ThreadId) -> Option<Taken<Box<dyn Leaving>>> {
        let (_, left) = self.clearing.iter_mut().find(|(other, _)| *other == thread)?;
        *left = left.checked_sub(1)?;
        self.book.take_any_idle()
    }
}

/// (When the lock is released.)
pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(crate::panics::wake);
}
