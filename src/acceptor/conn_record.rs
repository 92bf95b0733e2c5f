//! The record of one connection: its state, the tasks that wait on it, and how it ended.
//!
//! The stream, the handler's task and the acceptor share it. Two enums name its state: [`StopState`] says how the
//! connection is being stopped, [`Activity`] says what is under way. Both change only through the methods of
//! [`ConnRecord`]. They are packed into one atomic, because every read and write of a stream looks at them.
//!
//! Next: [`state`], the state itself; then [`super::stream`], which changes the record with every operation, and
//! [`super::registry`], which has all records.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake, Waker};

use tokio::time::Instant;

pub(super) use self::hold::Hold;
pub(super) use self::last_call::LastCall;
pub(super) use self::outcome::{Outcome, StreamTotals};
use self::state::RecordState;
pub(super) use self::state::{Activity, StopState};
use super::{EndReason, Peer};
use crate::panics;
use crate::sync::Mutex;
use crate::waiters::Waiters;

mod hold;
mod last_call;
mod outcome;
mod state;
#[cfg(test)]
mod tests;

/// What is known of one connection.
pub(super) struct ConnRecord {
    /// The number of the connection, from 1.
    pub(super) id: u64,
    /// Kept for the event of the end: a closed socket no longer knows it.
    pub(super) peer: Peer,
    /// When it got its slot.
    pub(super) since: Instant,
    /// A [`RecordState`], packed.
    state: AtomicU8,
    /// The last call of the stop, once the acceptor stops.
    last_call: OnceLock<LastCall>,
    /// How many [`Busy`](super::Busy) marks there are.
    busy: AtomicUsize,
    /// How many [`Stopping`](super::Stopping) futures there are.
    stopping: AtomicUsize,
    /// Lines are at work beside the reads.
    is_handling: AtomicBool,
    /// The program is done with the connection, and only its close is under way.
    is_closing: AtomicBool,
    /// One slot for each [`Waiter`].
    wakers: Mutex<[Option<Waker>; 3]>,
    /// Tasks that wait for the stop, or for the last mark.
    waiters: Waiters,
    /// Filled in by the handler's task and the stream, and taken by the registry at the end.
    outcome: Mutex<Outcome>,
}

/// A task that can wait on a record.
#[derive(Clone, Copy)]
pub(super) enum Waiter {
    /// The task that reads the stream.
    Reader,
    /// The task that writes the stream, which may be another one.
    Writer,
    /// The task that runs the handler, and drops it when the connection is cut.
    Handler,
}

impl ConnRecord {
    /// The record of a connection that was accepted now. If the acceptor is stopping already, `stop` is not `Open`, and
    /// there is a last call.
    pub(super) fn new(id: u64, peer: Peer, stop: StopState, last_call: Option<LastCall>) -> Self {
        let was_idle = stop != StopState::Open;
        let state = RecordState { stop, activity: Activity::Idle, message_done: false, was_idle };
        Self {
            id,
            peer,
            since: Instant::now(),
            state: AtomicU8::new(state.pack()),
            last_call: last_call.map(OnceLock::from).unwrap_or_default(),
            busy: AtomicUsize::new(0),
            stopping: AtomicUsize::new(0),
            is_handling: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            wakers: Mutex::default(),
            waiters: Waiters::new(),
            outcome: Mutex::default(),
        }
    }

    /// The state at this moment.
    fn state(&self) -> RecordState {
        RecordState::unpack(self.state.load(Ordering::SeqCst))
    }

    /// Changes the state, and returns what it was. It writes nothing if nothing changes.
    fn update(&self, change: impl Fn(&mut RecordState)) -> RecordState {
        let step = |bits| {
            let mut state = RecordState::unpack(bits);
            change(&mut state);
            (state.pack() != bits).then(|| state.pack())
        };
        match self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) {
            Ok(before) | Err(before) => RecordState::unpack(before),
        }
    }

    /// Moves on to a later stop state and wakes every waiter. An earlier state is ignored.
    fn stop(&self, to: StopState) {
        self.update(|state| {
            if to == StopState::Draining && state.activity == Activity::Idle && !self.is_busy() {
                state.was_idle = true;
            }
            state.stop = state.stop.max(to);
        });
        // A waiter that is missed here looks at the state after it has left its waker.
        self.wake_all();
        self.waiters.wake_all();
    }

    /// The acceptor stops: the connection ends when nothing is under way.
    pub(super) fn drain(&self, last_call: LastCall) {
        self.last_call.get_or_init(|| last_call);
        self.stop(StopState::Draining);
    }

    /// The line handler has ended: whatever clones of the connection are left can send nothing.
    pub(super) fn end(&self) {
        self.stop(StopState::Ended);
    }

    /// The acceptor ends the connection by force.
    pub(super) fn cut(&self) {
        self.stop(StopState::Cut);
    }

    /// How the connection is being stopped.
    pub(super) fn stop_state(&self) -> StopState {
        self.state().stop
    }

    /// Whether every operation fails from now on.
    pub(super) fn is_over(&self) -> bool {
        self.stop_state() >= StopState::Ended
    }

    /// Whether the connection is to end when nothing is under way.
    pub(super) fn is_draining(&self) -> bool {
        self.stop_state() == StopState::Draining
    }

    /// Whether the connection is being stopped in any way.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop_state() != StopState::Open
    }

    /// Waits until the connection is being stopped.
    pub(super) async fn stop_begun(&self) {
        self.waiters.wait_until(|| self.is_stopping().then_some(())).await;
    }

    /// What the stop still accepts. `None` before it.
    pub(super) fn last_call(&self) -> Option<&LastCall> {
        self.last_call.get()
    }

    /// Whether the connection goes on only with what it has read.
    pub(super) fn is_last_call_over(&self) -> bool {
        self.last_call().is_some_and(|last_call| Instant::now() >= last_call.until)
    }

    /// Whether the program says that work goes on.
    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::SeqCst) > 0
    }

    /// Whether the program keeps the connection open during the stop, whatever is under way.
    pub(super) fn is_held(&self) -> bool {
        self.is_busy() || self.stopping.load(Ordering::SeqCst) > 0
    }

    /// Waits until the program says no more that work goes on, or the connection is over.
    pub(super) async fn not_busy(&self) {
        self.waiters.wait_until(|| (!self.is_busy() || self.is_over()).then_some(())).await;
    }

    /// The program is done with the connection, and it has ended for this reason. If the rest of its close is cut, that
    /// changes nothing.
    pub(super) fn closing(&self, reason: EndReason) {
        self.handler_ended(reason);
        self.is_closing.store(true, Ordering::SeqCst);
    }

    /// Whether the program is done with the connection.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    /// What is under way.
    pub(super) fn activity(&self) -> Activity {
        self.state().activity
    }

    /// Whether nothing was under way when the acceptor stopped.
    pub(super) fn was_idle(&self) -> bool {
        self.state().was_idle
    }

    /// What seemed to be under way at the stop was an abandoned write: nothing was.
    pub(super) fn set_was_idle(&self) {
        self.update(|state| state.was_idle = true);
    }

    /// Data has arrived. It is under way until it is answered or done.
    pub(super) fn request_received(&self) {
        self.update(|state| {
            state.activity = Activity::new(true, state.activity.has_write());
            // It had arrived before the stop, as far as anybody can tell.
            state.was_idle = false;
        });
    }

    /// What was received is handled. The stream learns of it by [`take_message_done`](Self::take_message_done).
    pub(super) fn message_done(&self) {
        let before = self.update(|state| {
            state.activity = Activity::new(false, state.activity.has_write());
            state.message_done = true;
        });
        self.wake_if_draining(before);
    }

    /// A whole line has arrived, and others may be at work: the time limit of the next one starts over.
    pub(super) fn line_received(&self) {
        self.update(|state| state.message_done = true);
    }

    /// Lines are at work while the next one is waited for, or no longer.
    pub(super) fn set_handling(&self, is_handling: bool) {
        self.is_handling.store(is_handling, Ordering::SeqCst);
    }

    /// Whether the client may be waiting for answers, so that a read is not limited in time.
    pub(super) fn is_handling(&self) -> bool {
        self.is_handling.load(Ordering::SeqCst)
    }

    /// Whether a message was finished since the last call.
    pub(super) fn take_message_done(&self) -> bool {
        self.update(|state| state.message_done = false).message_done
    }

    /// A write has to wait for the peer.
    pub(super) fn write_blocked(&self) {
        self.update(|state| state.activity = Activity::new(state.activity.has_request(), true));
    }

    /// A write has completed. Whether it had to wait; `is_answer` if it answers what was received.
    pub(super) fn write_ended(&self, is_answer: bool) -> bool {
        let before =
            self.update(|state| state.activity = Activity::new(state.activity.has_request() && !is_answer, false));
        before.activity.has_write()
    }

    /// Counts no write as blocked until a write says so again.
    pub(super) fn forget_blocked_write(&self) {
        self.update(|state| state.activity = Activity::new(state.activity.has_request(), false));
    }

    /// Wakes every waiter if the stop has waited for something that is done now.
    pub(super) fn wake_if_now_idle(&self) {
        self.wake_if_draining(self.state());
    }

    /// For what a stop may have waited for, given the state at that moment.
    fn wake_if_draining(&self, state: RecordState) {
        if state.stop == StopState::Draining {
            // A read of another task may wait for this.
            self.wake_all();
        }
    }

    /// Wakes every waiter.
    pub(super) fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.into_iter().flatten().for_each(panics::wake);
    }

    /// The task is woken by the next change. Look at the state after this call, not before it.
    pub(super) fn set_waker(&self, waiter: Waiter, cx: &Context<'_>) {
        let index = waiter as usize;
        if self.wakers.lock()[index].as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return;
        }
        // A waker is code of the program: it is cloned and dropped without the lock.
        let waker = cx.waker().clone();
        let replaced = self.wakers.lock()[index].replace(waker);
        drop(replaced);
    }

    /// How the handler ended. The first call counts.
    pub(super) fn handler_ended(&self, reason: EndReason) {
        let surplus = match &mut self.outcome.lock().reason {
            Some(_) => Some(reason),
            none => none.replace(reason),
        };
        // An error of the program is dropped without the lock.
        drop(surplus);
    }

    /// What the stream has done, at its end.
    pub(super) fn stream_dropped(&self, totals: StreamTotals) {
        self.outcome.lock().totals = totals;
    }

    /// How the connection ended. For use at its end.
    pub(super) fn take_outcome(&self) -> Outcome {
        let mut outcome = std::mem::take(&mut *self.outcome.lock());
        outcome.forgive_unannounced_end();
        outcome
    }
}

impl fmt::Debug for ConnRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnRecord").field("id", &self.id).field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Wakes every waiter, for an operation that more than one task may wait for.
impl Wake for ConnRecord {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}
