//! The future of one call of `write_all`: one job.
//!
//! The first poll begins the job: its place in the order is fixed from then on. A caller that is alone writes its bytes
//! directly and is usually done in that poll. Otherwise the job is queued, and later polls fetch its outcome.
//!
//! Next: [`writer`](super::writer), where the jobs of all callers meet.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop;

use super::queue::Outcome;
use super::write_permit::WritePermit;
use super::writer::Writer;
use crate::conn::timer::GenerationTimeout;
use crate::{Error, WhenDown};

/// The future of [`SharedConn::write_all`](super::SharedConn::write_all).
///
/// Dropping it cancels the job if none of its bytes was taken. Otherwise the write task sends the rest.
pub(super) struct WriteAll<'a, S> {
    /// Where the job is queued, or the permit is taken.
    writer: &'a Writer<S>,
    /// The bytes of the job.
    bytes: &'a [u8],
    /// The number of the job, while it is in the queue.
    number: Option<u64>,
    /// The permit to write, while this caller writes its bytes itself.
    permit: Option<Box<WritePermit<S>>>,
    /// Whether the stream is being polled. Still set in the drop if the stream has panicked.
    is_polling: bool,
    /// Runs while there is no link, if the program limits that wait.
    link_timeout: GenerationTimeout,
}

impl<'a, S> WriteAll<'a, S> {
    /// A job that has not begun.
    pub(super) fn new(writer: &'a Writer<S>, bytes: &'a [u8]) -> Self {
        Self {
            writer,
            bytes,
            number: None,
            permit: None,
            is_polling: false,
            link_timeout: GenerationTimeout::default(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Future for WriteAll<'_, S> {
    type Output = io::Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        match me.number {
            None => me.poll_begin(cx),
            Some(number) => me.poll_queued(number, cx),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> WriteAll<'_, S> {
    /// The first poll: writes directly if the caller is alone, queues the job otherwise.
    ///
    /// A direct write that the link does not take whole becomes the first job of the queue, with the rest of its bytes.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_up = self.writer.check_link();
        let mut state = self.writer.lock();
        if state.is_closing || is_up.is_err() {
            let is_closing = state.is_closing;
            drop(state);
            // A loop over errors must yield too.
            ready!(coop::poll_proceed(cx)).made_progress();
            return Poll::Ready(if is_closing { Err(self.writer.end_error()) } else { is_up });
        }
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        // In `self` during the write, so that `drop` returns it if the stream panics.
        self.permit = state.begin_direct_write();
        let Some(permit) = &mut self.permit else {
            let number = state.queue.push(self.bytes.len());
            self.number = Some(number);
            drop(state);
            return self.poll_queued(number, cx);
        };
        drop(state);
        self.is_polling = true;
        let outcome = permit.write_direct(self.writer, self.bytes, cx);
        self.is_polling = false;
        let is_flushed = !permit.is_unflushed;
        let mut wakers = Vec::new();
        let mut state = self.writer.lock();
        if let Some(permit) = self.permit.take() {
            state.return_permit(permit);
        }
        let outcome = match outcome {
            Ok(written) if written == self.bytes.len() && is_flushed => Poll::Ready(Ok(())),
            Ok(written) => {
                self.number = state.queue.push_direct_write(self.bytes, written, cx.waker());
                self.number.map_or_else(|| Poll::Ready(Err(self.writer.end_error())), |_| Poll::Pending)
            }
            Err(error) => {
                // Jobs that were queued meanwhile find no link either.
                if !self.writer.is_up() {
                    self.writer.apply_when_down(&mut state, &mut wakers);
                }
                Poll::Ready(Err(error))
            }
        };
        self.writer.unlock(state, wakers);
        if outcome.is_pending() { self.poll_when_down(cx) } else { outcome }
    }

    /// A later poll: the job is in the queue.
    ///
    /// Fetches the outcome. While there is none, it admits the job if there is room, and writes the bytes of a large
    /// job whose turn it is.
    fn poll_queued(&mut self, number: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(permit) = &mut self.permit {
            self.is_polling = true;
            let driven = permit.drive(self.writer, Some((number, self.bytes)), cx);
            self.is_polling = false;
            if driven.is_pending() {
                return self.poll_when_down(cx);
            }
            self.release_permit();
        }
        let mut wakers = Vec::new();
        let mut state = self.writer.lock();
        let outcome = match state.queue.outcome(number) {
            Outcome::Done => Ok(()),
            Outcome::Failed(error) => Err(error),
            Outcome::Closed => {
                drop(state);
                Err(self.writer.end_error())
            }
            Outcome::Pending => {
                let is_admitted = state.queue.admit(number, self.bytes, &mut wakers);
                let _replaced = state.queue.set_waker(number, cx.waker());
                if is_admitted && state.queue.is_callers_turn(number) {
                    self.permit = state.permit.take();
                }
                self.writer.unlock(state, wakers);
                return if self.permit.is_some() { self.poll_queued(number, cx) } else { self.poll_when_down(cx) };
            }
        };
        self.number = None;
        Poll::Ready(outcome)
    }

    /// Waits as long as the program's `when_down` allows. Ready with the error when a wait for a link takes too long.
    #[inline]
    fn poll_when_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (writer, context) = (self.writer, &self.writer.context);
        let WhenDown::WaitFor(limit) = context.when_down else { return Poll::Pending };
        let number = self.number.unwrap_or_default();
        // A partly written job reports the break that cut it, and nothing else.
        if writer.is_up() || writer.lock().queue.is_partly_written(number) {
            self.link_timeout.stop();
            return Poll::Pending;
        }
        ready!(self.link_timeout.poll(cx, context.conn_state.generation(), limit, &context.runtime));
        if !self.cancel() {
            // A link has come up at the last moment, and a writer has taken the job.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let address = context.conn_state.address.clone();
        Poll::Ready(Err(Error::WaitTimeout { address, limit }.into()))
    }

    /// Keeps the job from being sent. False if it is too late: a writer has taken it, or it is partly written.
    fn cancel(&mut self) -> bool {
        let Some(number) = self.number else { return false };
        let mut wakers = Vec::new();
        let mut state = self.writer.lock();
        if !state.queue.can_cancel(number) {
            return false;
        }
        self.number = None;
        let _pending = state.queue.cancel(number, self.bytes, &mut wakers);
        self.writer.unlock(state, wakers);
        self.release_permit();
        true
    }
}

impl<S> WriteAll<'_, S> {
    /// Returns the permit, if this caller has it.
    fn release_permit(&mut self) {
        if let Some(mut permit) = self.permit.take() {
            permit.forget_next_write();
            let mut state = self.writer.lock();
            state.return_permit(permit);
            self.writer.unlock(state, None);
        }
    }
}

impl<S> Drop for WriteAll<'_, S> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.as_ref().filter(|_| self.is_polling) {
            permit.break_link();
        }
        if let Some(number) = self.number {
            let mut wakers = Vec::new();
            let mut state = self.writer.lock();
            // Dropped after the lock is released: a failure may hold an error of the program.
            let _outcome = state.queue.cancel(number, self.bytes, &mut wakers);
            self.writer.unlock(state, wakers);
        }
        self.release_permit();
    }
}
