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

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task;

use super::queue::{Queue, Turn};
use crate::conn::alarm::{Alarm, now};
use crate::conn::{Tether, WriteHalf};
use crate::ledger::End;
use crate::link::Socket;
use crate::{Error, Op, WhenDown};

/// How long the task goes on with what was begun when everyone has left.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// For how many rounds with one job only it is remembered that there are several tasks.
const CROWD_MEMORY: u8 = 16;

/// What the callers and the task have in common.
pub(super) struct Writer<S> {
    state: Mutex<State<S>>,
    /// The streams are sockets: what they have taken, the kernel has.
    is_direct: bool,
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
    /// A caller that is alone is writing, without standing in the row.
    is_alone: bool,
    /// No job is taken any more.
    pub(super) is_closing: bool,
    /// Nobody is left who could bring one.
    is_left: bool,
}

/// The right to write on the link, and what is needed for it.
pub(super) struct Role<S> {
    half: WriteHalf<S>,
    /// What was taken out of the queue, and how much of it the stream has taken.
    buffer: Vec<u8>,
    offset: usize,
    turn: Turn,
    /// The stream may have bytes that the kernel has not.
    is_unflushed: bool,
    /// The link after which those in the queue were told that there is none.
    waited_after: u64,
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

impl<S: 'static> Writer<S> {
    pub(super) fn new(half: WriteHalf<S>, places: usize) -> Self {
        let tether = half.tether();
        let role = Role {
            half,
            buffer: Vec::new(),
            offset: 0,
            turn: Turn::Rest,
            is_unflushed: false,
            waited_after: 0,
            wakers: Vec::new(),
        };
        let state = State {
            queue: Queue::new(places),
            role: Some(Box::new(role)),
            task: None,
            last_caller: None,
            crowd: 0,
            is_alone: false,
            is_closing: false,
            is_left: false,
        };
        Self {
            state: Mutex::new(state),
            is_direct: Socket::is_one::<S>(),
            tether,
            drained: Notify::new(),
            left: Notify::new(),
        }
    }
}

impl<S> Writer<S> {
    pub(super) fn lock(&self) -> MutexGuard<'_, State<S>> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlocks, and wakes whoever is concerned.
    pub(super) fn unlock(&self, mut state: MutexGuard<'_, State<S>>, wakers: impl IntoIterator<Item = Waker>) {
        let task = state.task();
        let is_drained = state.is_drained();
        drop(state);
        wakers.into_iter().chain(task).for_each(Waker::wake);
        if is_drained {
            self.drained.notify_waiters();
        }
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
            return Err(self.tether.ledger.ended().map_or_else(|| self.down(), |_| self.end()));
        }
        Ok(())
    }

    fn down(&self) -> io::Error {
        Error::Down { address: self.tether.ledger.address.clone() }.into()
    }

    pub(super) fn is_up(&self) -> bool {
        self.tether.ledger.status().is_connected()
    }

    /// What the program's policy means for those in the queue, if there is no link.
    fn apply_policy(&self, state: &mut State<S>, wakers: &mut Vec<Waker>) {
        match self.tether.when_down {
            WhenDown::Wait => {}
            // Each has to look at the clock.
            WhenDown::WaitFor(_) => state.queue.call_all(wakers),
            WhenDown::Fail => state.queue.fail_all(|| self.down(), wakers),
        }
    }

    /// A caller that was alone has met a break: so have those who came meanwhile.
    pub(super) fn break_met_alone(&self, state: &mut State<S>, wakers: &mut Vec<Waker>) {
        if !self.is_up() {
            self.apply_policy(state, wakers);
        }
    }

    /// No job is taken any more. Waits until every job is gone, or the time is up.
    pub(super) async fn drain(&self, limit: Duration) {
        self.lock().is_closing = true;
        let runtime = &self.tether.runtime;
        let mut alarm = Alarm::new(now(runtime) + limit, runtime);
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
        tokio::select! {
            biased;
            () = drained => {}
            () = poll_fn(|cx| alarm.poll(cx)) => {}
        }
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
    /// The stream has taken `n` bytes of this turn.
    fn advance(&mut self, n: usize, is_all: bool) {
        match &mut self.turn {
            Turn::Caller(_, begun) => *begun += n,
            Turn::Write | Turn::Rest => self.offset += n,
        }
        if is_all {
            self.turn = Turn::Rest;
        }
    }

    /// Leaves what the stream has not taken in the buffer.
    fn drop_written(&mut self) {
        self.buffer.drain(..self.offset);
        (self.offset, self.turn) = (0, Turn::Rest);
    }

    /// Whether the stream may have bytes that the kernel has not.
    pub(super) fn is_unflushed(&self) -> bool {
        self.is_unflushed
    }

    /// The caller that wrote its bytes itself has gone.
    pub(super) fn forget_turn(&mut self) {
        self.turn = Turn::Rest;
    }
}

impl<S> State<S> {
    /// A caller comes. If it is alone, it gets the role, and need not stand in the row.
    #[inline]
    pub(super) fn come(&mut self) -> Option<Box<Role<S>>> {
        let caller = task::try_id();
        if std::mem::replace(&mut self.last_caller, caller) != caller {
            self.crowd = CROWD_MEMORY;
        }
        if self.crowd > 0 || !self.queue.is_empty() {
            return None;
        }
        let role = self.role.take()?;
        self.is_alone = true;
        self.queue.pass();
        Some(role)
    }

    /// The role, for a caller whose turn it is.
    pub(super) fn take_role(&mut self) -> Option<Box<Role<S>>> {
        self.role.take()
    }

    /// Lays the role down.
    pub(super) fn put_role(&mut self, role: Option<Box<Role<S>>>) {
        if role.is_some() {
            self.is_alone = false;
            self.role = role;
        }
    }

    /// Whether everything has been sent that will be.
    fn is_drained(&self) -> bool {
        self.is_closing && self.queue.is_empty() && !self.is_alone
    }

    /// The task, if there is something for it to do.
    fn task(&mut self) -> Option<Waker> {
        if self.role.is_some() && self.queue.is_ready() { self.task.take() } else { None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Writer<S> {
    /// Writes bytes of a caller that is alone, as far as the link takes them now. Returns how many the stream has taken.
    pub(super) fn write_alone(&self, role: &mut Role<S>, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() || role.is_unflushed {
            let outcome = if role.is_unflushed {
                Pin::new(&mut role.half).poll_flush(cx).map_ok(|()| 0)
            } else {
                Pin::new(&mut role.half).poll_write(cx, &bytes[written..])
            };
            match outcome {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) => {
                    written += n;
                    role.is_unflushed = !role.is_unflushed && !self.is_direct;
                }
                Poll::Ready(Err(error)) => match Error::of(&error) {
                    Some(Error::IoError { .. }) => {
                        role.is_unflushed = false;
                        // Unless one of its bytes was on this link, that is no concern of this job's.
                        if written > 0 {
                            return Err(error);
                        }
                        self.check_link()?;
                    }
                    // "Try again": the task will.
                    None => break,
                    Some(_) => return Err(error),
                },
            }
        }
        Ok(written)
    }

    /// Writes what is queued; a caller with a job of its `own`, only that.
    pub(super) fn drive(&self, role: &mut Role<S>, own: Option<(u64, &[u8])>, cx: &mut Context<'_>) -> Poll<Stop> {
        loop {
            let outcome = if role.is_unflushed {
                Pin::new(&mut role.half).poll_flush(cx).map_ok(|()| 0)
            } else {
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
                let outcome = Pin::new(&mut role.half).poll_write(cx, bytes);
                if let Poll::Ready(Ok(n)) = outcome {
                    role.advance(n, n == length);
                }
                outcome
            };
            match outcome {
                Poll::Pending => return self.wait(role),
                Poll::Ready(Ok(n)) => self.sent(role, n),
                Poll::Ready(Err(error)) => match Error::of(&error) {
                    Some(Error::IoError { generation, op, .. }) => self.break_off(role, *generation, *op),
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

    /// The stream has taken `n` bytes, or has been flushed.
    fn sent(&self, role: &mut Role<S>, n: usize) {
        let is_flushed = self.is_direct || role.is_unflushed;
        role.is_unflushed = !is_flushed;
        let mut state = self.lock();
        state.queue.written(n);
        if is_flushed {
            let first = state.queue.first();
            state.queue.flushed(&mut role.wakers);
            match state.queue.first() - first {
                0 => {}
                1 => state.crowd = state.crowd.saturating_sub(1),
                _ => state.crowd = CROWD_MEMORY,
            }
        }
        self.unlock(state, role.wakers.drain(..));
    }

    /// The link takes nothing now, or there is none.
    fn wait(&self, role: &mut Role<S>) -> Poll<Stop> {
        let (is_up, generation) = (self.is_up(), self.tether.ledger.generation());
        let mut state = self.lock();
        if !role.is_unflushed {
            // Jobs may be withdrawn meanwhile.
            role.drop_written();
            state.queue.give_back(&mut role.buffer);
        }
        let is_outage = !is_up && std::mem::replace(&mut role.waited_after, generation) != generation;
        let is_over = !is_up && self.tether.when_down == WhenDown::Fail;
        if is_outage || is_over {
            self.apply_policy(&mut state, &mut role.wakers);
        }
        self.unlock(state, role.wakers.drain(..));
        if is_over { Poll::Ready(Stop::Rest) } else { Poll::Pending }
    }

    fn break_off(&self, role: &mut Role<S>, generation: u64, op: Op) {
        let ledger = &self.tether.ledger;
        let fault = ledger.fault(generation, op);
        let is_up = self.is_up();
        role.drop_written();
        role.is_unflushed = false;
        let mut state = self.lock();
        let why = || fault.error(op, &ledger.address).into();
        state.queue.break_off(&mut role.buffer, why, &mut role.wakers);
        // The next link may be up already.
        if !is_up {
            role.waited_after = ledger.generation();
            self.apply_policy(&mut state, &mut role.wakers);
        }
        self.unlock(state, role.wakers.drain(..));
    }

    fn abandon(&self, role: &mut Role<S>) {
        role.buffer.clear();
        (role.offset, role.turn) = (0, Turn::Rest);
        let mut state = self.lock();
        state.is_closing = true;
        state.queue.abandon(&mut role.wakers);
        self.unlock(state, role.wakers.drain(..));
    }

    /// The task: writes for all, until everyone has left or the connection is over. Whatever becomes of it, even if it is
    /// dropped before it ever runs, nobody waits for it.
    pub(super) fn work(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        let end = EndGuard(self);
        async move {
            let writer = &end.0;
            let mut hands = Hands { role: None, has_let_others: false };
            let everyone_has_left = async {
                writer.left.notified().await;
                tokio::time::sleep(DRAIN_LIMIT).await;
            };
            tokio::select! {
                biased;
                () = poll_fn(|cx| writer.poll_work(&mut hands, cx)) => {}
                () = everyone_has_left => {}
                // (A caller may sit on the role, so that the task would not hear of it otherwise.)
                () = writer.tether.ledger.over() => {}
            }
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
                    return self.sleep(state, hands, cx);
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
            // It may have gone since.
            if matches!(stop, Stop::Caller) && state.queue.is_callers_turn(state.queue.first()) {
                return self.sleep(state, hands, cx);
            }
        }
    }

    /// Sleeps; if it is a caller's turn to write its bytes itself, that one is woken.
    fn sleep(&self, mut state: MutexGuard<'_, State<S>>, hands: &mut Hands<S>, cx: &Context<'_>) -> Poll<()> {
        let _replaced = state.task.replace(cx.waker().clone());
        hands.has_let_others = false;
        let first = state.queue.first();
        let caller = if state.queue.is_callers_turn(first) { state.queue.caller() } else { None };
        drop(state);
        if let Some(caller) = caller {
            caller.wake();
        }
        Poll::Pending
    }
}

/// What the task has in its hands.
struct Hands<S> {
    role: Option<Box<Role<S>>>,
    has_let_others: bool,
}

/// However the task ends, nobody waits for it: the runtime drops it when it shuts down, and a stream may panic.
struct EndGuard<S>(Arc<Writer<S>>);

impl<S> Drop for EndGuard<S> {
    fn drop(&mut self) {
        let writer = &self.0;
        let mut wakers = Vec::new();
        let mut state = writer.lock();
        state.is_closing = true;
        state.queue.abandon(&mut wakers);
        let is_left = state.is_left;
        if writer.tether.ledger.ended().is_none() && !is_left {
            // Nobody could write any more, so there is nothing to keep up.
            let end = if std::thread::panicking() { End::Closed } else { End::RuntimeShutdown };
            drop(state);
            writer.tether.ledger.end(end);
            writer.tether.ledger.publish();
            state = writer.lock();
        }
        writer.unlock(state, wakers);
    }
}
