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

use tokio::task::coop;

use super::connection::Connection;
use super::dial_attempt::{check_runtime, dial};
use super::opener::Open;
use super::opening::Opening;
use super::resource_inner::ResourceInner;
use super::slots::WaiterId;
use super::state::{Admission, Grant, Waiter};
use super::{CloseReason, GetError, Guard};

/// What one caller has of a resource, until it has a guard.
pub(super) struct Acquire<'a, T: Send + 'static> {
    /// Where what is held is given back.
    resource: &'a Arc<ResourceInner<T>>,
    /// Each step moves it on, so that a drop at any await gives back exactly what was acquired.
    holding: Holding,
    /// It was in the queue before it was granted something.
    has_waited: bool,
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
}

impl<'a, T: Send + 'static> Acquire<'a, T> {
    // ===== step 1: the entry, with a connection or a slot =====

    /// Acquires the entry as soon as it is this caller's turn.
    ///
    /// Fails if the pool is closed, or if the dial that it waited for fails.
    pub(super) async fn wait(resource: &'a Arc<ResourceInner<T>>) -> Result<Self, GetError> {
        let mut acquire = Self { resource, holding: Holding::Nothing, has_waited: false };
        poll_fn(|cx| acquire.poll_acquired(cx)).await?;
        Ok(acquire)
    }

    /// Acquires the entry if that is possible at once.
    pub(super) fn try_now(resource: &'a Arc<ResourceInner<T>>) -> Result<Self, GetError> {
        let mut acquire = Self { resource, holding: Holding::Nothing, has_waited: false };
        match acquire.request(None) {
            Poll::Ready(acquired) => acquired.map(|()| acquire),
            Poll::Pending => Err(GetError::Busy { name: Arc::clone(&resource.name) }),
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
            Holding::Queued(waiter) => {
                let grant = ready!(self.poll_grant(waiter, cx));
                self.has_waited = true;
                grant
            }
            // It had to yield in the last poll. A close may have been scheduled since.
            Holding::Connection => self.resource.entry.lock().confirm_reuse(),
            Holding::Slot => Grant::Slot(None),
        };
        self.accept(grant)?;
        // The pool may have been closed since the grant. What was accepted goes back when this is dropped.
        Poll::Ready(if self.resource.pool.summary.is_closed() { Err(GetError::Closed) } else { Ok(()) })
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
            Admission::Queued(waiter) => self.holding = Holding::Queued(waiter),
            Admission::Busy => {}
        }
        Poll::Pending
    }

    /// Waits in the queue for a grant, and keeps the waker up to date.
    #[inline]
    fn poll_grant(&self, waiter: WaiterId, cx: &Context<'_>) -> Poll<Grant> {
        let mut new_waker = None;
        loop {
            let mut entry = self.resource.entry.lock();
            // rule: second-look-before-the-waker
            if let Some(grant) = entry.take_grant(waiter) {
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

    /// Takes what was granted, and closes the connection that is in the way.
    #[inline]
    fn accept(&mut self, grant: Grant) -> Result<(), GetError> {
        match grant {
            Grant::Reuse => self.holding = Holding::Connection,
            Grant::Replace => {
                self.holding = Holding::Slot;
                self.resource.discard_idle(CloseReason::Scheduled);
            }
            Grant::Slot(evicted) => {
                self.holding = Holding::Slot;
                if let Some(evicted) = evicted {
                    self.resource.pool.close_for_slot(evicted);
                }
            }
            Grant::Failed(error) => {
                self.holding = Holding::Nothing;
                return Err(error);
            }
        }
        Ok(())
    }

    // ===== step 2: the idle connection =====

    /// Lends the idle connection, if there is one that is fit for use. Otherwise its slot is left.
    #[inline]
    pub(super) fn reuse(&mut self) -> Option<Guard<T>> {
        let Holding::Connection = self.holding else { return None };
        self.holding = Holding::Slot;
        let ResourceInner { pool, is_quiet, .. } = &**self.resource;
        let mut connection = self.resource.take_idle()?;
        // A dial ended for a caller that had left, while this one waited. So it is a connection of its own, and what has
        // arrived, such as a greeting, is for it.
        if connection.is_new && self.has_waited {
            return Some(self.lend(connection, false));
        }
        match connection.check(&pool.settings, *is_quiet) {
            None => Some(self.lend(connection, true)),
            Some(reason) => {
                self.resource.discard(connection, reason);
                None
            }
        }
    }

    // ===== step 3: a new connection =====

    /// Opens a connection with the resource's own opener, and lends it.
    pub(super) async fn open(mut self) -> Result<Guard<T>, GetError> {
        let runtime = check_runtime(self.resource)?;
        let opening = Opening::begin(self.resource, runtime);
        self.holding = Holding::Nothing;
        let connection = opening.await?;
        Ok(self.lend(connection, false))
    }

    /// Opens a connection with the caller's own opener, and lends it. A failure concerns no other caller.
    pub(super) async fn open_with(mut self, opener: &mut dyn Open<T>) -> Result<Guard<T>, GetError> {
        check_runtime(self.resource)?;
        let connection = dial(self.resource, opener, false).await?;
        Ok(self.lend(connection, false))
    }

    // ===== the end =====

    /// Leaves the entry, the slot and the connection to a guard.
    fn lend(&mut self, mut connection: Connection<T>, is_reused: bool) -> Guard<T> {
        self.holding = Holding::Nothing;
        connection.is_new = false;
        self.resource.set_in_use(true);
        Guard::new(Arc::clone(self.resource), connection, is_reused)
    }

    /// Leaves the entry and the slot to the caller, which [releases](ResourceInner::release) them.
    pub(super) fn into_slot(mut self) {
        self.holding = Holding::Nothing;
    }
}

impl<T: Send + 'static> Drop for Acquire<'_, T> {
    fn drop(&mut self) {
        if let Holding::Queued(waiter) = self.holding {
            self.holding = Holding::Nothing;
            if let Waiter::Granted(grant) = self.resource.cancel(waiter) {
                // What was granted is given back below. A failure concerns nobody any more.
                let _ = self.accept(grant); // rule: leaving-caller-passes-its-grant-on
            }
        }
        match self.holding {
            Holding::Connection => self.resource.pass_on(false), // rule: leaving-caller-passes-the-connection-on
            Holding::Slot => self.resource.release(false),
            Holding::Queued(_) | Holding::Nothing => {}
        }
    }
}
