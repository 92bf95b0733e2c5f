//! One user's way to a connection: its entry, a slot, and a dial if there is none.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::runtime::Handle;
use tokio::task::coop;
use tokio::time::Instant;

use super::book::{Answer, Grant};
use super::dialing::Dialing;
use super::inner::{Inner, Live};
use super::make::Make;
use super::shared::{Leaving, wake};
use super::stats::count;
use super::{Event, GetError, Guard, Why};

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

    fn ask(&mut self, mut waker: Option<Waker>) -> Result<Poll<()>, GetError> {
        let mut state = self.inner.shared.lock();
        if state.book.is_closed() {
            return Err(GetError::Closed);
        }
        let answer = state.book.ask(self.inner.entry, &mut waker);
        drop(state);
        match answer {
            Answer::Now(grant) => return self.accept(grant).map(Poll::Ready),
            Answer::Wait(place) => self.held = Held::Place(place),
            Answer::Busy => {}
        }
        Ok(Poll::Pending)
    }

    #[inline]
    fn poll_granted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GetError>> {
        let Held::Place(place) = self.held else {
            // A loop of users who need not wait must yield, too.
            let budget = ready!(coop::poll_proceed(cx));
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
        let mut state = self.inner.shared.lock();
        let mut granted = state.book.fetch(place);
        if granted.is_none() {
            if state.book.is_woken_by(place, cx.waker()) {
                return Poll::Pending;
            }
            drop(state);
            let waker = cx.waker().clone();
            state = self.inner.shared.lock();
            granted = state.book.fetch(place);
            if granted.is_none() {
                let replaced = state.book.set_waker(place, waker);
                drop(state);
                drop(replaced);
                return Poll::Pending;
            }
        }
        let is_closed = state.book.is_closed();
        drop(state);
        // (What was accepted goes back with the claim.)
        let accepted = granted.map_or(Ok(()), |grant| self.accept(grant));
        Poll::Ready(accepted.and(if is_closed { Err(GetError::Closed) } else { Ok(()) }))
    }

    fn accept(&mut self, grant: Grant<Box<dyn Leaving>, GetError>) -> Result<(), GetError> {
        self.held = Held::Nothing;
        match grant {
            Grant::Reuse => self.held = Held::Connection,
            Grant::Slot(None) => self.held = Held::Slot,
            Grant::Slot(Some(evicted)) => {
                self.held = Held::Slot;
                evicted.close(&self.inner.shared, Why::Evicted);
                self.inner.shared.lock().book.evicted();
            }
            Grant::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// The open connection, if there is one that is fit to be used.
    #[inline]
    pub(super) fn reuse(&mut self) -> Option<Guard<T>> {
        let Held::Connection = self.held else { return None };
        self.held = Held::Slot;
        let mut live = self.inner.take()?;
        if let Some(why) = self.inner.fault_of(&mut live) {
            self.inner.discard(live, why);
            return None;
        }
        Some(self.lend(live, true))
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
            let waiting = self.inner.shared.lock().book.fail_waiters(self.inner.entry, || error.clone());
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
        let mut closed = pin!(shared.closed.notified());
        closed.as_mut().enable();
        if shared.lock().book.is_closed() {
            return Err(GetError::Closed);
        }
        let began = Instant::now();
        let mut dialing = Dialing::new(self.inner, maker);
        let outcome = tokio::select! {
            biased;
            outcome = dialing.run(shared.settings.dial_timeout) => outcome,
            () = closed => return Err(GetError::Closed),
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

/// Without a runtime, tokio's sockets and timers panic.
pub(super) fn check_runtime(name: &Arc<str>) -> Result<(), GetError> {
    Handle::try_current().map(drop).map_err(|_| {
        let text = "it must be opened within a tokio runtime";
        GetError::Dial { name: Arc::clone(name), source: Arc::new(io::Error::new(io::ErrorKind::Unsupported, text)) }
    })
}

impl<T: Send + 'static> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        if let Held::Place(place) = self.held {
            self.held = Held::Nothing;
            // (The lock is free when the waker is dropped.)
            let (granted, _waker) = self.inner.shared.lock().book.cancel(place);
            if let Some(grant) = granted {
                // A failure concerns nobody any more.
                let _ = self.accept(grant);
            }
        }
        match self.held {
            Held::Connection => Arc::clone(self.inner).put_back(false),
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
