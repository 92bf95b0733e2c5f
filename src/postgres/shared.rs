//! What a listener, its handles, its task and its dialer have in common.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::coop;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::SimpleQueryMessage;

use super::channels::Channels;
use super::end::End;
use super::hooks::Hooks;
use super::outbox::{Item, Outbox};
use super::{Error, Event, Message, Notification};
use crate::StatusWatch;
use crate::sync::Mutex;

/// Who waits for the server's answer about a channel.
pub(super) type Waiter = oneshot::Sender<Result<(), Error>>;

/// A statement of the user's, or an empty one: a ping.
pub(super) struct Question {
    pub(super) sql: String,
    pub(super) reply: oneshot::Sender<Result<Vec<SimpleQueryMessage>, Error>>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    hooks: Hooks,
    pub(super) ping_timeout: Duration,
    phase: watch::Sender<Phase>,
    /// The core connection's.
    pub(super) status: OnceLock<StatusWatch>,
}

pub(super) struct State {
    pub(super) channels: Channels<Waiter>,
    pub(super) outbox: Outbox<Notification>,
    pub(super) questions: VecDeque<Question>,
    /// The number of the newest link.
    pub(super) generation: u64,
    pub(super) is_up: bool,
    /// The last link is not done with yet, so that there must not be a next one.
    pub(super) is_busy: bool,
    /// Since when nothing is read, as the queue is full.
    pub(super) full_since: Option<Instant>,
    /// The last failure or loss.
    pub(super) trouble: Option<Arc<Error>>,
    /// Of the attempt that is under way, or was the last.
    failure: Option<Arc<Error>>,
    pub(super) end: Option<End>,
    pub(super) reader: Option<Waker>,
    pub(super) task: Option<Waker>,
    gate: Option<Waker>,
}

/// A reader of a long queue leaves time to others. But not as often as tokio's own channels, after 128 messages: at 150 ns
/// each, the yields were a tenth of the time. So one unit of the task's budget is for so many.
const TURNS: u32 = 32;

/// Where the task is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Working,
    /// In a hook of the program.
    Away,
    Gone,
}

impl Shared {
    pub(super) fn new(outbox: Outbox<Notification>, hooks: Hooks, ping_timeout: Duration) -> Self {
        let state = State {
            channels: Channels::default(),
            outbox,
            questions: VecDeque::new(),
            generation: 0,
            is_up: false,
            is_busy: false,
            full_since: None,
            trouble: None,
            failure: None,
            end: None,
            reader: None,
            task: None,
            gate: None,
        };
        Self {
            state: Mutex::new(state),
            hooks,
            ping_timeout,
            phase: watch::Sender::new(Phase::Working),
            status: OnceLock::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    // ===== the reader =====

    /// `turn` is the reader's, and counts its calls.
    pub(super) fn poll_recv(&self, turn: &mut u32, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        *turn = turn.wrapping_add(1);
        if *turn % TURNS != 0 {
            return self.poll_queue(cx);
        }
        let budget = ready!(coop::poll_proceed(cx));
        let received = self.poll_queue(cx);
        if received.is_ready() {
            budget.made_progress();
        }
        received
    }

    fn poll_queue(&self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        let mut state = self.lock();
        if matches!(state.end, Some(End::Closed)) {
            return Poll::Ready(Err(Error::Closed));
        }
        if let Some(item) = state.outbox.pop() {
            let mut woken = [None, None];
            if state.full_since.is_some() && state.outbox.has_room_again() {
                woken[0] = state.task.take();
            }
            if matches!(item, Item::Marker(_)) && state.outbox.has_room_for_markers() {
                woken[1] = state.gate.take();
            }
            drop(state);
            woken.into_iter().flatten().for_each(Waker::wake);
            return Poll::Ready(Ok(match item {
                Item::Notification(notification) => Message::Notification(notification),
                Item::Marker(message) => message,
            }));
        }
        if let Some(end) = &state.end {
            return Poll::Ready(Err(end.error()));
        }
        set_waker(&mut state.reader, cx);
        Poll::Pending
    }

    /// Waits until the first link is in use, for one who has no reader yet.
    pub(super) async fn begun(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.generation > 0 || state.end.is_some() {
                return Poll::Ready(());
            }
            set_waker(&mut state.reader, cx);
            Poll::Pending
        })
        .await;
    }

    // ===== those who ask =====

    /// Waits for an answer that the task will give.
    pub(super) async fn answer<T>(&self, mut answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        let begin = Instant::now();
        loop {
            let now = Instant::now();
            let since = self.lock().full_since.map_or(now, |since| since.max(begin));
            tokio::select! {
                biased;
                outcome = &mut answer => return outcome.unwrap_or_else(|_| Err(self.end_error())),
                () = sleep_until(after(since, self.ping_timeout)) => {}
            }
            if let Some(since) = self.lock().full_since {
                if since.max(begin).elapsed() >= self.ping_timeout {
                    return Err(Error::Backlog { limit: self.ping_timeout });
                }
            }
        }
    }

    pub(super) fn has_been_full_for(&self, time: Duration) -> bool {
        self.lock().full_since.is_some_and(|since| since.elapsed() >= time)
    }

    pub(super) fn end_error(&self) -> Error {
        self.lock().end.as_ref().map_or(Error::Closed, End::error)
    }

    /// Ends it. What was ended is closed by a close all the same.
    pub(super) fn end(&self, end: End) {
        let mut state = self.lock();
        if matches!(state.end, Some(End::Closed)) || (state.end.is_some() && !matches!(end, End::Closed)) {
            return;
        }
        if matches!(end, End::Closed) {
            state.outbox.clear();
        }
        state.end = Some(end);
        state.is_up = false;
        let abandoned = (std::mem::take(&mut state.channels), std::mem::take(&mut state.questions));
        let woken = [state.reader.take(), state.task.take(), state.gate.take()];
        drop(state);
        drop(abandoned);
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    pub(super) async fn close(&self) {
        self.end(End::Closed);
        let _ = self.phase.subscribe().wait_for(|phase| *phase != Phase::Working).await;
    }

    pub(super) fn task_is_gone(&self) {
        self.phase.send_replace(Phase::Gone);
    }

    // ===== attempts =====

    /// Waits until the last link is done with, and until there is room for what the next one has to say to the reader.
    pub(super) async fn may_dial(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            let has_room = state.outbox.has_room_for_markers();
            if !state.is_busy && has_room {
                state.full_since = None;
                return Poll::Ready(());
            }
            if !has_room {
                state.full_since.get_or_insert_with(Instant::now);
            }
            set_waker(&mut state.gate, cx);
            Poll::Pending
        })
        .await;
    }

    pub(super) fn begin_attempt(&self) {
        self.lock().failure = None;
    }

    pub(super) fn attempt_failed(&self, error: Arc<Error>) {
        self.lock().failure = Some(error);
    }

    /// Why the last attempt failed; if it did not get to say so itself, as a dialer panicked, `otherwise`.
    pub(super) fn failure(&self, otherwise: impl FnOnce() -> Error) -> Arc<Error> {
        let mut state = self.lock();
        let failure = state.failure.take().unwrap_or_else(|| Arc::new(otherwise()));
        state.trouble = Some(Arc::clone(&failure));
        failure
    }

    /// Why the one attempt of `connect()` failed.
    pub(super) fn first_failure(&self) -> Error {
        self.lock().trouble.as_deref().map_or(Error::Closed, Error::of_attempt)
    }

    pub(super) fn link_is_done_with(&self) {
        let gate = {
            let mut state = self.lock();
            state.is_busy = false;
            state.gate.take()
        };
        gate.into_iter().for_each(Waker::wake);
    }

    // ===== hooks =====

    /// Tells the program, from the task.
    pub(super) fn tell(&self, event: &Event, error: Option<&Error>) {
        self.phase.send_replace(Phase::Away);
        self.tell_from_outside(event, error);
        self.phase.send_replace(Phase::Working);
    }

    /// Tells the program, from elsewhere.
    pub(super) fn tell_from_outside(&self, event: &Event, error: Option<&Error>) {
        if let Some(error) = error {
            self.hooks.log(error);
        }
        self.hooks.emit(|| event);
    }
}

impl State {
    pub(super) fn check(&self) -> Result<(), Error> {
        self.end.as_ref().map_or(Ok(()), |end| Err(end.error()))
    }
}

pub(super) fn set_waker(place: &mut Option<Waker>, cx: &Context<'_>) {
    if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}

/// A time that no clock reaches is a century away.
pub(super) fn after(begin: Instant, time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    begin + time.min(FAR)
}
