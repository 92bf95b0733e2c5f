//! What the handles of an outbox and its task share: the store behind a lock, and who waits for what.
//!
//! No code of the program runs under the lock. Wakers are such code: they are collected under the lock, and woken after
//! it.
//!
//! Next: [`Store`], the rules.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::room::RoomQueue;
use super::store::{Rules, Store};
use super::{Fate, Tally, WhenFull};
use crate::Error;
use crate::panics::wake;
use crate::sync::Mutex;
use crate::waiters::Waiters;

/// The shared part of one outbox.
#[derive(Debug)]
pub(super) struct Shared {
    /// The lock.
    state: Mutex<State>,
    /// Time 0 of the store.
    started: Instant,
    /// Whether messages can expire, so that the time of their acceptance matters.
    expires: bool,
    /// The longest message.
    pub(super) max_message: usize,
    /// Those who wait for the end.
    pub(super) ended: Waiters,
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct State {
    /// The messages.
    pub(super) store: Store,
    /// Whether the outbox takes messages, and why not.
    pub(super) phase: Phase,
    /// The task, while it sleeps. It is a task of tokio, so its waker is not code of the program.
    pub(super) task: Option<Waker>,
    /// Whether a new message wakes the task.
    pub(super) wants_messages: bool,
    /// Whether the task has to be woken after this change.
    wake_task: bool,
    /// The senders that wait for room.
    pub(super) room: RoomQueue,
    /// The senders that wait for the fate of their message.
    fates: BTreeMap<u64, FateWait>,
    /// Those who wait until no number up to this one waits; by that number and the number of the wait.
    flushes: BTreeMap<(u64, u64), Waker>,
    /// The number of the next wait in `flushes`.
    next_flush: u64,
}

/// The life of an outbox.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// It takes messages.
    Open,
    /// It takes no more, and sends what waits until this moment. `None`: for as long as it takes.
    Closing(Option<Instant>),
    /// Everything has its fate; the cause is the error of later sends.
    Ended(Arc<Error>),
}

/// A sender that waits for the fate of its message.
#[derive(Debug)]
enum FateWait {
    /// Not known yet.
    Waiting(Option<Waker>),
    /// Known, and not fetched.
    Settled(Fate),
}

/// Wakes the tasks that the last changes concern, without the lock.
#[cold]
fn wake_all(mut state: MutexGuard<'_, State>) {
    let wakers = state.take_wakers();
    drop(state);
    wakers.into_iter().for_each(wake);
}

impl Shared {
    /// An empty outbox without a link.
    pub(super) fn new(rules: Rules, max_message: usize) -> Arc<Self> {
        let expires = rules.expire_after.is_some();
        Arc::new(Self {
            state: Mutex::new(State {
                store: Store::new(rules),
                phase: Phase::Open,
                task: None,
                wants_messages: false,
                wake_task: false,
                room: RoomQueue::default(),
                fates: BTreeMap::new(),
                flushes: BTreeMap::new(),
                next_flush: 0,
            }),
            started: Instant::now(),
            expires,
            max_message,
            ended: Waiters::new(),
        })
    }

    /// The time of the store.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The moment of a time of the store.
    pub(super) fn moment(&self, time: Duration) -> Option<Instant> {
        self.started.checked_add(time)
    }

    /// Changes the state, and then wakes the tasks that the change concerns.
    #[inline]
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let outcome = change(&mut state);
        // Most messages wake nobody.
        if state.concerns_somebody() {
            wake_all(state);
        }
        outcome
    }

    /// Looks at the state.
    pub(super) fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Accepts a message if it can be at once.
    #[inline]
    pub(super) fn try_accept(&self, message: &[u8], watched: bool, has_paused: bool) -> TryAccept {
        let now = if self.expires { self.now() } else { Duration::ZERO };
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Open) {
            return TryAccept::Ended;
        }
        let has_room = state.store.has_room(message.len()) && state.room.is_empty();
        if !has_room && state.store.when_full() == WhenFull::Wait {
            return TryAccept::Full;
        }
        if !has_paused && state.store.next_number() % SENDS_PER_BUDGET == 0 {
            return TryAccept::Pause;
        }
        let number = state.accept(message, now, watched, self.expires);
        // Most messages wake nobody.
        if state.wake_task || !state.flushes.is_empty() || !state.store.is_quiet() {
            wake_all(state);
        }
        TryAccept::Accepted(number)
    }

    /// Why the outbox takes no messages.
    pub(super) fn end_cause(&self) -> Option<Arc<Error>> {
        match &self.look().phase {
            Phase::Open => None,
            Phase::Closing(_) => Some(Arc::new(Error::ClosedConnection)),
            Phase::Ended(cause) => Some(Arc::clone(cause)),
        }
    }

    /// Accepts a message of a sender that waits for room. Its room is reserved, and given to it.
    pub(super) fn accept_reserved(&self, state: &mut State, message: &[u8], watched: bool) -> u64 {
        let now = if self.expires { self.now() } else { Duration::ZERO };
        state.accept(message, now, watched, self.expires)
    }

    /// Takes no more messages, and sends on until the deadline, or an earlier one that was set before.
    pub(super) fn begin_close(&self, deadline: Option<Instant>) {
        self.change(|state| {
            state.phase = match state.phase {
                Phase::Open => Phase::Closing(deadline),
                Phase::Closing(None) => Phase::Closing(deadline),
                Phase::Closing(Some(before)) => Phase::Closing(Some(deadline.map_or(before, |new| new.min(before)))),
                Phase::Ended(_) => return,
            };
            state.wake_task = true;
        });
    }

    /// Ends the outbox: everything gets its last fate, and all who wait are woken, but for those at `ended`. Returns the
    /// final tally.
    ///
    /// Does nothing but return the tally if it has ended before.
    pub(super) fn end(&self, cause: impl FnOnce() -> Arc<Error>) -> Tally {
        self.change(|state| {
            if !matches!(state.phase, Phase::Ended(_)) {
                let closed = matches!(state.phase, Phase::Closing(_));
                state.phase = Phase::Ended(if closed { Arc::new(Error::ClosedConnection) } else { cause() });
                state.store.end_link(None);
                state.store.end();
            }
            state.store.tally()
        })
    }

    /// The final tally, once the outbox has ended.
    pub(super) fn final_tally(&self) -> Option<Tally> {
        let state = self.state.lock();
        matches!(state.phase, Phase::Ended(_)).then(|| state.store.tally())
    }
}

/// What became of an attempt to accept a message.
#[derive(Debug)]
pub(super) enum TryAccept {
    /// It has this number.
    Accepted(u64),
    /// There is no room, or others wait for it.
    Full,
    /// The caller has to take from its budget first.
    Pause,
    /// The outbox takes no messages.
    Ended,
}

/// A sender takes one unit of its task's cooperative budget for this many messages.
///
/// With one for each, a task that only sends would yield after 128 messages, and on one thread the outbox would write
/// that little at once. With 16 it is some 2,000.
const SENDS_PER_BUDGET: u64 = 16;

impl State {
    /// Accepts a message that has room, or needs none.
    #[inline]
    fn accept(&mut self, message: &[u8], now: Duration, watched: bool, expires: bool) -> u64 {
        let number = self.store.accept(message, now, watched);
        if watched {
            self.fates.insert(number, FateWait::Waiting(None));
        }
        // The task sets its timer by the first message of the queue.
        self.wake_task |= self.wants_messages || expires && self.store.is_first_queued();
        number
    }

    /// Looks for the fate of a message, and stores the waker if it has none yet. The replaced waker is in `waker` then.
    pub(super) fn poll_fate(&mut self, number: u64, waker: &mut Option<Waker>) -> Option<Fate> {
        match self.fates.get_mut(&number) {
            Some(FateWait::Waiting(stored)) => {
                std::mem::swap(stored, waker);
                None
            }
            _ => match self.fates.remove(&number) {
                Some(FateWait::Settled(fate)) => Some(fate),
                _ => unreachable!("a fate is fetched once"),
            },
        }
    }

    /// Nobody waits for this fate any more. Returns what to drop without the lock.
    pub(super) fn forget_fate(&mut self, number: u64) -> impl Sized + use<> {
        self.store.unwatch(number);
        self.fates.remove(&number)
    }

    /// Whether a message up to this number has no fate. Then stores the waker, and returns the one it has replaced.
    pub(super) fn poll_flush(&mut self, upto: u64, wait: &mut Option<u64>, waker: Waker) -> (bool, Option<Waker>) {
        if self.store.oldest_waiting().is_none_or(|oldest| oldest > upto) {
            return (false, Some(waker));
        }
        let number = *wait.get_or_insert(self.next_flush);
        self.next_flush = self.next_flush.max(number + 1);
        (true, self.flushes.insert((upto, number), waker))
    }

    /// Nobody waits for this flush any more.
    pub(super) fn forget_flush(&mut self, upto: u64, wait: u64) -> Option<Waker> {
        self.flushes.remove(&(upto, wait))
    }

    /// Whether the change may concern somebody who waits.
    #[inline]
    fn concerns_somebody(&self) -> bool {
        let is_open = matches!(self.phase, Phase::Open);
        let is_quiet = self.room.is_empty() && self.flushes.is_empty() && self.store.is_quiet();
        self.wake_task || !is_open || !is_quiet
    }

    /// Those who are to be woken after the change.
    fn take_wakers(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if self.wake_task {
            self.wake_task = false;
            self.wants_messages = false;
            wakers.extend(self.task.take());
        }
        if !matches!(self.phase, Phase::Open) {
            self.room.wake_all(&mut wakers);
        }
        if !self.room.is_empty() {
            self.room.grant(&mut self.store, &mut wakers);
        }
        for (number, fate) in self.store.take_settled() {
            if let Some(FateWait::Waiting(waker)) = self.fates.insert(number, FateWait::Settled(fate)) {
                wakers.extend(waker);
            }
        }
        if !self.flushes.is_empty() {
            let oldest = self.store.oldest_waiting().unwrap_or(u64::MAX);
            while let Some(flush) = self.flushes.first_entry().filter(|flush| flush.key().0 < oldest) {
                wakers.push(flush.remove());
            }
        }
        wakers
    }
}
