//! What all handles of a pool share: [`PoolInner`], and under its lock [`PoolState`].
//!
//! No code of the program runs under the lock: no hook, no waker, no dialer, no drop of a connection.
//!
//! Next: [`SlotTable`], which decides who gets which slot.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;

use tokio::runtime::{self, Handle};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::close_signal::CloseSignal;
use super::release::Release;
use super::slots::{self, EntryId, SlotTable, Summary};
use super::stats::{Counters, Stats, increment};
use super::{CloseReason, Event, GetError, PoolBuilder, reaper};
use crate::sync::modelled::thread::{self, ThreadId};
use crate::sync::modelled::{Mutex, MutexGuard};

/// One pool.
pub(super) struct PoolInner {
    /// Taken before the lock of an entry, never under it.
    state: Mutex<PoolState>,
    /// What can be known of the slots without the lock.
    pub(super) summary: Arc<Summary>,
    /// Ends the dials.
    pub(super) close_signal: CloseSignal,
    /// What the builder was given.
    pub(super) settings: PoolBuilder,
    /// Apart from the lock, as dials end without it.
    pub(super) counters: Counters,
}

/// What the lock of a pool protects.
pub(super) struct PoolState {
    /// Which caller has which slot, and which one waits.
    pub(super) slots: SlotTable<Arc<dyn IdleResource>, GetError>,
    /// The tasks that close idle connections: one for each runtime in which connections were opened or given back.
    pub(super) reapers: Vec<(runtime::Id, AbortHandle)>,
    /// The threads inside of [`PoolInner::close_idle`], each with the number of connections that it has still to close.
    closing_idle: HashMap<ThreadId, usize>,
}

// The types of the slot table as a pool uses it.

/// See [`slots::Entry`].
pub(super) type Entry = slots::Entry<Arc<dyn IdleResource>, GetError>;
/// See [`slots::Grant`].
pub(super) type Grant = slots::Grant<Arc<dyn IdleResource>, GetError>;
/// See [`slots::Admission`].
pub(super) type Admission = slots::Admission<Arc<dyn IdleResource>, GetError>;
/// See [`slots::Waiter`].
pub(super) type Waiter = slots::Waiter<Arc<dyn IdleResource>, GetError>;
/// See [`slots::Evicted`].
pub(super) type Evicted = slots::Evicted<Arc<dyn IdleResource>>;

/// A resource, of whatever type, that holds an idle connection.
pub(super) trait IdleResource: Send + Sync {
    /// Closes the connection if it is too old or, if its peer may be asked, dead.
    fn check_idle(self: Arc<Self>, asks_peer: bool);

    /// Drops the connection and reports that, or returns its release action, which does so.
    fn close_idle(self: Arc<Self>, reason: CloseReason) -> Option<Release>;
}

impl PoolInner {
    /// A pool with these settings, which were checked.
    pub(super) fn new(settings: PoolBuilder) -> Arc<Self> {
        let slots = SlotTable::new(settings.max);
        Arc::new(Self {
            summary: slots.summary(),
            close_signal: CloseSignal::default(),
            state: Mutex::new(PoolState { slots, reapers: Vec::new(), closing_idle: HashMap::new() }),
            settings,
            counters: Counters::default(),
        })
    }

    /// Takes the lock of the pool. None of the program's own code may run until it is released.
    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock()
    }

    /// Starts the task of this runtime that closes idle connections, if it is not running.
    pub(super) fn start_reaper(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let ended = reaper::start_if_needed(self, &mut self.lock(), &runtime);
        drop(ended);
    }

    /// Closes an idle connection. Its slot becomes free.
    pub(super) fn close_evicted(self: &Arc<Self>, Evicted { resource, entry }: Evicted, reason: CloseReason) {
        let release = resource.close_idle(reason); // rule: closed-before-its-slot-is-free
        match release {
            None => self.free_slot(entry),
            Some(release) => {
                let pool = Arc::clone(self);
                release.then(move || pool.free_slot(entry));
            }
        }
    }

    /// Notes that the connection of an entry is closed.
    fn free_slot(&self, entry: EntryId) {
        let next = self.lock().slots.release(entry, true);
        wake_all(next);
    }

    /// Closes an idle connection whose slot the caller keeps.
    ///
    /// If it has a release action, this returns it with the entry, whose [eviction is finished](Self::finish_eviction) then.
    #[cold]
    pub(super) fn close_for_slot(self: &Arc<Self>, Evicted { resource, entry }: Evicted) -> Option<(Release, EntryId)> {
        let release = resource.close_idle(CloseReason::Evicted);
        if release.is_none() {
            self.finish_eviction(entry);
        }
        release.map(|release| (release, entry))
    }

    /// Notes that the connection of an entry is closed whose slot another caller has.
    pub(super) fn finish_eviction(self: &Arc<Self>, entry: EntryId) {
        let (next, another) = self.lock().slots.finish_eviction(entry);
        wake_all(next);
        if let Some(another) = another {
            self.close_evicted(another, CloseReason::Evicted);
        }
    }

    /// Closes as many connections as are idle now, the oldest first. Other callers go on meanwhile.
    ///
    /// The event hook may call this again for each closed connection. That call only makes the loop of the first one go
    /// on, so that the two do not recurse without end.
    pub(super) fn close_idle(self: &Arc<Self>, reason: CloseReason) {
        let thread = thread::current().id();
        let mut state = self.lock();
        let count = state.slots.idle_count();
        if state.closing_idle.insert(thread, count).is_some() {
            return;
        }
        while let Some(idle) = state.next_to_close(thread) {
            drop(state);
            self.close_evicted(idle, reason);
            state = self.lock();
        }
        state.closing_idle.remove(&thread);
    }

    /// Closes the pool: fails the waiters, ends the dials, closes the idle connections.
    pub(super) fn close(self: &Arc<Self>) {
        let waiters = self.lock().slots.close(|| GetError::Closed);
        wake_all(waiters); // rule: close-wakes-the-waiters
        self.close_signal.send();
        self.close_idle(CloseReason::Gone); // rule: close-closes-idle-connections
    }

    /// The figures at this moment.
    pub(super) fn stats(&self) -> Stats {
        let slots = self.lock().slots.counts();
        self.counters.with(slots)
    }

    /// Calls the event hook.
    pub(super) fn emit(&self, event: impl FnOnce() -> Event) {
        self.settings.hooks.emit(event);
    }

    /// Counts a connection that was closed, and reports it.
    pub(super) fn emit_closed(&self, name: &Arc<str>, opened: Instant, reason: CloseReason) {
        match reason {
            CloseReason::Evicted => increment(&self.counters.evicted),
            CloseReason::Dead => increment(&self.counters.found_dead),
            _ => {}
        }
        self.emit(|| Event::Closed { name: Arc::clone(name), reason, lived: opened.elapsed() });
    }
}

impl Drop for PoolInner {
    fn drop(&mut self) {
        self.lock().reapers.iter().for_each(|(_, reaper)| reaper.abort());
    }
}

impl PoolState {
    /// The next connection for a thread inside of [`PoolInner::close_idle`].
    fn next_to_close(&mut self, thread: ThreadId) -> Option<Evicted> {
        let left = self.closing_idle.get_mut(&thread)?;
        *left = left.checked_sub(1)?;
        self.slots.evict_oldest()
    }
}

/// Wakes tasks. A waker is code of the program: call this without a lock.
pub(super) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(crate::panics::wake);
}
