//! The waits of senders: for room, for a fate, for a flush. Each leaves nothing behind when it is dropped.
//!
//! Next: [`Shared`], which they wait at.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::coop;

use super::shared::{Shared, TryAccept};
use super::{Fate, SendError, TrySendError};

impl Shared {
    /// Checks a message before it is accepted.
    fn check(&self, message: Bytes) -> Result<Bytes, SendError> {
        match message.len() {
            0 => Err(SendError::Empty),
            len if len > self.max_message => Err(SendError::TooLong { message, limit: self.max_message }),
            _ => Ok(message),
        }
    }

    /// See [`Outbox::try_send`](super::Outbox::try_send).
    pub(super) fn try_send(&self, message: Bytes) -> Result<u64, TrySendError> {
        match self.try_accept(self.check(message)?, false, true) {
            TryAccept::Accepted(number) => Ok(number),
            TryAccept::Full(message) | TryAccept::Pause(message) => Err(TrySendError::Full(message)),
            TryAccept::Ended(message, cause) => Err(SendError::Ended { message, cause }.into()),
        }
    }

    /// See [`Outbox::send`](super::Outbox::send). `watched`: a [`wait_for_fate`](Self::wait_for_fate) has to follow
    /// before the next await.
    pub(super) async fn send(&self, message: Bytes, watched: bool) -> Result<u64, SendError> {
        let mut message = self.check(message)?;
        let mut has_paused = false;
        loop {
            match self.try_accept(message, watched, has_paused) {
                TryAccept::Accepted(number) => return Ok(number),
                TryAccept::Ended(message, cause) => return Err(SendError::Ended { message, cause }),
                TryAccept::Full(given_back) => return self.send_in_turn(given_back, watched).await,
                // Before it is accepted: a future that is dropped at an await has not sent its message.
                TryAccept::Pause(given_back) => {
                    poll_fn(|cx| coop::poll_proceed(cx).map(|budget| budget.made_progress())).await;
                    (message, has_paused) = (given_back, true);
                }
            }
        }
    }

    /// Waits for room, and accepts the message.
    async fn send_in_turn(&self, message: Bytes, watched: bool) -> Result<u64, SendError> {
        let mut turn = Turn { shared: self, ticket: None, message: Some(message), watched };
        poll_fn(|cx| turn.poll(cx)).await
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
    /// Its place, once it waits.
    ticket: Option<u64>,
    /// What it sends; `None` when it has.
    message: Option<Bytes>,
    /// Whether it waits for the fate afterwards.
    watched: bool,
}

impl Turn<'_> {
    /// Takes the room when it comes.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<u64, SendError>> {
        // Cloned before the lock is taken, and a replaced one is dropped after it.
        let mut waker = Some(cx.waker().clone());
        let Self { shared, ticket, message, watched } = self;
        shared.change(|state| {
            let Some(sent) = message.as_ref() else { unreachable!("polled after the message was sent") };
            if let Some(cause) = state.refusal() {
                let message = message.take().unwrap_or_default();
                return Poll::Ready(Err(SendError::Ended { message, cause }));
            }
            match *ticket {
                None => {
                    *ticket = waker.take().map(|waker| state.room.join(sent.len(), waker));
                    Poll::Pending
                }
                Some(number) if state.room.take(number, &mut state.store, &mut waker) => {
                    *ticket = None;
                    let message = message.take().unwrap_or_default();
                    Poll::Ready(Ok(shared.accept_reserved(state, message, *watched)))
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
