//! The waits of senders: for room, for a fate, for a flush. Each leaves nothing behind when it is dropped.
//!
//! Next: [`Shared`], which they wait at.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

use super::shared::{Phase, Shared, TryAccept};
use super::{Fate, SendError, TrySendError};
use crate::Error;

impl Shared {
    /// Checks a message before it is accepted.
    #[inline]
    fn check(&self, message: &[u8]) -> Result<(), SendError> {
        match message.len() {
            0 => Err(SendError::Empty),
            len if len > self.max_message => Err(SendError::TooLong { len, limit: self.max_message }),
            _ => Ok(()),
        }
    }

    /// The error of a message that comes after the end.
    #[cold]
    fn ended(&self) -> SendError {
        SendError::Ended { cause: self.end_cause().unwrap_or_else(|| Arc::new(Error::ClosedConnection)) }
    }

    /// See [`Outbox::try_send`](super::Outbox::try_send).
    #[inline]
    pub(super) fn try_send(&self, message: &[u8]) -> Result<u64, TrySendError> {
        self.check(message)?;
        match self.try_accept(message, false, true) {
            TryAccept::Accepted(number) => Ok(number),
            TryAccept::Full | TryAccept::Pause => Err(TrySendError::Full),
            TryAccept::Ended => Err(self.ended().into()),
        }
    }

    /// See [`Outbox::send`](super::Outbox::send). `watched`: a [`wait_for_fate`](Self::wait_for_fate) has to follow
    /// before the next await.
    #[inline]
    pub(super) async fn send(&self, message: &[u8], watched: bool) -> Result<u64, SendError> {
        self.check(message)?;
        match self.try_accept(message, watched, false) {
            TryAccept::Accepted(number) => Ok(number),
            _ => self.send_later(message, watched).await,
        }
    }

    /// Sends a message that could not be accepted at once.
    async fn send_later(&self, message: &[u8], watched: bool) -> Result<u64, SendError> {
        // Before it is accepted: a future that is dropped at an await has not sent its message.
        poll_fn(|cx| coop::poll_proceed(cx).map(|budget| budget.made_progress())).await;
        match self.try_accept(message, watched, true) {
            TryAccept::Accepted(number) => return Ok(number),
            TryAccept::Ended => return Err(self.ended()),
            TryAccept::Full | TryAccept::Pause => {}
        }
        let mut turn = Turn { shared: self, ticket: None, message, watched };
        match poll_fn(|cx| turn.poll(cx)).await {
            Some(number) => Ok(number),
            None => Err(self.ended()),
        }
    }

    /// Waits for the fate of a message that was accepted as watched.
    pub(super) async fn wait_for_fate(&self, number: u64) -> Fate {
        let mut wait = WaitForFate { shared: self, number: Some(number) };
        poll_fn(|cx| wait.poll(cx)).await
    }

    /// See [`Outbox::flush`](super::Outbox::flush).
    pub(super) async fn flush(self: &Arc<Self>) {
        let upto = self.look().store.next_number() - 1;
        let mut wait = WaitForFlush { shared: self, upto, wait: None };
        poll_fn(|cx| wait.poll(cx)).await;
    }
}

/// A sender that waits for room.
struct Turn<'a> {
    /// Where it waits.
    shared: &'a Shared,
    /// Its place, while it waits.
    ticket: Option<u64>,
    /// What it sends.
    message: &'a [u8],
    /// Whether it waits for the fate afterwards.
    watched: bool,
}

impl Turn<'_> {
    /// Takes the room when it comes, and returns the number of the message. `None`: the outbox has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        // Cloned before the lock is taken, and a replaced one is dropped after it.
        let mut waker = Some(cx.waker().clone());
        let Self { shared, ticket, message, watched } = self;
        shared.change(|state| {
            if !matches!(state.phase, Phase::Open) {
                return Poll::Ready(None);
            }
            match *ticket {
                None => {
                    *ticket = waker.take().map(|waker| state.room.join(message.len(), waker));
                    Poll::Pending
                }
                Some(number) if state.room.take(number, &mut state.store, &mut waker) => {
                    *ticket = None;
                    Poll::Ready(Some(shared.accept_reserved(state, message, *watched)))
                }
                Some(_) => Poll::Pending,
            }
        })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let waker = self.shared.change(|state| state.room.leave(ticket, &mut state.store));
            drop(waker);
        }
    }
}

/// A sender that waits for the fate of its message.
struct WaitForFate<'a> {
    /// Where it waits.
    shared: &'a Shared,
    /// The message; `None` once its fate is fetched.
    number: Option<u64>,
}

impl WaitForFate<'_> {
    /// Fetches the fate.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Fate> {
        let Some(number) = self.number else { unreachable!("polled after the fate was fetched") };
        let mut waker = Some(cx.waker().clone());
        let fate = self.shared.change(|state| state.poll_fate(number, &mut waker));
        match fate {
            Some(fate) => {
                self.number = None;
                Poll::Ready(fate)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for WaitForFate<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let forgotten = self.shared.change(|state| state.forget_fate(number));
            drop(forgotten);
        }
    }
}

/// A caller that waits until all messages up to a number have their fate.
struct WaitForFlush<'a> {
    /// Where it waits.
    shared: &'a Shared,
    /// The last of those messages.
    upto: u64,
    /// Its place, once it waits.
    wait: Option<u64>,
}

impl WaitForFlush<'_> {
    /// Looks whether they have.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(coop::poll_proceed(cx)).made_progress();
        let waker = cx.waker().clone();
        let (waits, replaced) = self.shared.change(|state| state.poll_flush(self.upto, &mut self.wait, waker));
        drop(replaced);
        if waits {
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Drop for WaitForFlush<'_> {
    fn drop(&mut self) {
        if let Some(wait) = self.wait {
            let waker = self.shared.change(|state| state.forget_flush(self.upto, wait));
            drop(waker);
        }
    }
}
