//! What the accept loop, the connections and the handle have in common.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, Semaphore, watch};

use super::overflow::{Full, Slots};
use super::seat::{ABORTED, BUSY, CUT, DRAINED, STUCK, Seat, TIMED_OUT, WAS_IDLE, WRITING};
use super::settings::Settings;
use super::stats::{Stats, Tally, count};
use super::{Event, Peer, Stopped, Why};

/// So many refused clients are seen off at the same time; those beyond are not waited for. More than tokio lets the accept loop
/// accept in one go (128), so that a burst alone does not reach it.
const REFUSED_AT_ONCE: usize = 256;

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) tally: Tally,
    /// A connection has gone, with its acceptor.
    pub(super) freed: Notify,
    /// A connection has gone while the acceptor stops.
    pub(super) gone: Notify,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) refusing: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Accepting,
    /// The accept loop is to end.
    Stopping,
    /// It has, and the port is free.
    Closed,
}

struct State {
    slots: Slots,
    seats: HashMap<u64, Weak<Seat>>,
    last_id: u64,
    /// Since when connections are let go: how they have ended.
    stopped: Option<Stopped>,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        let slots = Slots::new(settings.acceptors, settings.overflow);
        Arc::new(Self {
            settings,
            tally: Tally::default(),
            freed: Notify::new(),
            gone: Notify::new(),
            phase: watch::Sender::new(Phase::Accepting),
            refusing: Arc::new(Semaphore::new(REFUSED_AT_ONCE)),
            state: Mutex::new(State { slots, seats: HashMap::new(), last_id: 0, stopped: None }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing of a user's runs while it is held, so that nothing panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection that was accepted.
    pub(super) fn enter(self: &Arc<Self>, peer: Peer) -> Result<Arc<Seat>, Full> {
        let mut state = self.lock();
        let grown = state.slots.enter()?;
        state.last_id += 1;
        let seat = Arc::new(Seat::new(Arc::clone(self), state.last_id, peer));
        if state.stopped.is_some() {
            seat.set(DRAINED | WAS_IDLE);
        }
        state.seats.insert(seat.id, Arc::downgrade(&seat));
        drop(state);
        count(&self.tally.accepted);
        if let Some(acceptors) = grown {
            self.settings.hooks.tell(|| Event::Grown { acceptors });
        }
        self.settings.hooks.tell(|| Event::Accepted { id: seat.id, peer });
        Ok(seat)
    }

    /// The end of a connection; called by its seat.
    pub(super) fn leave(&self, seat: &Seat, why: Why) {
        let why = match why {
            Why::Finished | Why::Failed(_) if seat.has(ABORTED) => Why::Cut,
            Why::Failed(_) if seat.has(TIMED_OUT | STUCK) => Why::TimedOut,
            other => other,
        };
        count(match &why {
            Why::Finished => &self.tally.finished,
            Why::Failed(_) => &self.tally.failed,
            Why::TimedOut => &self.tally.timed_out,
            Why::Panicked => &self.tally.panicked,
            Why::Cut => &self.tally.cut,
        });
        let lived = seat.since.elapsed();
        // Before anyone can see that it has left.
        self.settings.hooks.tell(|| Event::Closed {
            id: seat.id,
            peer: seat.peer,
            why: why.clone(),
            lived,
            bytes_read: seat.bytes_read.load(Ordering::Relaxed),
            bytes_written: seat.bytes_written.load(Ordering::Relaxed),
        });
        let mut state = self.lock();
        state.seats.remove(&seat.id);
        let shrunk = state.slots.leave();
        if let Some(stopped) = &mut state.stopped {
            match why {
                Why::Cut => stopped.cut += 1,
                _ if seat.has(WAS_IDLE) => stopped.idle += 1,
                _ => stopped.finished += 1,
            }
        }
        let is_stopped = state.stopped.is_some();
        drop(state);
        self.freed.notify_one();
        if is_stopped {
            self.gone.notify_waiters();
        }
        if let Some(acceptors) = shrunk {
            self.settings.hooks.tell(|| Event::Shrunk { acceptors });
        }
    }

    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.slots.busy() >= state.slots.capacity()
    }

    /// Waits until there is an acceptor free.
    pub(super) async fn vacancy(&self) {
        while self.is_full() {
            self.freed.notified().await;
        }
    }

    /// The same, as soon as there is one.
    #[cfg(feature = "tls")]
    pub(super) async fn enter_when_free(self: &Arc<Self>, peer: Peer) -> Arc<Seat> {
        loop {
            self.vacancy().await;
            if let Ok(seat) = self.enter(peer) {
                // Two may have gone while one was told.
                if !self.is_full() {
                    self.freed.notify_one();
                }
                return seat;
            }
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.lock();
        self.tally.with(state.slots.capacity(), state.slots.busy())
    }

    /// Waits until no connection is left. For use once it stops.
    pub(super) async fn emptied(&self) {
        loop {
            let mut gone = pin!(self.gone.notified());
            // From here on, whoever goes is noticed.
            gone.as_mut().enable();
            if self.lock().seats.is_empty() {
                return;
            }
            gone.await;
        }
    }

    /// Ends the accept loop, and every connection as soon as nothing is under way on it.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        if state.stopped.is_some() {
            return;
        }
        state.stopped = Some(Stopped::default());
        drop(state);
        self.settings.hooks.tell(|| Event::Stopping);
        self.phase.send_if_modified(|phase| {
            let is_accepting = *phase == Phase::Accepting;
            if is_accepting {
                *phase = Phase::Stopping;
            }
            is_accepting
        });
        self.call_all(DRAINED);
    }

    /// Ends every connection.
    pub(super) fn cut(&self) {
        self.call_all(CUT | ABORTED);
    }

    /// How the connections have ended since the stop. Those that are still there will be cut when they can be.
    pub(super) fn stopped(&self) -> Stopped {
        let state = self.lock();
        let mut stopped = state.stopped.unwrap_or_default();
        stopped.cut += state.seats.len();
        stopped
    }

    fn call_all(&self, flag: u16) {
        // (A seat that is dropped while the lock is held would want it.)
        let seats: Vec<_> = self.lock().seats.values().filter_map(Weak::upgrade).collect();
        for seat in &seats {
            if flag == DRAINED && !seat.has(BUSY | WRITING) {
                seat.set(WAS_IDLE);
            }
            seat.call(flag);
        }
    }
}
