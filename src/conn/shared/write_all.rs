//! One caller's job.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::queue::Outcome;
use super::writer::{Role, Writer};
use crate::conn::alarm::{Alarm, now};
use crate::{Error, WhenDown};

/// The future of [`SharedConn::write_all`](super::SharedConn::write_all).
pub(super) struct WriteAll<'a, S> {
    writer: &'a Writer<S>,
    bytes: &'a [u8],
    /// The number of the job, while it is in the queue.
    number: Option<u64>,
    /// The right to write, while this caller writes its many bytes itself.
    role: Option<Box<Role<S>>>,
    /// Runs while there is no link, if the wait is limited; and after which link.
    patience: Option<(u64, Alarm)>,
}

impl<'a, S> WriteAll<'a, S> {
    pub(super) fn new(writer: &'a Writer<S>, bytes: &'a [u8]) -> Self {
        Self { writer, bytes, number: None, role: None, patience: None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Future for WriteAll<'_, S> {
    type Output = io::Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        match me.number {
            None => me.begin(cx),
            Some(number) => me.go_on(number, cx),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> WriteAll<'_, S> {
    fn begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_up = self.writer.check_link();
        let mut state = self.writer.lock();
        if state.is_closing {
            drop(state);
            return Poll::Ready(Err(self.writer.end()));
        }
        is_up?;
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let Some(mut role) = state.come() else {
            let number = state.queue.join(self.bytes.len());
            self.number = Some(number);
            drop(state);
            return self.go_on(number, cx);
        };
        let number = state.queue.pass();
        drop(state);
        let outcome = self.writer.write_alone(&mut role, self.bytes, cx);
        let mut state = self.writer.lock();
        let outcome = match outcome {
            Ok(sent) if sent == self.bytes.len() => Poll::Ready(Ok(())),
            Ok(sent) if state.queue.fall_in(self.bytes, sent, cx.waker()) => {
                self.number = Some(number);
                Poll::Pending
            }
            Ok(_) => Poll::Ready(Err(self.writer.end())),
            Err(error) => Poll::Ready(Err(error)),
        };
        self.writer.lay_down(state, role);
        if outcome.is_pending() { self.poll_patience(cx) } else { outcome }
    }

    fn go_on(&mut self, number: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(role) = &mut self.role {
            if self.writer.drive(role, Some((number, self.bytes)), cx).is_pending() {
                return self.poll_patience(cx);
            }
            if let Some(role) = self.role.take() {
                self.writer.lay_down(self.writer.lock(), role);
            }
        }
        let mut wakers = Vec::new();
        let mut state = self.writer.lock();
        let outcome = match state.queue.outcome(number) {
            Outcome::Done => Ok(()),
            Outcome::Failed(error) => Err(error),
            Outcome::Abandoned => {
                drop(state);
                self.number = None;
                return Poll::Ready(Err(self.writer.end()));
            }
            Outcome::Pending => {
                let is_admitted = state.queue.admit(number, self.bytes, &mut wakers);
                state.queue.set_waker(number, cx.waker());
                if is_admitted && state.queue.is_callers_turn(number) {
                    self.role = state.take_role();
                }
                let task = state.task();
                drop(state);
                wakers.into_iter().chain(task).for_each(std::task::Waker::wake);
                return if self.role.is_some() { self.go_on(number, cx) } else { self.poll_patience(cx) };
            }
        };
        self.number = None;
        Poll::Ready(outcome)
    }

    /// How long a job waits for a link.
    #[inline]
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let WhenDown::WaitFor(limit) = self.writer.tether.when_down else { return Poll::Pending };
        let Writer { tether, .. } = self.writer;
        let number = self.number.unwrap_or_default();
        // A job that has begun is told of the break that cut it, and of nothing else.
        if self.writer.is_up() || self.role.is_some() || self.writer.lock().queue.is_begun(number) {
            self.patience = None;
            return Poll::Pending;
        }
        let generation = tether.ledger.generation();
        let current = self.patience.take().filter(|(outage, _)| *outage == generation);
        let Some(deadline) = now(&tether.runtime).checked_add(limit) else { return Poll::Pending };
        let (_, alarm) =
            self.patience.insert(current.unwrap_or_else(|| (generation, Alarm::new(deadline, &tether.runtime))));
        ready!(alarm.poll(cx));
        let address = self.writer.tether.ledger.address.clone();
        Poll::Ready(Err(Error::WaitTimeout { address, limit }.into()))
    }
}

impl<S> Drop for WriteAll<'_, S> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut wakers = Vec::new();
        let mut state = self.writer.lock();
        state.queue.withdraw(number, self.bytes, &mut wakers);
        match self.role.take() {
            Some(mut role) => {
                role.forget_turn();
                self.writer.lay_down(state, role);
            }
            None => {
                let task = state.task();
                drop(state);
                wakers.extend(task);
            }
        }
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}
