//! One user's way to a connection: its entry, a slot, and a dial if there is none.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::task::coop;
use tokio::time::Instant;

use super::book::{Answer, Grant, Taken};
use super::dialing::Dialing;
use super::inner::{Inner, Live};
use super::make::Make;
use super::shared::{Leaving, wake};
use super::stats::count;
use super::{CloseReason, Event, GetError, Guard};
use crate::runtime::has_time;

/// What one user has of a resource, until it has all. Dropped, it passes on what it has.
pub(super) struct Claim<'a, T: Send + 'static> {
    inner: &'a Arc<Inner<T>>,
    held: Held,
}

#[derive(Clone, Copy)]
enum Held {
    /// A place among those who wait.
    Place(usize),
    /// The entry, a slot, and an open connection.
    Connection,
    /// The entry and a slot.
    Slot,
    Nothing,
}

impl<'a, T: Send + 'static> Claim<'a, T> {
    /// Waits until it is granted.
    pub(super) async fn wait(inner: &'a Arc<Inner<T>>) -> Result<Self, GetError> {
        let mut claim = Self { inner, held: Held::Nothing };
        poll_fn(|cx| claim.poll_granted(cx)).await?;
        Ok(claim)
    }

    /// Takes it if it can be had without waiting.
    pub(super) fn take(inner: &'a Arc<Inner<T>>) -> Result<Self, GetError> {
        let mut claim = Self { inner, held: Held::Nothing };
        match claim.ask(None)? {
            Poll::Ready(()) => Ok(claim),
            Poll::Pending => Err(GetError::Busy { name: Arc::clone(&inner.name) }),
        }
    }

    /// With a waker, waits if need be.
    fn ask(&mut self, mut waker: Option<Waker>) -> Result<Poll<()>, GetError> {
        match self.inner.ask(&mut waker)? {
            Answer::Now(grant) => return self.accept(grant).map(Poll::Ready),
            Answer::Wait(place) => self.held = Held::Place(place),
            Answer::Busy => {}
        }
        Ok(Poll::Pending)
    }

    /// The task has to yield first, but its turn is now: what can be had is kept for the next poll.
    #[cold]
    fn ask_early(&mut self, waker: &Waker) {
        // (An error is no other one then.)
        if let Ok(Poll::Ready(())) = self.ask(Some(waker.clone())) {
            let grant = if let Held::Connection = self.held { Grant::Reuse } else { Grant::Slot(None) };
            self.held = Held::Place(self.inner.desk.lock().defer(grant));
        }
    }

    #[inline]
    fn poll_granted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GetError>> {
        let Held::Place(place) = self.held else {
            // A loop of users who need not wait must yield, too.
            let Poll::Ready(budget) = coop::poll_proceed(cx) else {
                self.ask_early(cx.waker());
                return Poll::Pending;
            };
            // (A waker is cloned and dropped where the lock is not held.)
            let asked = match self.inner.is_busy() {
                true => self.ask(Some(cx.waker().clone())),
                false => match self.ask(None) {
                    Ok(Poll::Pending) => self.ask(Some(cx.waker().clone())),
                    asked => asked,
                },
            };
            budget.made_progress();
            return match asked {
                Ok(asked) => asked.map(Ok),
                Err(error) => Poll::Ready(Err(error)),
            };
        };
        let mut desk = self.inner.desk.lock();
        let mut granted = desk.fetch(place);
        if granted.is_none() {
            if desk.is_woken_by(place, cx.waker()) {
                return Poll::Pending;
            }
            drop(desk);
            let waker = cx.waker().clone();
            desk = self.inner.desk.lock();
            granted = desk.fetch(place);
            if granted.is_none() {
                let replaced = desk.set_waker(place, waker);
                drop(desk);
                drop(replaced);
                return Poll::Pending;
            }
        }
        drop(desk);
        let is_closed = self.inner.shared.board.is_closed();
        // (What was accepted goes back with the claim.)
        let accepted = granted.map_or(Ok(()), |grant| self.accept(grant));
        Poll::Ready(accepted.and(if is_closed { Err(GetError::Closed) } else { Ok(()) }))
    }

    #[inline]
    fn accept(&mut self, grant: Grant<Box<dyn Leaving>, GetError>) -> Result<(), GetError> {
        self.held = match grant {
            Grant::Reuse => Held::Connection,
            Grant::Replace | Grant::Slot(_) => Held::Slot,
            Grant::Failed(error) => {
                self.held = Held::Nothing;
                return Err(error);
            }
        };
        match grant {
            Grant::Replace => self.close_own(),
            Grant::Slot(Some(other)) => self.close_other(other),
            _ => {}
        }
        Ok(())
    }

    #[cold]
    fn close_own(&self) {
        if let Some(live) = self.inner.take() {
            self.inner.discard(live, CloseReason::Scheduled);
        }
    }

    #[cold]
    fn close_other(&self, Taken { live, entry }: Taken<Box<dyn Leaving>>) {
        let shared = &self.inner.shared;
        live.close(shared, CloseReason::Evicted);
        let (next, idle) = shared.lock().book.evicted(entry);
        wake(next);
        if let Some(idle) = idle {
            shared.close_one(idle, CloseReason::Evicted);
        }
    }

    /// The open connection, if there is one that is fit to be used.
    #[inline]
    pub(super) fn reuse(&mut self) -> Option<Guard<T>> {
        let Held::Connection = self.held else { return None };
        self.held = Held::Slot;
        let mut live = self.inner.take()?;
        if let Some(reason) = self.inner.fault_of(&mut live) {
            self.inner.discard(live, reason);
            return None;
        }
        Some(self.lend(live, true))
    }

    /// Whether a connection can be opened here.
    pub(super) fn check_runtime(&self) -> Result<(), GetError> {
        check_runtime(&self.inner.name, self.inner.shared.settings.dial_timeout.is_some())
    }

    /// Opens a connection by the resource's own dialer.
    pub(super) async fn dial(mut self) -> Result<Guard<T>, GetError> {
        let mut lent = LentMaker { inner: self.inner, maker: self.inner.take_maker() };
        let Some(maker) = &mut lent.maker else {
            unreachable!("one at a time has the entry, and gives the dialer back before")
        };
        let outcome = self.dial_by(&mut **maker).await;
        if let Err(error @ GetError::Dial { .. }) = &outcome {
            // Who waited for this dial would meet the same error, each after a dial of its own.
            let waiting = self.inner.desk.lock().fail_waiters(|| error.clone());
            wake(waiting);
        }
        // The dialer first, and then the claim: the next user needs both.
        drop(lent);
        drop(self);
        outcome
    }

    /// Opens a connection by this dialer.
    pub(super) async fn dial_by(&mut self, maker: &mut dyn Make<T>) -> Result<Guard<T>, GetError> {
        let shared = &self.inner.shared;
        self.inner.desk.lock().begin_dial();
        let mut notice = shared.notices.begin().ok_or(GetError::Closed)?;
        let began = Instant::now();
        let mut dialing = Dialing::new(self.inner, maker);
        let outcome = tokio::select! {
            biased;
            // (First: what is open when the pool is closed is nobody's.)
            () = notice.closed() => {
                dialing.ended_by_close();
                return Err(GetError::Closed);
            }
            outcome = dialing.run(shared.settings.dial_timeout) => outcome,
        };
        match outcome {
            Ok(value) => {
                dialing.succeeded();
                let now = Instant::now();
                count(&shared.tally.opened);
                shared.tell(|| Event::Opened { name: Arc::clone(&self.inner.name), took: now - began });
                Ok(self.lend(Live::new(value, now), false))
            }
            Err(error) => Err(dialing.failed(error)),
        }
    }

    /// Leaves the entry and the slot to one who gives them back himself.
    pub(super) fn leave(mut self) {
        self.held = Held::Nothing;
    }

    fn lend(&mut self, live: Live<T>, is_reused: bool) -> Guard<T> {
        self.held = Held::Nothing;
        self.inner.set_busy(true);
        Guard::new(Arc::clone(self.inner), live, is_reused)
    }
}

/// Without a runtime, tokio's sockets and timers panic; and so do its timers in one that has none.
pub(super) fn check_runtime(name: &Arc<str>, has_limit: bool) -> Result<(), GetError> {
    let unsupported = |text| {
        let source = Arc::new(io::Error::new(io::ErrorKind::Unsupported, text));
        Err(GetError::Dial { name: Arc::clone(name), source })
    };
    if Handle::try_current().is_err() {
        return unsupported("it must be opened within a tokio runtime");
    }
    if has_limit && !has_time() {
        return unsupported("a limit of time needs a tokio runtime with time enabled");
    }
    Ok(())
}

impl<T: Send + 'static> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        if let Held::Place(place) = self.held {
            self.held = Held::Nothing;
            // (The lock is free when the waker is dropped.)
            let (granted, _waker) = self.inner.cancel(place);
            if let Some(grant) = granted {
                // A failure concerns nobody any more.
                let _ = self.accept(grant);
            }
        }
        match self.held {
            Held::Connection => self.inner.put_back(false),
            Held::Slot => self.inner.release(false),
            Held::Place(_) | Held::Nothing => {}
        }
    }
}

/// The dialer of a resource, in the hands of one who dials.
struct LentMaker<'a, T: Send + 'static> {
    inner: &'a Arc<Inner<T>>,
    maker: Option<Box<dyn Make<T>>>,
}

impl<T: Send + 'static> Drop for LentMaker<'_, T> {
    fn drop(&mut self) {
        self.inner.put_maker(self.maker.take());
    }
}
