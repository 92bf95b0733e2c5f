//! The registry: what the accept loop, the connections and the [`Acceptor`](super::Acceptor) share.
//!
//! It counts the acceptor slots, has the records of all open connections, and knows whether the acceptor still
//! accepts. Its lock is never held while the program's own code runs, and no other lock is taken under it.
//!
//! Next: [`super::conn_record`], the record of one connection.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::admission::Admitted;
use super::alive::{Alive, Ended};
use super::capacity::{Capacity, Full};
use super::conn_record::{ConnRecord, LastCall, Outcome, StopState};
use super::settings::Settings;
use super::stats::{Counters, Stats, count};
use super::{EndReason, Error, Event, Stopped};
use crate::panics::ignore;
use crate::sync::Mutex;

/// Keeps a connection registered, with its acceptor slot.
///
/// The handler's task and the stream hold a reference each; the connection is over when both are gone.
pub(super) struct Registration {
    /// The acceptor of the connection.
    pub(super) registry: Arc<Registry>,
    /// What the drop takes out of the registry, with the outcome for its event.
    pub(super) record: Arc<ConnRecord>,
    /// Counts for its address as long as it is open.
    #[cfg_attr(not(feature = "proxy-protocol"), expect(dead_code, reason = "it acts when it is dropped"))]
    pub(super) admitted: Admitted,
    /// The last field, so that `closed` returns when the registry with its hooks is released.
    _alive: Arc<Alive>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.deregister(&self.record);
    }
}

/// What an acceptor consists of, besides its listener and its handler.
pub(super) struct Registry {
    /// Fixed once the acceptor runs, so that they need no lock.
    pub(super) settings: Settings,
    /// Apart from the lock, and shared with pending clients, which hold no slot.
    pub(super) counters: Arc<Counters>,
    /// Observed by the accept loop, by pending clients and by the certificate watcher, which all end when it
    /// changes. Nothing else may wait for it: a waker of the program can panic, and would then keep the wake-up from
    /// these tasks.
    pub(super) phase: watch::Sender<Phase>,
    /// A slot has become free. One permit wakes one waiter.
    slot_freed: Notify,
    /// Given to each connection. Weak, as the acceptor itself keeps the registry.
    alive: Weak<Alive>,
    /// What `closed` waits for.
    ended: Arc<Ended>,
    /// A leaf lock.
    state: Mutex<RegistryState>,
}

/// How far the end of an acceptor has come. It only ever moves down this list.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// It accepts.
    Accepting,
    /// The program stops it: the accept loop is to end.
    Stopping,
    /// The accept loop has ended, and the port is free. With the cause if it ended by itself.
    Closed(Option<Arc<Error>>),
}

impl Phase {
    /// Whether the program has not stopped it, and it has not ended by itself.
    pub(super) fn is_accepting(&self) -> bool {
        matches!(self, Self::Accepting)
    }
}

/// What changes when a connection comes or goes.
struct RegistryState {
    /// The slots, taken and freed together with the records.
    capacity: Capacity,
    /// The open connections, by their number.
    records: HashMap<u64, Weak<ConnRecord>>,
    /// The number of the newest connection.
    last_id: u64,
    /// How connections are being stopped; a new one starts in this state.
    stop: StopState,
    /// What a stop still accepts. `None` before it.
    last_call: Option<LastCall>,
    /// How connections have ended since the stop.
    stopped: Stopped,
    /// The accept loop has ended. A handshake that ends at the same moment is too late.
    is_closed: bool,
}

/// Why a connection gets no slot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    /// All slots are busy.
    Full,
    /// The accept loop has ended.
    Closed,
}

impl Registry {
    /// An acceptor that accepts, without connections. It ends with the last clone of `alive`.
    pub(super) fn new(settings: Settings, alive: &Arc<Alive>) -> Arc<Self> {
        let capacity = Capacity::new(settings.acceptors, settings.overflow);
        let state = RegistryState {
            capacity,
            records: HashMap::new(),
            last_id: 0,
            stop: StopState::Open,
            last_call: None,
            stopped: Stopped::default(),
            is_closed: false,
        };
        Arc::new(Self {
            settings,
            counters: Arc::default(),
            phase: watch::Sender::new(Phase::Accepting),
            slot_freed: Notify::new(),
            alive: Arc::downgrade(alive),
            ended: alive.ended(),
            state: Mutex::new(state),
        })
    }

    /// Registers a connection that was accepted, and takes a slot for it. Emits [`Event::Accepted`].
    pub(super) fn register(self: &Arc<Self>, admitted: &Admitted) -> Result<Arc<Registration>, Rejected> {
        // The caller holds one. Before the lock, as the drop of the last one wakes tasks.
        let alive = self.alive.upgrade().ok_or(Rejected::Closed)?;
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Rejected::Closed);
        }
        let grown = state.capacity.acquire().map_err(|Full| Rejected::Full)?;
        state.last_id += 1;
        let peer = admitted.peer;
        let record = Arc::new(ConnRecord::new(state.last_id, peer, state.stop, state.last_call));
        state.records.insert(record.id, Arc::downgrade(&record));
        drop(state);
        count(&self.counters.accepted);
        if let Some(acceptors) = grown {
            self.settings.hooks.emit(|| Event::Grown { acceptors });
        }
        let registration =
            Arc::new(Registration { registry: Arc::clone(self), record, admitted: admitted.clone(), _alive: alive });
        self.settings.hooks.emit(|| Event::Accepted { id: registration.record.id, peer });
        Ok(registration)
    }

    /// Registers a connection as soon as a slot is free.
    ///
    /// Cancel safe: a dropped call takes no slot.
    pub(super) async fn register_when_free(
        self: &Arc<Self>,
        admitted: &Admitted,
    ) -> Result<Arc<Registration>, Rejected> {
        loop {
            self.slot().await;
            match self.register(admitted) {
                Err(Rejected::Full) => {}
                outcome => {
                    // Two slots may have become free while one waiter was notified.
                    if !self.is_full() {
                        self.slot_freed.notify_one();
                    }
                    return outcome;
                }
            }
        }
    }

    /// Ends a connection: counts and reports how it ended, and frees its slot. For its registration, when that is
    /// dropped.
    fn deregister(&self, record: &ConnRecord) {
        let Outcome { reason, totals } = record.take_outcome();
        // Without a reason, the runtime has dropped the handler's task.
        let outcome = reason.unwrap_or(EndReason::Cut);
        let reason = match &outcome {
            EndReason::Finished | EndReason::Failed(_)
                if record.stop_state() == StopState::Cut && !record.is_closing() =>
            {
                EndReason::Cut
            }
            EndReason::Failed(_) if totals.timed_out => EndReason::TimedOut,
            other => other.clone(),
        };
        count(match &reason {
            EndReason::Finished => &self.counters.finished,
            EndReason::Failed(_) => &self.counters.failed,
            EndReason::TimedOut => &self.counters.timed_out,
            EndReason::Panicked => &self.counters.panicked,
            EndReason::Cut => &self.counters.cut,
        });
        let lived = record.since.elapsed();
        // The hook is called before anything else shows that the connection has gone.
        self.settings.hooks.emit(|| Event::Closed {
            id: record.id,
            peer: record.peer,
            reason: reason.clone(),
            lived,
            bytes_read: totals.bytes_read,
            bytes_written: totals.bytes_written,
        });
        let mut state = self.state.lock();
        state.records.remove(&record.id);
        let shrunk = state.capacity.release();
        if state.stop != StopState::Open {
            match &reason {
                EndReason::Cut => state.stopped.cut += 1,
                // It panicked when it was cut.
                EndReason::Panicked if record.stop_state() == StopState::Cut => state.stopped.cut += 1,
                _ if record.was_idle() => state.stopped.idle += 1,
                _ => state.stopped.finished += 1,
            }
        }
        drop(state);
        self.slot_freed.notify_one();
        if let Some(acceptors) = shrunk {
            self.settings.hooks.emit(|| Event::Shrunk { acceptors });
        }
        // The error of the handler is a value of the program. It is dropped last, as that may panic.
        ignore(|| drop((outcome, reason)));
    }

    /// Whether a connection has to wait for a slot now, or makes the acceptor grow.
    fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.capacity.busy() >= state.capacity.total()
    }

    /// Waits until a slot is free, and takes none.
    pub(super) async fn slot(&self) {
        while self.is_full() {
            self.slot_freed.notified().await;
        }
    }

    /// The figures of this moment.
    pub(super) fn stats(&self) -> Stats {
        let state = self.state.lock();
        self.counters.snapshot(state.capacity.total(), state.capacity.busy())
    }

    /// Ends the accept loop, and every connection as soon as nothing is under way on it. `deadline` says how long that may
    /// take; it only sets the last call.
    pub(super) fn drain(&self, deadline: Duration) {
        let mut state = self.state.lock();
        if state.stop != StopState::Open {
            return;
        }
        let last_call = LastCall::new(deadline);
        (state.stop, state.last_call) = (StopState::Draining, Some(last_call));
        drop(state);
        self.settings.hooks.emit(|| Event::Stopping);
        self.phase.send_if_modified(|phase| {
            let is_accepting = phase.is_accepting();
            if is_accepting {
                *phase = Phase::Stopping;
            }
            is_accepting
        });
        self.records().iter().for_each(|record| record.drain(last_call));
    }

    /// Ends every connection by force, also one that is being accepted at this moment.
    pub(super) fn cut(&self) {
        self.state.lock().stop = StopState::Cut;
        self.records().iter().for_each(|record| record.cut());
    }

    /// The open connections. (A record that is dropped under the lock would take it again.)
    fn records(&self) -> Vec<Arc<ConnRecord>> {
        self.state.lock().records.values().filter_map(Weak::upgrade).collect()
    }

    /// Notes and reports that the accept loop has ended and its listener is closed.
    ///
    /// `cause` says why, in case the program has not stopped it.
    pub(super) fn accept_loop_ended(&self, cause: Option<Error>) {
        let cause = cause.filter(|_| self.phase.borrow().is_accepting()).map(Arc::new);
        self.state.lock().is_closed = true;
        // The hooks are called before `closed` returns.
        if let Some(cause) = &cause {
            self.settings.hooks.log(cause);
            self.settings.hooks.emit(|| Event::Ended { cause: Arc::clone(cause) });
        }
        self.phase.send_replace(Phase::Closed(cause));
    }

    /// Waits until the accept loop has ended and no connection is open. The error is why it ended by itself.
    pub(super) async fn closed(&self) -> Result<(), Arc<Error>> {
        self.ended.wait().await;
        match &*self.phase.borrow() {
            Phase::Closed(Some(cause)) => Err(Arc::clone(cause)),
            _ => Ok(()),
        }
    }

    /// How the connections have ended since the stop. Those that are still open count as cut.
    pub(super) fn stopped(&self) -> Stopped {
        let state = self.state.lock();
        let mut stopped = state.stopped;
        stopped.cut += state.records.len();
        stopped
    }
}
