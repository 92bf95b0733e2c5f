//! How many callers write on one link.
//!
//! There is one [`Role`], the right to write on the link. A caller that is alone takes it for the moment of one call and
//! writes its bytes from where they are, as on a `TcpStream`. As soon as several tasks are seen to write, callers put
//! their bytes into the [`Queue`], and a task writes what has come together, with one system call for many jobs (the
//! group commit of databases). It lets the other tasks of its thread run first, so that there is something to come
//! together.
//!
//! # Why nobody waits for ever
//!
//! Nobody keeps the role while waiting for the link but the task, which the runtime polls whenever it is woken; so a
//! caller whose future is held and not polled delays nobody. The one exception is a job of many bytes, which its caller
//! writes itself when its turn comes, as only the caller has them.
//!
//! The task sleeps only with its waker in the state. Whoever puts something into the queue, or lays the role down while
//! something is in it, takes that waker out and wakes it.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task;

use super::queue::{Queue, Turn};
use crate::conn::{Tether, WriteHalf};
use crate::{Error, WhenDown};

/// How long the task goes on with what was begun when everyone has left.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// For how many rounds with one job only it is remembered that there are several tasks.
const CROWD_MEMORY: u8 = 16;

/// What the callers and the task have in common.
pub(super) struct Writer<S> {
    state: Mutex<State<S>>,
    pub(super) tether: Arc<Tether<S>>,
    /// Told when the last job is gone, and when the last holder of the connection is.
    drained: Notify,
    left: Notify,
}

pub(super) struct State<S> {
    pub(super) queue: Queue<io::Error>,
    /// `None` while somebody has it.
    role: Option<Box<Role<S>>>,
    /// The task's, while it sleeps.
    task: Option<Waker>,
    /// The task of the caller that came last.
    last_caller: Option<task::Id>,
    /// For how many rounds more several callers are to be expected.
    crowd: u8,
    /// No job is taken any more.
    pub(super) is_closing: bool,
    /// Nobody is left who could bring one.
    is_left: bool,
}

/// The right to write on the link, and what is needed for it.
pub(super) struct Role<S> {
    half: WriteHalf<S>,
    /// What was taken out of the queue, and how much of it has been sent.
    buffer: Vec<u8>,
    offset: usize,
    turn: Turn,
    /// Whom to wake when the lock is released.
    wakers: Vec<Waker>,
}

/// Why a writer stops.
pub(super) enum Stop {
    /// There is nothing to write, or no link any more.
    Rest,
    /// It is the turn of a caller that writes its bytes itself.
    Caller,
}

impl<S> Writer<S> {
    pub(super) fn new(half: WriteHalf<S>, places: usize) -> Self {
        let tether = half.tether();
        let role = Role { half, buffer: Vec::new(), offset: 0, turn: Turn::Rest, wakers: Vec::new() };
        let state = State {
            queue: Queue::new(places),
            role: Some(Box::new(role)),
            task: None,
            last_caller: None,
            crowd: 0,
            is_closing: false,
            is_left: false,
        };
        Self { state: Mutex::new(state), tether, drained: Notify::new(), left: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<S>> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why no job is taken any more.
    #[cold]
    pub(super) fn end(&self) -> io::Error {
        let ledger = &self.tether.ledger;
        ledger.ended().map_or(Error::ClosedConnection, |end| ledger.end_error(end)).into()
    }

    /// The error of a job that finds no link, if that is what the program wants.
    pub(super) fn check_link(&self) -> io::Result<()> {
        if self.tether.when_down == WhenDown::Fail && !self.is_up() {
            return Err(Error::Down { address: self.tether.ledger.address.clone() }.into());
        }
        Ok(())
    }

    pub(super) fn is_up(&self) -> bool {
        self.tether.ledger.status().is_connected()
    }

    /// Lays the role down and sees to it that what is queued is sent.
    pub(super) fn lay_down(&self, mut state: MutexGuard<'_, State<S>>, role: Box<Role<S>>) {
        state.role = Some(role);
        let task = state.task();
        let is_drained = state.is_drained();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
        if is_drained {
            self.drained.notify_waiters();
        }
    }

    /// No job is taken any more. Waits until every job is gone, or the time is up.
    pub(super) async fn drain(&self, limit: Duration) {
        self.lock().is_closing = true;
        let drained = async {
            loop {
                let mut drained = pin!(self.drained.notified());
                drained.as_mut().enable();
                if self.lock().is_drained() {
                    return;
                }
                drained.await;
            }
        };
        let _ = tokio::time::timeout(limit, drained).await;
    }

    /// The last holder of the connection has gone.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        (state.is_closing, state.is_left) = (true, true);
        let task = state.task.take();
        drop(state);
        self.left.notify_one();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<S> Role<S> {
    /// Leaves what has not been sent in the buffer.
    fn drop_sent(&mut self) {
        self.buffer.drain(..self.offset);
        (self.offset, self.turn) = (0, Turn::Rest);
    }

    /// The caller that wrote its bytes itself has gone, or has left the rest to others.
    pub(super) fn forget_turn(&mut self) {
        self.turn = Turn::Rest;
    }
}

impl<S> State<S> {
    /// A caller comes. If it is alone, it gets the role, and its job is the only one.
    #[inline]
    pub(super) fn come(&mut self) -> Option<Box<Role<S>>> {
        let caller = task::try_id();
        if std::mem::replace(&mut self.last_caller, caller) != caller {
            self.crowd = CROWD_MEMORY;
        }
        if self.crowd == 0 && self.queue.is_empty() { self.role.take() } else { None }
    }

    /// The role, for a caller whose turn it is.
    pub(super) fn take_role(&mut self) -> Option<Box<Role<S>>> {
        self.role.take()
    }

    /// Whether everything has been sent that will be. (Whoever is writing at this moment has the role.)
    fn is_drained(&self) -> bool {
        self.is_closing && self.queue.is_empty() && (self.role.is_some() || self.queue.is_abandoned())
    }

    /// The task, if there is something for it to do.
    pub(super) fn task(&mut self) -> Option<Waker> {
        if self.role.is_some() && self.queue.is_ready() { self.task.take() } else { None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Writer<S> {
    /// Writes bytes of a caller that is alone, as far as the link takes them now. Returns how many it has taken.
    pub(super) fn write_alone(&self, role: &mut Role<S>, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match Pin::new(&mut role.half).poll_write(cx, &bytes[sent..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(error)) => match Error::of(&error) {
                    // None of its bytes was on this link, so that it is no concern of this job's.
                    Some(Error::IoError { .. }) if sent == 0 => self.check_link()?,
                    // "Try again": the task will.
                    None => break,
                    Some(_) => return Err(error),
                },
            }
        }
        Ok(sent)
    }

    /// Writes what is queued; a caller with a job of its `own`, only that.
    pub(super) fn drive(&self, role: &mut Role<S>, own: Option<(u64, &[u8])>, cx: &mut Context<'_>) -> Poll<Stop> {
        loop {
            if role.turn == Turn::Rest {
                let mut state = self.lock();
                if own.is_some_and(|(number, _)| !state.queue.is_callers_turn(number)) {
                    return Poll::Ready(Stop::Rest);
                }
                role.turn = state.queue.take(&mut role.buffer);
                role.offset = 0;
            }
            let bytes = match (role.turn, own) {
                (Turn::Write, _) => &role.buffer[role.offset..],
                (Turn::Caller(number, begun), Some((own, bytes))) if number == own => &bytes[begun..],
                (Turn::Caller(..), _) => {
                    role.turn = Turn::Rest;
                    return Poll::Ready(Stop::Caller);
                }
                (Turn::Rest, _) => return Poll::Ready(Stop::Rest),
            };
            let length = bytes.len();
            let Poll::Ready(outcome) = Pin::new(&mut role.half).poll_write(cx, bytes) else {
                self.give_back(role);
                return Poll::Pending;
            };
            match outcome {
                Ok(n) => self.sent(role, n, n == length),
                Err(error) => match Error::of(&error) {
                    Some(Error::IoError { .. }) => self.break_off(role, error),
                    Some(_) => {
                        self.abandon(role);
                        return Poll::Ready(Stop::Rest);
                    }
                    // "Try again".
                    None => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    fn sent(&self, role: &mut Role<S>, n: usize, is_all: bool) {
        match &mut role.turn {
            Turn::Caller(_, begun) => *begun += n,
            _ => role.offset += n,
        }
        if is_all {
            role.turn = Turn::Rest;
        }
        let mut state = self.lock();
        let first = state.queue.first();
        state.queue.sent(n, &mut role.wakers);
        match state.queue.first() - first {
            0 => {}
            1 => state.crowd = state.crowd.saturating_sub(1),
            _ => state.crowd = CROWD_MEMORY,
        }
        self.unlock(state, role);
    }

    /// While it waits for the link, jobs may be withdrawn.
    fn give_back(&self, role: &mut Role<S>) {
        role.drop_sent();
        self.lock().queue.give_back(&mut role.buffer);
    }

    fn break_off(&self, role: &mut Role<S>, error: io::Error) {
        role.drop_sent();
        let mut state = self.lock();
        state.queue.break_off(&mut role.buffer, error, &mut role.wakers);
        match self.tether.when_down {
            WhenDown::Fail => {
                let address = &self.tether.ledger.address;
                state.queue.fail_all(|| Error::Down { address: address.clone() }.into(), &mut role.wakers);
            }
            // Each has to look at the clock.
            WhenDown::WaitFor(_) => state.queue.call_all(&mut role.wakers),
            WhenDown::Wait => {}
        }
        self.unlock(state, role);
    }

    fn abandon(&self, role: &mut Role<S>) {
        role.buffer.clear();
        (role.offset, role.turn) = (0, Turn::Rest);
        let mut state = self.lock();
        state.is_closing = true;
        state.queue.abandon(&mut role.wakers);
        self.unlock(state, role);
    }

    fn unlock(&self, state: MutexGuard<'_, State<S>>, role: &mut Role<S>) {
        drop(state);
        role.wakers.drain(..).for_each(Waker::wake);
    }

    /// The task: writes for all, until everyone has left.
    pub(super) async fn work(self: Arc<Self>) {
        let _end = AbandonOnDrop(&self);
        let mut hands = Hands { role: None, has_let_others: false };
        let finish = async {
            self.left.notified().await;
            tokio::time::sleep(DRAIN_LIMIT).await;
        };
        tokio::select! {
            biased;
            () = poll_fn(|cx| self.poll_work(&mut hands, cx)) => {}
            () = finish => {}
        }
    }

    fn poll_work(&self, hands: &mut Hands<S>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(role) = &mut hands.role else {
                let mut state = self.lock();
                if state.queue.is_empty() && state.is_left {
                    return Poll::Ready(());
                }
                if !state.queue.is_ready() || state.role.is_none() {
                    state.task = Some(cx.waker().clone());
                    hands.has_let_others = false;
                    return Poll::Pending;
                }
                if !std::mem::replace(&mut hands.has_let_others, true) {
                    drop(state);
                    // The other tasks of this thread come first: then there is more to write.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                hands.role = state.role.take();
                continue;
            };
            let stop = ready!(self.drive(role, None, cx));
            let mut state = self.lock();
            state.role = hands.role.take();
            if let Stop::Caller = stop {
                state.task = Some(cx.waker().clone());
                hands.has_let_others = false;
                let caller = state.queue.caller();
                drop(state);
                if let Some(caller) = caller {
                    caller.wake();
                }
                return Poll::Pending;
            }
            if state.is_drained() {
                drop(state);
                self.drained.notify_waiters();
            }
        }
    }
}

/// What the task has in its hands.
struct Hands<S> {
    role: Option<Box<Role<S>>>,
    has_let_others: bool,
}

/// However the task ends, nobody waits for it: the runtime drops it when it shuts down.
struct AbandonOnDrop<'a, S>(&'a Writer<S>);

impl<S> Drop for AbandonOnDrop<'_, S> {
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        let mut state = self.0.lock();
        state.is_closing = true;
        state.queue.abandon(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.0.drained.notify_waiters();
    }
}
