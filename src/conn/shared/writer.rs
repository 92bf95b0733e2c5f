//! How many callers write on one link.
//!
//! There is one [`WritePermit`], the right to write on the link. A caller that is alone takes it for the moment of one call and
//! writes its bytes from where they are, as on a `TcpStream`. As soon as several tasks are seen to write, callers put
//! their bytes into the [`Queue`], and a task writes what has come together, with one system call for many jobs (the
//! group commit of databases). It lets the other tasks of its thread run first, so that there is something to come
//! together.
//!
//! # Why nobody waits for ever
//!
//! Nobody keeps the permit while waiting for the link but the task, which the runtime polls whenever it is woken; so a
//! caller whose future is held and not polled delays nobody. The one exception is a job of many bytes, which its caller
//! writes itself when its turn comes, as only the caller has them.
//!
//! The task sleeps only with its waker in the state. Whoever puts something into the queue, or lays the permit down while
//! something is in it, takes that waker out and wakes it.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task;

use super::queue::Queue;
use super::write_permit::WritePermit;
use crate::conn::timer::{Timer, now};
use crate::conn::{ConnContext, WriteHalf};
use crate::link::Socket;
use crate::panics::wake;
use crate::sync::Mutex;
use crate::{Error, WhenDown};

/// For how many rounds with one job only it is remembered that there are several tasks.
pub(super) const CROWD_MEMORY: u8 = 16;

/// What the callers and the task have in common.
pub(super) struct Writer<S> {
    state: Mutex<State<S>>,
    /// The streams are sockets: what they have taken, the kernel has.
    pub(super) is_direct: bool,
    pub(super) context: Arc<ConnContext<S>>,
    /// Told when the last job is gone, and when the last holder of the connection is.
    drained: Notify,
    pub(super) left: Notify,
}

pub(super) struct State<S> {
    pub(super) queue: Queue<io::Error>,
    /// `None` while somebody has it.
    pub(super) permit: Option<Box<WritePermit<S>>>,
    /// The task's, while it sleeps.
    pub(super) task: Option<Waker>,
    /// The task of the caller that came last.
    last_caller: Option<task::Id>,
    /// For how many rounds more several callers are to be expected.
    pub(super) crowd: u8,
    /// A caller that is alone is writing, without standing in the row.
    is_alone: bool,
    /// No job is taken any more.
    pub(super) is_closing: bool,
    /// Nobody is left who could bring one.
    pub(super) is_left: bool,
}

impl<S: 'static> Writer<S> {
    pub(super) fn new(half: WriteHalf<S>, places: usize) -> Self {
        let context = half.context();
        let state = State {
            queue: Queue::new(places),
            permit: Some(Box::new(WritePermit::new(half))),
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
            context,
            drained: Notify::new(),
            left: Notify::new(),
        }
    }
}

impl<S> Writer<S> {
    pub(super) fn lock(&self) -> MutexGuard<'_, State<S>> {
        // Nothing panics while the lock is held.
        self.state.lock()
    }

    /// Unlocks, and wakes whoever is concerned.
    pub(super) fn unlock(&self, mut state: MutexGuard<'_, State<S>>, wakers: impl IntoIterator<Item = Waker>) {
        let task = state.task();
        let is_drained = state.is_drained();
        drop(state);
        task.into_iter().chain(wakers).for_each(wake);
        if is_drained {
            self.drained.notify_waiters();
        }
    }

    /// Why no job is taken any more.
    #[cold]
    pub(super) fn end(&self) -> io::Error {
        let conn_state = &self.context.conn_state;
        conn_state.ended().map_or(Error::ClosedConnection, |end| conn_state.end_error(end)).into()
    }

    /// The error of a job that finds no link, if that is what the program wants.
    pub(super) fn check_link(&self) -> io::Result<()> {
        if self.context.when_down == WhenDown::Fail && !self.is_up() {
            return Err(self.context.conn_state.ended().map_or_else(|| self.down(), |_| self.end()));
        }
        Ok(())
    }

    fn down(&self) -> io::Error {
        Error::Down { address: self.context.conn_state.address.clone() }.into()
    }

    pub(super) fn is_up(&self) -> bool {
        self.context.conn_state.status().is_connected()
    }

    /// What the program's policy means for those in the queue, if there is no link.
    pub(super) fn apply_policy(&self, state: &mut State<S>, wakers: &mut Vec<Waker>) {
        match self.context.when_down {
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
        let runtime = &self.context.runtime;
        let mut timer = Timer::new(now(runtime) + limit, runtime);
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
            () = poll_fn(|cx| timer.poll(cx)) => {}
        }
    }

    /// The last holder of the connection has gone.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        (state.is_closing, state.is_left) = (true, true);
        let is_idle = state.queue.is_empty() && state.permit.is_some();
        let task = state.task.take();
        drop(state);
        if is_idle {
            // There is nothing to send any more, and the task may not run for a long time.
            self.context.conn_state.close();
            self.context.conn_state.publish();
        }
        self.left.notify_one();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<S> State<S> {
    /// A caller comes. If it is alone, it gets the permit, and need not stand in the row.
    #[inline]
    pub(super) fn come(&mut self) -> Option<Box<WritePermit<S>>> {
        let caller = task::try_id();
        if std::mem::replace(&mut self.last_caller, caller) != caller {
            self.crowd = CROWD_MEMORY;
        }
        if self.crowd > 0 || !self.queue.is_empty() {
            return None;
        }
        let permit = self.permit.take()?;
        self.is_alone = true;
        self.queue.pass();
        Some(permit)
    }

    /// Lays the permit down.
    pub(super) fn put_role(&mut self, permit: Option<Box<WritePermit<S>>>) {
        if permit.is_some() {
            self.is_alone = false;
            self.permit = permit;
        }
    }

    /// Whether everything has been sent that will be.
    fn is_drained(&self) -> bool {
        self.is_closing && self.queue.is_empty() && !self.is_alone
    }

    /// The task, if there is something for it to do.
    fn task(&mut self) -> Option<Waker> {
        if self.permit.is_some() && self.queue.is_ready() { self.task.take() } else { None }
    }
}
