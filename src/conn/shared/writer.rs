//! What the callers and the task of a `SharedConn` share to write on one link.
//!
//! There is one [`WritePermit`], the permit to write on the link. A caller that is alone takes it for a single poll and
//! writes its bytes directly, as on a `TcpStream`. As soon as several tasks write, callers put their bytes into the
//! [`Queue`], and a task writes what has come together: many jobs with one system call, the group commit of
//! databases. The task lets the other tasks of its thread run first, so that more comes together.
//!
//! # Why no caller waits for ever
//!
//! Only the task keeps the permit while it waits for the link, and the runtime polls the task whenever it is woken.
//! So a caller whose future is kept and not polled delays no other caller. There is one exception: when the queue is
//! full, a caller hands its bytes over when there is room, and the callers after it wait for that.
//!
//! The task sleeps only after storing its waker in the state. A caller that queues something takes that waker and wakes
//! the task. So does a caller that returns the permit while something is queued.
//!
//! Next: [`queue`](super::queue), the jobs.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::task;

use super::queue::{Deferred, Queue};
use super::write_permit::WritePermit;
use crate::conn::timer::{Timer, now};
use crate::conn::{ConnContext, WriteHalf};
use crate::link::Socket;
use crate::panics::wake;
use crate::sync::modelled::{Mutex, MutexGuard, Notify};
use crate::{Error, WhenDown};

/// For how many rounds with a single job the writers still expect several callers.
pub(super) const CONTENTION_ROUNDS: u8 = 16;

/// The writing side of a `SharedConn`.
pub(super) struct Writer<S> {
    /// Locked for a look or a change, never during a write: the permit has the write half.
    state: Mutex<WriterState<S>>,
    /// Whether the connection closes with the last clone. Otherwise its `ReadHalf` is elsewhere, and only the writing
    /// side is shut down.
    is_whole: bool,
    /// Whether the streams are sockets: the kernel has every byte that a socket has taken.
    pub(super) is_socket: bool,
    /// The connection's settings and state.
    pub(super) context: Arc<ConnContext<S>>,
    /// Notified when the queue is closing and its last job is gone.
    drained: Notify,
    /// Notified when the last clone is dropped.
    pub(super) all_dropped: Notify,
}

/// What a [`Writer`] keeps behind its lock.
pub(super) struct WriterState<S> {
    /// The jobs that are not written directly.
    pub(super) queue: Queue<io::Error>,
    /// The permit to write; `None` while the task or a caller has it.
    pub(super) permit: Option<Box<WritePermit<S>>>,
    /// The write task's waker, while the task sleeps.
    pub(super) task: Option<Waker>,
    /// The task of the newest caller.
    last_caller: Option<task::Id>,
    /// For how many more rounds several callers are expected. Then callers queue and do not write directly.
    pub(super) contention: u8,
    /// Whether a caller is writing directly. Its job is not in the queue.
    is_direct_write: bool,
    /// Whether new jobs are refused.
    pub(super) is_closing: bool,
    /// Whether every clone was dropped, so that no caller can come.
    pub(super) has_no_callers: bool,
}

impl<S: 'static> Writer<S> {
    /// A writer whose queue admits `capacity` jobs at once.
    pub(super) fn new(half: WriteHalf<S>, capacity: usize, is_whole: bool) -> Self {
        let context = Arc::clone(&half.handle.context);
        let state = WriterState {
            queue: Queue::new(capacity),
            permit: Some(Box::new(WritePermit::new(half))),
            task: None,
            last_caller: None,
            contention: 0,
            is_direct_write: false,
            is_closing: false,
            has_no_callers: false,
        };
        Self {
            state: Mutex::new(state),
            is_whole,
            is_socket: Socket::is_socket::<S>(),
            context,
            drained: Notify::new(),
            all_dropped: Notify::new(),
        }
    }
}

impl<S> Writer<S> {
    // ===== the lock =====

    /// Locks the state. Use [`unlock`](Self::unlock) after any change that another task may wait for.
    pub(super) fn lock(&self) -> MutexGuard<'_, WriterState<S>> {
        self.state.lock()
    }

    /// Releases the lock, then does what a change has left to do, and wakes those that wait for the state.
    pub(super) fn unlock(&self, state: MutexGuard<'_, WriterState<S>>, deferred: &mut Deferred) {
        self.unlock_unchanged_queue(state);
        deferred.run();
    }

    /// The same where no job has left the queue.
    #[inline]
    pub(super) fn unlock_unchanged_queue(&self, mut state: MutexGuard<'_, WriterState<S>>) {
        let task = state.take_task();
        let is_drained = state.is_drained();
        drop(state);
        task.into_iter().for_each(wake);
        if is_drained {
            self.drained.notify_waiters(); // rule: last-job-wakes-the-close
        }
    }

    // ===== outages =====

    /// Whether a link is up that jobs may use. One that has to settle first counts as none.
    pub(super) fn has_link(&self) -> bool {
        let (conn_state, settle_time) = (&self.context.conn_state, self.context.settle_time);
        let is_up = conn_state.status().is_connected();
        // rule: wait-for-a-settled-link
        is_up && (settle_time.is_zero() || !conn_state.has_to_settle(now(&self.context.runtime)))
    }

    /// Fails if there is no link and the program's `when_down` says not to wait for one.
    pub(super) fn check_link(&self) -> io::Result<()> {
        if self.context.when_down == WhenDown::Fail && !self.has_link() {
            return Err(self.context.conn_state.ended().map_or_else(|| self.down_error(), |_| self.end_error()));
        }
        Ok(())
    }

    /// Applies the program's `when_down` to the queued jobs. There must be no link.
    pub(super) fn apply_when_down(&self, state: &mut WriterState<S>, deferred: &mut Deferred) {
        match self.context.when_down {
            WhenDown::Wait => {}
            // Each caller starts its timeout.
            WhenDown::WaitFor(_) => state.queue.wake_all(deferred),
            WhenDown::Fail => state.queue.fail_all(|| self.down_error(), deferred),
        }
    }

    /// The error of a job that must not wait for a link.
    fn down_error(&self) -> io::Error {
        Error::Down { address: self.context.conn_state.address.clone() }.into()
    }

    // ===== the end =====

    /// The error of a job that is refused.
    #[cold]
    pub(super) fn end_error(&self) -> io::Error {
        let conn_state = &self.context.conn_state;
        conn_state.ended().map_or(Error::ClosedConnection, |end| conn_state.end_error(end)).into()
    }

    /// Refuses new jobs and waits until every job is gone, for at most `limit`.
    pub(super) async fn drain(&self, limit: Duration) {
        self.lock().is_closing = true;
        let runtime = &self.context.runtime;
        // A deadline beyond the range of the clock never comes.
        let mut timer = now(runtime).checked_add(limit).map(|deadline| Timer::new(deadline, runtime));
        let timeout = poll_fn(|cx| timer.as_mut().map_or(Poll::Pending, |timer| timer.poll(cx)));
        let drained = async {
            loop {
                let mut drained = pin!(self.drained.notified());
                drained.as_mut().enable();
                if self.lock().is_drained() {
                    return;
                }
                drained.await; // rule: wait-begins-before-the-look
            }
        };
        tokio::select! {
            biased;
            () = drained => {}
            () = timeout => {}
        }
    }

    /// The last clone was dropped.
    pub(super) fn last_clone_dropped(&self) {
        let mut state = self.lock();
        (state.is_closing, state.has_no_callers) = (true, true);
        let is_idle = state.queue.is_empty() && state.permit.is_some();
        // Nothing is left to send, and the task may not run for a long time. The drop of the write half shuts the writing
        // side down.
        let idle_permit = if is_idle && !self.is_whole { state.permit.take() } else { None };
        let task = state.task.take();
        drop(state);
        drop(idle_permit);
        if is_idle && self.is_whole {
            self.context.conn_state.close();
        }
        self.all_dropped.notify_one();
        if let Some(task) = task {
            wake(task);
        }
    }
}

impl<S> WriterState<S> {
    /// Begins a direct write if the caller is alone: gives it the permit. Otherwise the caller has to queue.
    ///
    /// A caller is alone if the queue is empty and the newest calls all came from its task. A call from another task
    /// counts as contention for [`CONTENTION_ROUNDS`] rounds.
    #[inline]
    pub(super) fn begin_direct_write(&mut self) -> Option<Box<WritePermit<S>>> {
        let caller = task::try_id();
        if std::mem::replace(&mut self.last_caller, caller) != caller {
            self.contention = CONTENTION_ROUNDS;
        }
        if self.contention > 0 || !self.queue.is_empty() {
            return None;
        }
        let permit = self.permit.take()?;
        self.is_direct_write = true;
        self.queue.begin_direct_write();
        Some(permit)
    }

    /// Takes the permit back from a caller.
    #[inline]
    pub(super) fn end_direct_write(&mut self, permit: Option<Box<WritePermit<S>>>) {
        self.is_direct_write = false;
        self.permit = permit;
    }

    /// Whether everything was sent that will be sent. The task may still have the permit.
    fn is_drained(&self) -> bool {
        self.is_closing && self.queue.is_empty() && !self.is_direct_write
    }

    /// The write task's waker, if the task sleeps and there is something for it to do.
    fn take_task(&mut self) -> Option<Waker> {
        // rule: admitted-job-wakes-the-task
        if self.permit.is_some() && self.queue.has_admitted() { self.task.take() } else { None }
    }
}
