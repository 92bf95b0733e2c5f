//! One resource, as its handles, its callers and its pool share it.
//!
//! It connects the [rules](super::slots) with the connection itself: it takes the locks, wakes the waiters and closes
//! what the rules say.
//!
//! Next: [`Entry`](super::slots::Entry), whose lock it takes first, and [`PoolInner`], whose lock it takes if that is
//! not enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool as Hint, Ordering};
use std::task::Waker;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::connection::{Connection, Info, Readiness};
use super::dial_backoff::DialBackoff;
use super::lifecycle::Lifecycle;
use super::opener::Open;
use super::reaper;
use super::release::Release;
use super::slots::{EntryId, GivenBack, Place, WaiterId};
use super::state::{Admission, Entry, IdleResource, PoolInner, Waiter, wake_all};
use super::stats::{DialCounters, ResourceStats};
use super::wait_stats::WaitingFor;
use super::{CloseReason, GetError};
use crate::hooks::warn;
use crate::panics::{catch, ignore, wake};
use crate::sync::modelled::{AbortHandle, AsyncMutex, AtomicBool, Mutex};

/// What all clones of a resource and the guards of its connections share.
pub(super) struct ResourceInner<T> {
    /// Keeps the pool alive as long as one of its resources is.
    pub(super) pool: Arc<PoolInner>,
    /// The address, or the name that the program gave, for errors and events.
    pub(super) name: Arc<str>,
    /// Its key in the slot table. After the removal, another resource may get the same one.
    pub(super) entry_id: EntryId,
    /// Its part of the slot table.
    pub(super) entry: Arc<Mutex<Entry>>,
    /// The connection, while no caller uses it. Only the caller that has acquired the entry takes it.
    idle: Mutex<Option<Connection<T>>>,
    /// Locked by the caller that dials: the one that has acquired the entry.
    pub(super) opener: AsyncMutex<Box<dyn Open<T>>>,
    /// Delays the next dial after one that failed.
    pub(super) dial_backoff: DialBackoff,
    /// The last dial that its caller has left, so that it can be ended.
    background_dial: Mutex<Option<AbortHandle>>,
    /// How its dials have ended.
    pub(super) dial_counters: DialCounters,
    /// Its connection is being dialed or prepared. It is a hint for errors, which may be out of date.
    is_being_opened: Hint,
    /// Whether a value that is not a socket is open and silent, as far as can be known.
    pub(super) is_quiet: fn(&mut T) -> bool,
    /// What the program does with the connections.
    pub(super) lifecycle: Lifecycle<T>,
    /// A caller uses the connection. It is a hint, which may be out of date.
    in_use: AtomicBool,
    /// Another caller waits for it. This is a hint, too.
    has_waiters: AtomicBool,
}

impl<T: Send + 'static> ResourceInner<T> {
    /// Adds a resource to the slot table.
    pub(super) fn new(
        pool: &Arc<PoolInner>,
        name: &str,
        opener: impl Open<T> + 'static,
        is_quiet: fn(&mut T) -> bool,
    ) -> Arc<Self> {
        let (entry_id, entry) = pool.lock().slots.add_entry();
        Arc::new(Self {
            pool: Arc::clone(pool),
            name: name.into(),
            entry_id,
            entry,
            idle: Mutex::new(None),
            opener: AsyncMutex::new(Box::new(opener)),
            dial_backoff: DialBackoff::default(),
            background_dial: Mutex::new(None),
            dial_counters: DialCounters::default(),
            is_being_opened: Hint::new(false),
            is_quiet,
            lifecycle: Lifecycle::default(),
            in_use: AtomicBool::new(false),
            has_waiters: AtomicBool::new(false),
        })
    }

    /// Whether a caller uses the connection, as far as is known without a lock.
    pub(super) fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Updates that hint.
    pub(super) fn set_in_use(&self, in_use: bool) {
        self.in_use.store(in_use, Ordering::Relaxed);
    }

    // ===== for a caller that wants the entry =====

    /// Acquires the entry or, with a waker, joins its queue. It takes the waker only if the caller waits.
    #[inline]
    pub(super) fn acquire(&self, waker: &mut Option<Waker>) -> Result<Admission, GetError> {
        let summary = &self.pool.summary;
        // Usually the hint is right, and the lock of the entry is enough.
        if self.is_in_use() {
            let mut entry = self.entry.lock();
            if summary.is_closed() {
                return Err(GetError::Closed);
            }
            if let Some(admission) = entry.enqueue(summary, waker) {
                self.has_waiters.store(true, Ordering::Relaxed);
                return Ok(admission);
            }
        }
        let mut state = self.pool.lock();
        if summary.is_closed() {
            return Err(GetError::Closed);
        }
        let admission = state.slots.acquire(self.entry_id, waker);
        if let Admission::Queued(_) = admission {
            self.has_waiters.store(true, Ordering::Relaxed);
        }
        Ok(admission)
    }

    /// What a caller of this resource waits for.
    pub(super) fn waiting_for(&self) -> WaitingFor {
        self.entry.lock().waiting_for(self.is_being_opened.load(Ordering::Relaxed))
    }

    /// Notes that the connection is being opened, or not any more.
    pub(super) fn set_being_opened(&self, is_being_opened: bool) {
        self.is_being_opened.store(is_being_opened, Ordering::Relaxed);
    }

    /// The error for a caller whose time limit is over, which is counted.
    #[cold]
    pub(super) fn timed_out(&self, limit: Duration, waiting_for: WaitingFor) -> GetError {
        self.entry.lock().counts.timeouts.add(waiting_for);
        GetError::Timeout { name: Arc::clone(&self.name), limit, waiting_for }
    }

    /// The figures of this resource.
    pub(super) fn stats(&self) -> ResourceStats {
        let entry = self.entry.lock();
        self.dial_counters.with(entry.waiting(), entry.counts)
    }

    /// Leaves the queue.
    pub(super) fn cancel(&self, waiter: WaiterId) -> Waiter {
        let cancelled = self.entry.lock().cancel(waiter);
        cancelled.unwrap_or_else(|| self.pool.lock().slots.cancel(self.entry_id, waiter))
    }

    // ===== for the caller that has acquired the entry =====

    /// Takes the idle connection, if there is one.
    pub(super) fn take_idle(&self) -> Option<Connection<T>> {
        self.idle.lock().take()
    }

    /// Gives an open connection back.
    pub(super) fn give_back(self: &Arc<Self>, mut connection: Connection<T>, was_reused: bool) {
        if self.pool.settings.idle_timeout.is_some() {
            connection.info.idle_since = Some(Instant::now());
        }
        *self.idle.lock() = Some(connection);
        self.pass_on(was_reused);
    }

    /// Gives a connection that was just opened, and whose caller has left, to the first caller that waits for this
    /// resource: it takes the place of the one that left. Without such a caller, the connection is given back.
    pub(super) fn give_to_first(self: &Arc<Self>, mut connection: Connection<T>) {
        connection.info.idle_since = self.pool.settings.idle_timeout.map(|_| Instant::now());
        *self.idle.lock() = Some(connection);
        let first = self.entry.lock().hand_over_dialed(&self.pool.summary);
        match first {
            Some(first) => wake(first), // rule: abandoned-dial-wakes-the-first-waiter
            None => self.pass_on_unused(),
        }
    }

    /// Takes back a connection that is not lent after all. The caller keeps the entry, and passes it on.
    pub(super) fn put_back(&self, connection: Connection<T>) {
        *self.idle.lock() = Some(connection);
    }

    /// Gives back the entry with a connection that was not lent. By the time that it is lent, it needs the checks.
    pub(super) fn pass_on_unused(self: &Arc<Self>) {
        if let Some(connection) = &mut *self.idle.lock() {
            connection.info.readiness = Readiness::Used;
        }
        self.pass_on(false);
    }

    /// Gives back the entry with an idle connection: the next caller gets it, or it stays idle, or it is closed.
    pub(super) fn pass_on(self: &Arc<Self>, was_reused: bool) {
        let pool = &self.pool;
        // While others wait for the same resource, the lock of the entry is enough.
        if self.has_waiters.load(Ordering::Relaxed) {
            let mut entry = self.entry.lock();
            let next = entry.hand_over(&pool.summary, was_reused);
            self.has_waiters.store(entry.has_waiters(), Ordering::Relaxed);
            drop(entry);
            if let Some(next) = next {
                return wake(next);
            }
        }
        let since = pool.settings.idle_timeout.map(|_| Instant::now());
        self.pass_on_through_the_table(Place::newest(since), was_reused);
    }

    /// The same where the pool has to decide. If the connection stays idle, it has this place among the idle ones.
    #[inline(always)]
    fn pass_on_through_the_table(self: &Arc<Self>, place: Place, was_reused: bool) {
        let pool = &self.pool;
        let runtime = pool.settings.idle_timeout.and_then(|_| Handle::try_current().ok());
        let resource = Arc::clone(self) as Arc<dyn IdleResource>;
        let mut state = pool.lock();
        let given_back = state.slots.give_back(self.entry_id, resource, place, was_reused);
        if let GivenBack::Close(reason) = given_back {
            drop(state);
            self.set_in_use(false);
            let release = self.discard_idle(reason);
            return self.release_after(release);
        }
        self.set_in_use(matches!(given_back, GivenBack::HandedOver(_)));
        if let Some(runtime) = runtime {
            let ended = reaper::start_if_needed(pool, &mut state, &runtime);
            drop(state);
            drop(ended);
        } else {
            drop(state);
        }
        if let GivenBack::HandedOver(next) = given_back {
            wake(next);
        }
    }

    /// Closes the connection, and gives back the entry and the slot.
    pub(super) fn close(self: &Arc<Self>, connection: Connection<T>, reason: CloseReason, was_reused: bool) {
        self.set_in_use(false);
        self.pool.lock().slots.begin_release(self.entry_id, was_reused);
        let release = self.discard(connection, reason);
        self.release_after(release);
    }

    /// Takes a connection out of the pool, which stays open, and gives back the entry and the slot.
    pub(super) fn detach(&self, connection: Connection<T>, was_reused: bool) -> T {
        self.set_in_use(false);
        self.pool.lock().slots.begin_release(self.entry_id, was_reused);
        self.pool.emit_closed(&self.name, connection.info.opened, CloseReason::Detached);
        self.release(true);
        connection.value
    }

    /// Closes a connection and reports that. The caller keeps the entry and the slot.
    ///
    /// If the resource has a release action, this returns it, and the connection is open until it has run.
    pub(super) fn discard(self: &Arc<Self>, connection: Connection<T>, reason: CloseReason) -> Option<Release> {
        let Connection { value, info } = connection;
        let Info { opened, runtime, .. } = *info;
        if let Some(runtime) = runtime {
            return Some(Release::new(Arc::clone(self), value, opened, reason, runtime));
        }
        // A panic here must not reach the caller: the connection may be that of another resource.
        if let Err(message) = catch(|| drop(value)) {
            warn(format_args!("{}: the connection panicked when it was dropped: {message}", self.name));
        }
        self.pool.emit_closed(&self.name, opened, reason);
        None
    }

    /// Closes the idle connection, if there is one, as [`discard`](Self::discard) does.
    #[cold]
    pub(super) fn discard_idle(self: &Arc<Self>, reason: CloseReason) -> Option<Release> {
        let connection = self.take_idle()?;
        self.discard(connection, reason)
    }

    /// Gives back the entry and the slot of a connection when it is closed.
    fn release_after(self: &Arc<Self>, release: Option<Release>) {
        match release {
            None => self.release(true),
            Some(release) => {
                let resource = Arc::clone(self);
                release.then(move || resource.release(true));
            }
        }
    }

    // ===== a dial that its caller has left =====

    /// Keeps what ends it.
    pub(super) fn set_background_dial(&self, task: AbortHandle) {
        let former = self.background_dial.lock().replace(task);
        drop(former);
    }

    /// Ends it, if it is still under way: the last handle of the resource is gone, so nobody will use the connection.
    pub(super) fn abort_background_dial(&self) {
        let task = self.background_dial.lock().take();
        if let Some(task) = task {
            ignore(|| task.abort());
        }
    }

    /// Gives back the entry and the slot.
    pub(super) fn release(&self, was_releasing: bool) {
        let next = self.pool.lock().slots.release(self.entry_id, was_releasing);
        wake_all(next); // rule: free-slot-wakes-its-waiter
    }
}

impl<T: Send + 'static> IdleResource for ResourceInner<T> {
    fn check_idle(self: Arc<Self>, asks_peer: bool) {
        let is_due = asks_peer || self.idle.lock().as_ref().is_some_and(Connection::is_aged);
        if !is_due {
            return;
        }
        // The check may be code of the program, so it runs without a lock: the connection is taken out for it.
        let place = self.pool.lock().slots.acquire_idle(self.entry_id);
        let Some(place) = place else { return };
        let Some(mut connection) = self.take_idle() else { unreachable!("an idle connection is in its place") };
        if let Some(reason) = connection.check(&self.pool.settings, self.is_quiet, self.lifecycle.check.as_deref()) {
            return self.close(connection, reason, false);
        }
        connection.info.readiness = Readiness::Used;
        self.put_back(connection);
        self.pass_on_through_the_table(place, false);
    }

    fn close_idle(self: Arc<Self>, reason: CloseReason) -> Option<Release> {
        let release = self.discard_idle(reason);
        // If the resource is gone, this drops its opener, which is code of the program.
        ignore(|| drop(self));
        release
    }
}
