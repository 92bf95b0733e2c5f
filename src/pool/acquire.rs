//! The way of one caller from [`Resource::get`](super::Resource::get) to its [`Guard`].
//!
//! It has three steps, which this file has from top to bottom:
//!
//! 1. [`Acquire::wait`] acquires the resource's entry in the [slot table](super::slots), and with it either an idle
//!    connection or a slot. Other callers may be first.
//! 2. [`Acquire::reuse`] checks the idle connection, and lends it if it is alive.
//! 3. [`Acquire::open`] opens a connection in the slot, and lends it.
//!
//! An [`Acquire`] may be dropped at any point. It then gives back what it holds.
//!
//! Next: [`Opening`], which opens the connection, and [`ResourceInner`], which takes the locks.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::coop;

use super::connection::{Connection, Readiness};
use super::dial_attempt::{check_runtime, dial};
use super::lifecycle::WithSetUp;
use super::opener::Open;
use super::opening::{FutureSlot, HeldSlot, Opening, prepare};
use super::release::Release;
use super::resource_inner::ResourceInner;
use super::slots::WaiterId;
use super::state::{Admission, Evicted, Grant, Waiter};
use super::wait_stats::WaitStart;
use super::{CloseReason, GetError, Guard, WaitingFor};

/// What one caller has of a resource, until it has a guard.
pub(super) struct Acquire<'a, T: Send + 'static> {
    /// Where what is held is given back.
    resource: &'a Arc<ResourceInner<T>>,
    /// Each step moves it on, so that a drop at any await gives back exactly what was acquired.
    holding: Holding,
    /// When it joined the queue, if it had to wait.
    queued_at: Option<WaitStart>,
    /// Sends the entry and the slot when the connection in the way is closed.
    slot_later: Option<oneshot::Receiver<HeldSlot<T>>>,
}

/// What an [`Acquire`] gives back when it is dropped.
#[derive(Clone, Copy)]
enum Holding {
    /// Before the request, after a failure, and once the guard has taken over.
    Nothing,
    /// A place in the queue.
    Queued(WaiterId),
    /// The entry, a slot, and an idle connection.
    Connection,
    /// The entry and a slot.
    Slot,
    /// The same, when a release action has ended: [`Acquire::slot_later`] has them.
    SlotLater,
}

impl<'a, T: Send + 'static> Acquire<'a, T> {
    // ===== step 1: the entry, with a connection or a slot =====

    /// A caller that has acquired nothing yet.
    #[inline]
    pub(super) fn new(resource: &'a Arc<ResourceInner<T>>) -> Self {
        Self { resource, holding: Holding::Nothing, queued_at: None, slot_later: None }
    }

    /// Acquires the entry as soon as it is this caller's turn.
    ///
    /// Fails if the pool is closed, or if the dial that it waited for fails.
    pub(super) async fn wait(resource: &'a Arc<ResourceInner<T>>) -> Result<Self, GetError> {
        let mut acquire = Self::new(resource);
        acquire.acquired().await?;
        Ok(acquire)
    }

    /// The same in its place, so that a caller that gives up can ask what it [waited for](Self::timed_out).
    pub(super) fn acquired(&mut self) -> impl Future<Output = Result<(), GetError>> {
        poll_fn(|cx| self.poll_acquired(cx))
    }

    /// The error for a caller whose time limit is over.
    #[cold]
    pub(super) fn timed_out(&self, limit: Duration) -> GetError {
        self.resource.timed_out(limit, self.resource.waiting_for())
    }

    /// The error for a caller that does not wait.
    #[cold]
    fn busy(&self) -> GetError {
        GetError::Busy { name: Arc::clone(&self.resource.name), waiting_for: self.resource.waiting_for() }
    }

    /// Acquires the entry if that is possible at once.
    pub(super) fn try_now(resource: &'a Arc<ResourceInner<T>>) -> Result<Self, GetError> {
        let mut acquire = Self::new(resource);
        match acquire.request(None) {
            Poll::Ready(acquired) => acquired.map(|()| acquire),
            Poll::Pending => Err(acquire.busy()),
        }
    }

    /// One poll of [`wait`](Self::wait).
    #[inline]
    fn poll_acquired(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GetError>> {
        let grant = match self.holding {
            Holding::Nothing => {
                let acquired = ready!(self.poll_request(cx));
                // A loop of callers that never wait has to yield, too. Until the next poll this one keeps what it
                // holds.
                ready!(coop::poll_proceed(cx)).made_progress();
                return Poll::Ready(acquired);
            }
            Holding::Queued(waiter) => ready!(self.poll_grant(waiter, cx)),
            // It had to yield in the last poll. A close may have been scheduled since.
            Holding::Connection => self.resource.entry.lock().confirm_reuse(),
            Holding::Slot | Holding::SlotLater => return Poll::Ready(self.check_closed()),
        };
        self.accept(grant)?;
        // The pool may have been closed since the grant. What was accepted goes back when this is dropped.
        Poll::Ready(self.check_closed())
    }

    /// Fails if the pool is closed.
    fn check_closed(&self) -> Result<(), GetError> {
        if self.resource.pool.summary.is_closed() { Err(GetError::Closed) } else { Ok(()) }
    }

    /// Asks for the entry the first time.
    #[inline]
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GetError>> {
        // A clone of the waker costs time, so it is made only where the caller will probably wait. It is made and
        // dropped without a lock, as it runs code of the program.
        if !self.resource.is_in_use() {
            if let Poll::Ready(acquired) = self.request(None) {
                return Poll::Ready(acquired);
            }
        }
        self.request(Some(cx.waker().clone()))
    }

    /// Asks for the entry. With a waker, joins the queue if need be.
    #[inline]
    fn request(&mut self, mut waker: Option<Waker>) -> Poll<Result<(), GetError>> {
        match self.resource.acquire(&mut waker)? {
            Admission::Granted(grant) => return Poll::Ready(self.accept(grant)),
            Admission::Queued(waiter) => {
                self.holding = Holding::Queued(waiter);
                self.queued_at = Some(WaitStart::now());
            }
            Admission::Busy => {}
        }
        Poll::Pending
    }

    /// Waits in the queue for a grant, and keeps the waker up to date.
    #[inline]
    fn poll_grant(&self, waiter: WaiterId, cx: &Context<'_>) -> Poll<Grant> {
        let mut new_waker = None;
        let waited = self.waited();
        loop {
            let mut entry = self.resource.entry.lock();
            // rule: second-look-before-the-waker
            if let Some(grant) = entry.take_grant(waiter) {
                entry.counts.waits.add(waited);
                return Poll::Ready(grant);
            }
            if entry.will_wake(waiter, cx.waker()) {
                return Poll::Pending;
            }
            if let Some(waker) = new_waker.take() {
                let old_waker = entry.set_waker(waiter, waker);
                drop(entry);
                drop(old_waker);
                return Poll::Pending;
            }
            // The waker is cloned without the lock. Meanwhile the grant may come: look again.
            drop(entry);
            new_waker = Some(cx.waker().clone());
        }
    }

    /// How long it has been in the queue.
    fn waited(&self) -> Duration {
        self.queued_at.map_or(Duration::ZERO, WaitStart::elapsed)
    }

    /// Takes what was granted, and closes the connection that is in the way.
    #[inline]
    fn accept(&mut self, grant: Grant) -> Result<(), GetError> {
        match grant {
            Grant::Reuse => self.holding = Holding::Connection,
            Grant::Replace => {
                self.holding = Holding::Slot;
                self.close_scheduled();
            }
            Grant::Slot(evicted) => {
                self.holding = Holding::Slot;
                if let Some(evicted) = evicted {
                    self.close_evicted(evicted);
                }
            }
            Grant::Failed(error) => {
                self.holding = Holding::Nothing;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Closes the resource's own connection, and keeps the slot.
    #[cold]
    fn close_scheduled(&mut self) {
        if let Some(release) = self.resource.discard_idle(CloseReason::Scheduled) {
            self.wait_for_release(release, || ());
        }
    }

    /// Closes the connection of another resource, and keeps its slot.
    #[cold]
    fn close_evicted(&mut self, evicted: Evicted) {
        let pool = &self.resource.pool;
        if let Some((release, entry)) = pool.close_for_slot(evicted) {
            let pool = Arc::clone(pool);
            self.wait_for_release(release, move || pool.finish_eviction(entry));
        }
    }

    /// Closes the connection from the last use, and keeps the slot.
    #[cold]
    fn discard(&mut self, connection: Connection<T>, reason: CloseReason) {
        if let Some(release) = self.resource.discard(connection, reason) {
            self.wait_for_release(release, || ());
        }
    }

    /// Leaves the slot to a release action, until that has ended. `then` follows before the slot is used.
    #[cold]
    fn wait_for_release(&mut self, release: Release, then: impl FnOnce() + Send + 'static) {
        let slot = HeldSlot::new(self.resource);
        let (sender, receiver) = oneshot::channel();
        self.holding = Holding::SlotLater;
        self.slot_later = Some(receiver);
        release.then(move || {
            then();
            // If the caller has left, this gives the slot back.
            drop(sender.send(slot));
        });
    }

    // ===== step 2: the idle connection =====

    /// Lends the idle connection, if there is one that is fit for use. Otherwise its slot is left.
    ///
    /// The error is for [`open`](Self::open): a connection that the program has to prepare first, if there is one.
    #[inline]
    pub(super) fn reuse(&mut self) -> Result<Guard<T>, Option<Connection<T>>> {
        let Holding::Connection = self.holding else { return Err(None) };
        self.holding = Holding::Slot;
        let ResourceInner { pool, is_quiet, lifecycle, .. } = &**self.resource;
        let mut connection = self.resource.take_idle().ok_or(None)?;
        // It was made ready for a caller that has left, while this one waited. So it is this one's, and what has arrived,
        // such as a greeting, is for it.
        if connection.info.readiness != Readiness::Used && self.queued_at.is_some() {
            let is_reused = connection.info.readiness == Readiness::Prepared;
            return Ok(self.lend(connection, is_reused));
        }
        match connection.check(&pool.settings, *is_quiet, lifecycle.check.as_deref()) {
            None if lifecycle.before_reuse.is_none() => Ok(self.lend(connection, true)),
            None => Err(Some(connection)),
            Some(reason) => {
                self.discard(connection, reason);
                Err(None)
            }
        }
    }

    // ===== step 3: a new connection =====

    /// Prepares the connection from the last use, or opens one with the resource's own opener, and lends it.
    pub(super) async fn open(mut self, used: Option<Connection<T>>) -> Result<Guard<T>, GetError> {
        let (runtime, used) = self.check_runtime(used)?;
        let slot = self.take_slot();
        let connection = Opening::begin(self.resource, runtime, slot, used).await?;
        let is_reused = connection.info.readiness == Readiness::Prepared;
        Ok(self.lend(connection, is_reused))
    }

    /// The same with the caller's own opener. A failure concerns no other caller.
    pub(super) async fn open_with(
        mut self,
        opener: &mut dyn Open<T>,
        used: Option<Connection<T>>,
    ) -> Result<Guard<T>, GetError> {
        let (_, used) = self.check_runtime(used)?;
        let held = self.take_slot().wait().await?;
        if let Some(used) = used {
            if let Some(prepared) = prepare(self.resource, used).await {
                held.keep();
                return Ok(self.lend(prepared, true));
            }
        }
        let set_up = self.resource.lifecycle.after_open.as_deref();
        let connection = dial(self.resource, &mut WithSetUp { opener, set_up }, false).await?;
        held.keep();
        Ok(self.lend(connection, false))
    }

    /// The runtime for what follows. If there is none that will do, the connection goes back.
    fn check_runtime(&mut self, used: Option<Connection<T>>) -> Result<(Handle, Option<Connection<T>>), GetError> {
        match check_runtime(self.resource) {
            Ok(runtime) => Ok((runtime, used)),
            Err(error) => {
                if let Some(used) = used {
                    self.resource.put_back(used);
                    self.holding = Holding::Connection;
                }
                Err(error)
            }
        }
    }

    /// Takes over the entry and the slot of this caller.
    fn take_slot(&mut self) -> FutureSlot<T> {
        self.holding = Holding::Nothing;
        match self.slot_later.take() {
            Some(later) => FutureSlot::Later(later),
            None => FutureSlot::Held(HeldSlot::new(self.resource)),
        }
    }

    // ===== the end =====

    /// Leaves the entry, the slot and the connection to a guard.
    fn lend(&mut self, mut connection: Connection<T>, is_reused: bool) -> Guard<T> {
        self.holding = Holding::Nothing;
        connection.info.readiness = Readiness::Used;
        self.resource.set_in_use(true);
        Guard::new(Arc::clone(self.resource), connection, is_reused)
    }

    /// Leaves the entry and the slot to the caller, which [releases](ResourceInner::release) them.
    pub(super) async fn into_slot(mut self) -> Result<(), GetError> {
        self.take_slot().wait().await?.keep();
        Ok(())
    }

    /// The same without a wait for a release action.
    pub(super) fn into_slot_now(mut self) -> Result<(), GetError> {
        if let Holding::SlotLater = self.holding {
            let name = Arc::clone(&self.resource.name);
            return Err(GetError::Busy { name, waiting_for: WaitingFor::Slot });
        }
        self.holding = Holding::Nothing;
        Ok(())
    }
}

impl<T: Send + 'static> Drop for Acquire<'_, T> {
    fn drop(&mut self) {
        if let Holding::Queued(waiter) = self.holding {
            self.holding = Holding::Nothing;
            let waited = self.waited();
            self.resource.entry.lock().counts.waits.add(waited);
            if let Waiter::Granted(grant) = self.resource.cancel(waiter) {
                // What was granted is given back below. A failure concerns nobody any more.
                let _ = self.accept(grant); // rule: leaving-caller-passes-its-grant-on
            }
        }
        match self.holding {
            Holding::Connection => self.resource.pass_on_unused(), // rule: leaving-caller-passes-the-connection-on
            Holding::Slot => self.resource.release(false),
            // The receiver is dropped, and what is sent to it goes back.
            Holding::SlotLater => {}
            Holding::Queued(_) | Holding::Nothing => {}
        }
    }
}
