//! One caller's job.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop;

use super::queue::Outcome;
use super::write_permit::WritePermit;
use super::writer::Writer;
use crate::conn::timer::{Timer, now};
use crate::{Error, WhenDown};

/// The future of [`SharedConn::write_all`](super::SharedConn::write_all).
pub(super) struct WriteAll<'a, S> {
    writer: &'a Writer<S>,
    bytes: &'a [u8],
    /// The number of the job, while it is in the queue.
    number: Option<u64>,
    /// The right to write, while this caller writes its many bytes itself.
    permit: Option<Box<WritePermit<S>>>,
    /// Runs while there is no link, if the wait is limited; and after which link.
    patience: Option<(u64, Timer)>,
}

impl<'a, S> WriteAll<'a, S> {
    pub(super) fn new(writer: &'a Writer<S>, bytes: &'a [u8]) -> Self {
        Self { writer, bytes, number: None, permit: None, patience: None }
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
        if state.is_closing || is_up.is_err() {
            let is_closing = state.is_closing;
            drop(state);
            // A loop of errors must yield, too.
            ready!(coop::poll_proceed(cx)).made_progress();
            return Poll::Ready(if is_closing { Err(self.writer.end()) } else { is_up });
        }
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.permit = state.come();
        let Some(permit) = &mut self.permit else {
            let number = state.queue.join(self.bytes.len());
            self.number = Some(number);
            drop(state);
            return self.go_on(number, cx);
        };
        drop(state);
        let outcome = permit.write_alone(self.writer, self.bytes, cx);
        let is_flushed = !permit.is_unflushed();
        let mut wakers = Vec::new();
        let mut state = self.writer.lock();
        state.put_role(self.permit.take());
        let outcome = match outcome {
            Ok(written) if written == self.bytes.len() && is_flushed => Poll::Ready(Ok(())),
            Ok(written) => {
                self.number = state.queue.fall_in(self.bytes, written, cx.waker());
                self.number.map_or_else(|| Poll::Ready(Err(self.writer.end())), |_| Poll::Pending)
            }
            Err(error) => {
                self.writer.break_met_alone(&mut state, &mut wakers);
                Poll::Ready(Err(error))
            }
        };
        self.writer.unlock(state, wakers);
        if outcome.is_pending() { self.poll_patience(cx) } else { outcome }
    }

    fn go_on(&mut self, number: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(permit) = &mut self.permit {
            if permit.drive(self.writer, Some((number, self.bytes)), cx).is_pending() {
                return self.poll_patience(cx);
            }
            self.lay_down();
        }
        let mut wakers = Vec::new();
        let mut state = self.writer.lock();
        let outcome = match state.queue.outcome(number) {
            Outcome::Done => Ok(()),
            Outcome::Failed(error) => Err(error),
            Outcome::Abandoned => {
                drop(state);
                Err(self.writer.end())
            }
            Outcome::Pending => {
                let is_admitted = state.queue.admit(number, self.bytes, &mut wakers);
                let _replaced = state.queue.set_waker(number, cx.waker());
                if is_admitted && state.queue.is_callers_turn(number) {
                    self.permit = state.permit.take();
                }
                self.writer.unlock(state, wakers);
                return if self.permit.is_some() { self.go_on(number, cx) } else { self.poll_patience(cx) };
            }
        };
        self.number = None;
        Poll::Ready(outcome)
    }

    /// How long a job waits for a link.
    #[inline]
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let WhenDown::WaitFor(limit) = self.writer.context.when_down else { return Poll::Pending };
        let Writer { context, .. } = self.writer;
        let number = self.number.unwrap_or_default();
        // A job that has begun is told of the break that cut it, and of nothing else.
        if self.writer.is_up() || self.writer.lock().queue.is_begun(number) {
            self.patience = None;
            return Poll::Pending;
        }
        let generation = context.conn_state.generation();
        let current = self.patience.take().filter(|(outage, _)| *outage == generation);
        let Some(deadline) = now(&context.runtime).checked_add(limit) else { return Poll::Pending };
        let (_, timer) =
            self.patience.insert(current.unwrap_or_else(|| (generation, Timer::new(deadline, &context.runtime))));
        ready!(timer.poll(cx));
        self.patience = None;
        if !self.withdraw() {
            // A link has come up at the last moment, and a writer has taken the job.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let address = self.writer.context.conn_state.address.clone();
        Poll::Ready(Err(Error::WaitTimeout { address, limit }.into()))
    }

    /// Sees to it that the job is not sent. False if it is too late for that.
    fn withdraw(&mut self) -> bool {
        let Some(number) = self.number else { return false };
        let mut wakers = Vec::new();
        let mut state = self.writer.lock();
        if !state.queue.can_withdraw(number) {
            return false;
        }
        self.number = None;
        state.queue.withdraw(number, self.bytes, &mut wakers);
        self.writer.unlock(state, wakers);
        self.lay_down();
        true
    }
}

impl<S> WriteAll<'_, S> {
    fn lay_down(&mut self) {
        if let Some(mut permit) = self.permit.take() {
            permit.forget_turn();
            let mut state = self.writer.lock();
            state.put_role(Some(permit));
            self.writer.unlock(state, None);
        }
    }
}

impl<S> Drop for WriteAll<'_, S> {
    fn drop(&mut self) {
        if self.permit.is_some() && (self.number.is_none() || thread::panicking()) {
            // The stream has panicked: what it has taken of this job, nobody knows.
            self.writer.context.conn_state.reconnect();
        }
        if let Some(number) = self.number {
            let mut wakers = Vec::new();
            let mut state = self.writer.lock();
            state.queue.withdraw(number, self.bytes, &mut wakers);
            self.writer.unlock(state, wakers);
        }
        self.lay_down();
    }
}
