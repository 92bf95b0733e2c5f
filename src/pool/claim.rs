//! One user's way to a connection: its entry, a slot, and a dial if there is none.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::book::{Answer, Grant};
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

    fn ask(&mut self, waker: Option<&Waker>) -> Result<Poll<()>, GetError> {
        let mut state = self.inner.shared.lock();
        if state.book.is_closed() {
            return Err(GetError::Closed);
        }
        let answer = state.book.ask(self.inner.entry, waker);
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
            return match self.ask(Some(cx.waker())) {
                Ok(asked) => asked.map(Ok),
                Err(error) => Poll::Ready(Err(error)),
            };
        };
        let granted = self.inner.shared.lock().book.poll(place, cx.waker());
        match granted {
            None => Poll::Pending,
            Some(grant) => Poll::Ready(self.accept(grant)),
        }
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
        let live = self.inner.take()?;
        if let Some(why) = self.inner.fault_of(&live) {
            self.inner.shared.lock().book.reused -= 1;
            self.inner.discard(live, why);
            return None;
        }
        Some(self.lend(live, true))
    }

    /// Opens a connection by the resource's own dialer.
    pub(super) async fn dial(self) -> Result<Guard<T>, GetError> {
        let mut lent = LentMaker { inner: self.inner, maker: self.inner.take_maker() };
        match &mut lent.maker {
            Some(maker) => self.dial_by(&mut **maker).await,
            None => unreachable!("one at a time has the entry, and gives the dialer back"),
        }
    }

    pub(super) async fn dial_by(mut self, maker: &mut dyn Make<T>) -> Result<Guard<T>, GetError> {
        let shared = &self.inner.shared;
        let began = Instant::now();
        let outcome = match shared.settings.dial_timeout {
            _ if Handle::try_current().is_err() => Err(no_runtime()),
            None => maker.make().await,
            Some(limit) => timeout(limit, maker.make()).await.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("the dial took longer than {limit:?}")))
            }),
        };
        match outcome {
            Ok(value) => {
                let now = Instant::now();
                count(&shared.tally.opened);
                shared.tell(|| Event::Opened { name: Arc::clone(&self.inner.name), took: now - began });
                Ok(self.lend(Live::new(value, now), false))
            }
            Err(error) => {
                maker.failed();
                count(&shared.tally.dials_failed);
                let error = GetError::Dial { name: Arc::clone(&self.inner.name), source: Arc::new(error) };
                // Who waited for this dial would meet the same error, each after a dial of its own.
                let waiting = shared.lock().book.fail_waiters(self.inner.entry, || error.clone());
                wake(waiting);
                shared.tell(|| Event::DialFailed { name: Arc::clone(&self.inner.name), cause: error.clone() });
                Err(error)
            }
        }
    }

    /// Leaves the entry and the slot to one who gives them back himself.
    pub(super) fn leave(mut self) {
        self.held = Held::Nothing;
    }

    fn lend(&mut self, live: Live<T>, is_reused: bool) -> Guard<T> {
        self.held = Held::Nothing;
        Guard::new(Arc::clone(self.inner), live, is_reused)
    }
}

impl<T: Send + 'static> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        if let Held::Place(place) = self.held {
            self.held = Held::Nothing;
            let granted = self.inner.shared.lock().book.cancel(place);
            if let Some(grant) = granted {
                // A failure concerns nobody any more.
                let _ = self.accept(grant);
            }
        }
        match self.held {
            Held::Connection => Arc::clone(self.inner).put_back(),
            Held::Slot => self.inner.release(false),
            Held::Place(_) | Held::Nothing => {}
        }
    }
}

/// (Without one, tokio's sockets and timers panic.)
pub(super) fn no_runtime() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a connection must be opened within a tokio runtime")
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
