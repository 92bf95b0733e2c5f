//! What the accept loop, the connections and the handle have in common.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, Weak};

use tokio::sync::{Notify, watch};

use super::overflow::{Full, Slots};
use super::seat::{ABORTED, BUSY, CUT, DRAINED, STUCK, Seat, TIMED_OUT, WAS_IDLE, WRITING};
use super::settings::Settings;
use super::stats::{Stats, Tally, count};
use super::{EndReason, Event, Peer, Stopped};
use crate::sync::Mutex;

/// The place of one connection among the acceptors. It counts as long as its handler runs or its stream lives: both have a
/// hold of this.
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) seat: Arc<Seat>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.leave(&self.seat, self.seat.take_end());
    }
}

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) tally: Arc<Tally>,
    /// A connection has gone, with its acceptor.
    pub(super) freed: Notify,
    /// A connection has gone while the acceptor stops.
    pub(super) gone: Notify,
    pub(super) phase: watch::Sender<Phase>,
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
            tally: Arc::default(),
            freed: Notify::new(),
            gone: Notify::new(),
            phase: watch::Sender::new(Phase::Accepting),
            state: Mutex::new(State { slots, seats: HashMap::new(), last_id: 0, stopped: None }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing of a user's runs while it is held, so that nothing panics.
        self.state.lock()
    }

    /// A place for a connection that was accepted.
    pub(super) fn enter(self: &Arc<Self>, peer: Peer) -> Result<Arc<Place>, Full> {
        let mut state = self.lock();
        let grown = state.slots.enter()?;
        state.last_id += 1;
        let seat = Arc::new(Seat::new(state.last_id, peer));
        if state.stopped.is_some() {
            seat.set(DRAINED | WAS_IDLE);
        }
        state.seats.insert(seat.id, Arc::downgrade(&seat));
        drop(state);
        count(&self.tally.accepted);
        if let Some(acceptors) = grown {
            self.settings.hooks.emit(|| Event::Grown { acceptors });
        }
        let place = Arc::new(Place { shared: Arc::clone(self), seat });
        self.settings.hooks.emit(|| Event::Accepted { id: place.seat.id, peer });
        Ok(place)
    }

    /// The end of a connection; called by its place.
    pub(super) fn leave(&self, seat: &Seat, reason: EndReason) {
        let reason = match reason {
            EndReason::Finished | EndReason::Failed(_) if seat.has(ABORTED) => EndReason::Cut,
            EndReason::Failed(_) if seat.has(TIMED_OUT | STUCK) => EndReason::TimedOut,
            other => other,
        };
        count(match &reason {
            EndReason::Finished => &self.tally.finished,
            EndReason::Failed(_) => &self.tally.failed,
            EndReason::TimedOut => &self.tally.timed_out,
            EndReason::Panicked => &self.tally.panicked,
            EndReason::Cut => &self.tally.cut,
        });
        let lived = seat.since.elapsed();
        // Before anyone can see that it has left.
        self.settings.hooks.emit(|| Event::Closed {
            id: seat.id,
            peer: seat.peer,
            reason: reason.clone(),
            lived,
            bytes_read: seat.bytes_read.load(Ordering::Relaxed),
            bytes_written: seat.bytes_written.load(Ordering::Relaxed),
        });
        let mut state = self.lock();
        state.seats.remove(&seat.id);
        let shrunk = state.slots.leave();
        if let Some(stopped) = &mut state.stopped {
            match reason {
                EndReason::Cut => stopped.cut += 1,
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
            self.settings.hooks.emit(|| Event::Shrunk { acceptors });
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
    pub(super) async fn enter_when_free(self: &Arc<Self>, peer: Peer) -> Arc<Place> {
        loop {
            self.vacancy().await;
            if let Ok(place) = self.enter(peer) {
                // Two may have gone while one was told.
                if !self.is_full() {
                    self.freed.notify_one();
                }
                return place;
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
        self.settings.hooks.emit(|| Event::Stopping);
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
