//! One resource, as its handles, its users and the pool share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::book::{Answer, Cancelled, Put};
use super::look;
use super::make::Make;
use super::reaper;
use super::shared::{Desk, Leaving, Parking, Shared, wake};
use super::{CloseReason, GetError};
use crate::hooks::warn;
use crate::panics::catch;
use crate::sync::Mutex;

pub(super) struct Inner<T> {
    pub(super) shared: Arc<Shared>,
    pub(super) name: Arc<str>,
    pub(super) entry: usize,
    pub(super) desk: Arc<Desk>,
    /// The connection, while nobody uses it.
    cell: Mutex<Option<Live<T>>>,
    /// Taken by the one who dials.
    maker: Mutex<Option<Box<dyn Make<T>>>>,
    /// Somebody uses the connection. (A hint: it may be outdated.)
    is_busy: AtomicBool,
    /// Somebody waits for it. (A hint, too.)
    is_waited_for: AtomicBool,
    /// Whether what is no socket is open and silent, as far as can be known.
    is_quiet: fn(&mut T) -> bool,
}

/// An open connection.
pub(super) struct Live<T> {
    pub(super) value: T,
    opened: Instant,
    /// Since when nobody uses it, if there is a limit to that.
    idle_since: Option<Instant>,
}

impl<T> Live<T> {
    pub(super) fn new(value: T, opened: Instant) -> Self {
        Self { value, opened, idle_since: None }
    }
}

impl<T: Send + 'static> Inner<T> {
    pub(super) fn new(
        shared: &Arc<Shared>,
        name: &str,
        maker: impl Make<T> + 'static,
        is_quiet: fn(&mut T) -> bool,
    ) -> Arc<Self> {
        let (entry, desk) = shared.lock().book.add_entry();
        Arc::new(Self {
            shared: Arc::clone(shared),
            name: name.into(),
            entry,
            desk,
            cell: Mutex::new(None),
            maker: Mutex::new(Some(Box::new(maker))),
            is_busy: AtomicBool::new(false),
            is_waited_for: AtomicBool::new(false),
            is_quiet,
        })
    }

    /// Why a connection is not fit for the next user.
    #[inline]
    pub(super) fn fault_of(&self, live: &mut Live<T>) -> Option<CloseReason> {
        if self.is_aged(live) {
            return Some(CloseReason::Aged);
        }
        if let (Some(limit), Some(since)) = (self.shared.settings.idle_timeout, live.idle_since) {
            if since.elapsed() > limit {
                return Some(CloseReason::Idle);
            }
        }
        let is_quiet = match look::is_quiet(&live.value) {
            Some(is_quiet) => is_quiet,
            // It is the program's own code.
            None => catch(|| (self.is_quiet)(&mut live.value)).unwrap_or(false),
        };
        if is_quiet { None } else { Some(CloseReason::Dead) }
    }

    pub(super) fn is_aged(&self, live: &Live<T>) -> bool {
        self.shared.settings.max_age.is_some_and(|limit| live.opened.elapsed() > limit)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Relaxed)
    }

    pub(super) fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }

    // ===== for one who wants the entry =====

    /// Asks for it; with a waker, waits if need be.
    pub(super) fn ask(&self, waker: &mut Option<Waker>) -> Result<Answer<Box<dyn Leaving>, GetError>, GetError> {
        if self.is_busy() {
            let mut desk = self.desk.lock();
            if self.shared.board.is_closed() {
                return Err(GetError::Closed);
            }
            if let Some(answer) = desk.ask(&self.shared.board, waker) {
                self.is_waited_for.store(true, Ordering::Relaxed);
                return Ok(answer);
            }
        }
        let mut state = self.shared.lock();
        if self.shared.board.is_closed() {
            return Err(GetError::Closed);
        }
        let answer = state.book.ask(self.entry, waker);
        if let Answer::Wait(_) = answer {
            self.is_waited_for.store(true, Ordering::Relaxed);
        }
        Ok(answer)
    }

    /// One who waits does not want to any more.
    pub(super) fn cancel(&self, place: usize) -> Cancelled<Box<dyn Leaving>, GetError> {
        let cancelled = self.desk.lock().cancel(place);
        cancelled.unwrap_or_else(|| self.shared.lock().book.cancel(self.entry, place))
    }

    // ===== for one who has the entry =====

    /// The connection, for a user to whom it was granted.
    pub(super) fn take(&self) -> Option<Live<T>> {
        self.cell.lock().take()
    }

    /// The connection comes back.
    pub(super) fn put(self: &Arc<Self>, mut live: Live<T>, was_reused: bool) {
        live.idle_since = self.shared.settings.idle_timeout.map(|_| Instant::now());
        *self.cell.lock() = Some(live);
        self.put_back(was_reused);
    }

    /// The connection is in its place, and goes to the next one.
    pub(super) fn put_back(self: &Arc<Self>, was_reused: bool) {
        let shared = &self.shared;
        if self.is_waited_for.load(Ordering::Relaxed) {
            let mut desk = self.desk.lock();
            let next = desk.hand_over(&shared.board, was_reused);
            self.is_waited_for.store(desk.is_waited_for(), Ordering::Relaxed);
            drop(desk);
            if let Some(next) = next {
                return wake(next);
            }
        }
        let since = shared.settings.idle_timeout.map(|_| Instant::now());
        // (It is asked for where the lock is not held.)
        let runtime = since.and_then(|_| Handle::try_current().ok());
        let mut state = shared.lock();
        match state.book.put(self.entry, Arc::clone(self) as Arc<dyn Parking>, since, was_reused) {
            Put::Kept(next) => {
                self.set_busy(next.is_some());
                let ended = runtime.as_ref().map(|runtime| reaper::start_if_needed(shared, &mut state, runtime));
                drop(state);
                drop(ended);
                wake(next);
            }
            Put::Close(reason) => {
                drop(state);
                self.set_busy(false);
                self.take_out().close(shared, reason);
                self.release(true);
            }
        }
    }

    /// The connection is not to be used again.
    pub(super) fn close(&self, live: Live<T>, reason: CloseReason, was_reused: bool) {
        self.set_busy(false);
        self.shared.lock().book.begin_release(self.entry, was_reused);
        self.discard(live, reason);
        self.release(true);
    }

    /// Drops a connection; the entry and the slot stay with the one who has them.
    pub(super) fn discard(&self, live: Live<T>, reason: CloseReason) {
        Box::new(Outgoing { name: Arc::clone(&self.name), live: Some(live) }).close(&self.shared, reason);
    }

    /// Gives back the entry and the slot.
    pub(super) fn release(&self, was_releasing: bool) {
        let next = self.shared.lock().book.release(self.entry, was_releasing);
        wake(next);
    }

    pub(super) fn take_maker(self: &Arc<Self>) -> Option<Box<dyn Make<T>>> {
        self.maker.lock().take()
    }

    pub(super) fn put_maker(&self, maker: Option<Box<dyn Make<T>>>) {
        *self.maker.lock() = maker;
    }
}

impl<T: Send + 'static> Parking for Inner<T> {
    fn take_out(&self) -> Box<dyn Leaving> {
        Box::new(Outgoing { name: Arc::clone(&self.name), live: self.take() })
    }
}

struct Outgoing<T> {
    name: Arc<str>,
    live: Option<Live<T>>,
}

impl<T: Send> Leaving for Outgoing<T> {
    fn close(self: Box<Self>, shared: &Shared, reason: CloseReason) {
        let Some(Live { value, opened, .. }) = self.live else { return };
        // It may be another resource's, and no concern of who runs this.
        if let Err(message) = catch(|| drop(value)) {
            warn(format_args!("{}: panicked when it was closed: {message}", self.name));
        }
        shared.tell_closed(&self.name, opened, reason);
    }
}
