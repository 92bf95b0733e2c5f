//! The future of one call of `write_all` or `write_bytes`: one job.
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

use super::SharedConn;
use super::queue::{Deferred, Outcome, Payload};
use super::write_permit::WritePermit;
use super::writer::{Writer, WriterState};
use crate::conn::timer::GenerationTimeout;
use crate::{Error, WhenDown};

/// The future of [`SharedConn::write_all`] and [`SharedConn::write_bytes`].
///
/// Dropping it cancels the job if none of its bytes was taken. Otherwise the write task sends the rest.
pub(super) struct WriteAll<'a, S> {
    /// The clone that sends the job.
    conn: &'a SharedConn<S>,
    /// The bytes of the job. The queue has its own once the job is admitted.
    payload: Payload<'a>,
    /// How far the call has come.
    stage: Stage,
    /// Runs while there is no link, if the program limits that wait.
    link_timeout: GenerationTimeout,
}

/// How far a call has come.
#[derive(Clone, Copy)]
enum Stage {
    /// It was not polled.
    New,
    /// Its job, which has this number, is in the queue, or its outcome is there.
    Queued(u64),
    /// It has returned the outcome.
    Done,
}

impl<'a, S> WriteAll<'a, S> {
    /// A job that has not begun.
    pub(super) fn new(conn: &'a SharedConn<S>, payload: Payload<'a>) -> Self {
        Self { conn, payload, stage: Stage::New, link_timeout: GenerationTimeout::default() }
    }

    /// Where the job is queued, or the permit is taken.
    fn writer(&self) -> &'a Writer<S> {
        &self.conn.inner.writer
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Future for WriteAll<'_, S> {
    type Output = io::Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let outcome = ready!(match me.stage {
            Stage::New => me.poll_begin(cx),
            Stage::Queued(number) => me.poll_queued(number, cx),
            // As an `async fn` does. To send the job again would be worse.
            Stage::Done => panic!("the future of a write was polled again after it was ready"),
        });
        me.stage = Stage::Done;
        Poll::Ready(outcome)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> WriteAll<'_, S> {
    /// The first poll: writes directly if the caller is alone, queues the job otherwise.
    ///
    /// A direct write that the link does not take whole becomes the first job of the queue, with the rest of its bytes.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writer = self.writer();
        if self.conn.has_broken_link() && !writer.lock().is_closing {
            // A loop over errors must yield too.
            ready!(coop::poll_proceed(cx)).made_progress();
            if let Some(error) = self.conn.take_short_link() {
                return Poll::Ready(Err(error));
            }
        }
        let is_up = writer.check_link();
        let mut state = writer.lock();
        if state.is_closing || is_up.is_err() {
            let is_closing = state.is_closing;
            drop(state);
            // A loop over errors must yield too.
            ready!(coop::poll_proceed(cx)).made_progress();
            return Poll::Ready(if is_closing { Err(writer.end_error()) } else { is_up });
        }
        let length = self.payload.as_slice().len();
        if length == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(permit) = state.begin_direct_write() else {
            let number = state.queue.push(length);
            self.stage = Stage::Queued(number);
            drop(state);
            return self.poll_queued(number, cx);
        };
        drop(state);
        let mut direct = DirectWrite { writer, permit: Some(permit) };
        match direct.write(self.payload.as_slice(), cx) {
            Ok(Progress { written, is_unflushed: false, generation }) if written == length => {
                direct.finish(|_| ());
                self.conn.note_written(generation);
                Poll::Ready(Ok(()))
            }
            Ok(Progress { written, .. }) => {
                let (rest, waker) = (self.payload.rest(written), cx.waker().clone());
                let number = direct.finish(|state| state.queue.push_direct_write(length, written, rest, waker));
                let Some(number) = number else { return Poll::Ready(Err(writer.end_error())) };
                self.stage = Stage::Queued(number);
                self.poll_when_down(number, cx)
            }
            Err(error) => {
                direct.finish(|_| ());
                self.conn.note_failed(&error);
                Poll::Ready(Err(error))
            }
        }
    }

    /// A later poll: the job is in the queue.
    ///
    /// Fetches the outcome. While there is none, hands the bytes over as soon as there is room.
    fn poll_queued(&mut self, number: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writer = self.writer();
        let waker = cx.waker().clone();
        let mut state = writer.lock();
        if self.payload.is_costly_to_hand_over() && state.queue.can_admit(number) {
            drop(state);
            self.payload.make_owned();
            state = writer.lock();
        }
        Poll::Ready(match state.queue.outcome(number) {
            Outcome::Done { generation } => {
                self.conn.note_written(generation);
                Ok(())
            }
            Outcome::Failed(error) => {
                drop(state);
                self.conn.note_failed(&error);
                Err(error)
            }
            Outcome::Closed => {
                drop(state);
                Err(writer.end_error())
            }
            Outcome::Pending => {
                let mut deferred = Deferred::default();
                if state.queue.can_admit(number) {
                    state.queue.admit(number, self.payload.rest(0), &mut deferred);
                }
                let _replaced = state.queue.set_waker(number, waker);
                writer.unlock(state, &mut deferred);
                return self.poll_when_down(number, cx);
            }
        })
    }

    /// Waits as long as the program's `when_down` allows. Ready with the error when a wait for a link takes too long.
    #[inline]
    fn poll_when_down(&mut self, number: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writer = self.writer();
        let context = &writer.context;
        let WhenDown::WaitFor(limit) = context.when_down else { return Poll::Pending };
        // A partly written job reports the break that cut it, and nothing else.
        if writer.has_link() || writer.lock().queue.is_partly_written(number) {
            self.link_timeout.stop();
            return Poll::Pending;
        }
        let last_link = context.conn_state.newest_settled(); // rule: wait-counts-settled-links
        ready!(self.link_timeout.poll(cx, last_link, limit, &context.runtime));
        let mut deferred = Deferred::default();
        let mut state = writer.lock();
        if !state.queue.can_cancel(number) {
            drop(state);
            // A link has come up at the last moment, and a writer has taken the job.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let _pending = state.queue.cancel(number, &mut deferred);
        writer.unlock(state, &mut deferred);
        let address = context.conn_state.address.clone();
        Poll::Ready(Err(Error::WaitTimeout { address, limit }.into()))
    }
}

impl<S> Drop for WriteAll<'_, S> {
    fn drop(&mut self) {
        if let Stage::Queued(number) = self.stage {
            let writer = self.writer();
            let mut deferred = Deferred::default();
            let mut state = writer.lock();
            let is_cancelled = state.queue.can_cancel(number);
            // Dropped after the lock is released: a failure may hold an error of the program.
            let outcome = state.queue.cancel(number, &mut deferred);
            writer.unlock(state, &mut deferred);
            match outcome {
                Outcome::Done { generation } => self.conn.note_written(generation),
                // It is sent to its end, on the link that is up.
                Outcome::Pending if !is_cancelled => self.conn.note_written(writer.context.conn_state.generation()),
                _ => {}
            }
        }
    }
}

/// A caller's write with the permit, within one poll.
struct DirectWrite<'w, S> {
    /// Where the permit comes from.
    writer: &'w Writer<S>,
    /// `None` once it was returned.
    permit: Option<Box<WritePermit<S>>>,
}

/// How far a direct write has come.
struct Progress {
    /// How many bytes the stream has taken.
    written: usize,
    /// Whether the stream may hold some of them.
    is_unflushed: bool,
    /// The link that they are on.
    generation: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> DirectWrite<'_, S> {
    /// Writes once; see [`WritePermit::write_direct`].
    #[inline]
    fn write(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<Progress> {
        let Some(permit) = &mut self.permit else { unreachable!("it is returned after the write") };
        let written = permit.write_direct(self.writer.is_socket, bytes, cx)?;
        Ok(Progress { written, is_unflushed: permit.is_unflushed, generation: permit.half.used() })
    }
}

impl<S> DirectWrite<'_, S> {
    /// Returns the permit, after a change of the state.
    #[inline]
    fn finish<T>(mut self, change: impl FnOnce(&mut WriterState<S>) -> T) -> T {
        self.return_permit(change)
    }

    /// The same, for a drop.
    #[inline]
    fn return_permit<T>(&mut self, change: impl FnOnce(&mut WriterState<S>) -> T) -> T {
        let permit = self.permit.take();
        let mut state = self.writer.lock();
        let result = change(&mut state);
        state.end_direct_write(permit);
        self.writer.unlock_unchanged_queue(state); // rule: returned-permit-wakes-the-task
        result
    }
}

impl<S> Drop for DirectWrite<'_, S> {
    /// Still has the permit only if the stream has panicked.
    fn drop(&mut self) {
        if let Some(permit) = &self.permit {
            permit.break_link();
            self.return_permit(|_| ());
        }
    }
}
