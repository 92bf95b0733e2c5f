//! The work on one link: batches out, answers in, and the deadlines.
//!
//! Each poll reads what there is, writes what it can, and then looks under the lock whether anything is left to do
//! before it sleeps. A message that comes after that look finds the task's waker.
//!
//! Next: [`Store`](super::store::Store), which decides what is written, and what becomes of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop;
use tokio::time::Instant;
use tokio_util::bytes::BytesMut;
use tokio_util::io::poll_read_buf;

use super::Answer;
use super::ack_poll::AckPoll;
use super::alarm::earlier;
use super::codec::Refused;
use super::look::{Look, Sleep};
use super::shared::{Phase, State};
use super::store::Run;
use super::task::Tools;
use super::wire::Wire;
use crate::Session;
use crate::hooks::warn;
use crate::io_error::is_try_again;

/// How many bytes are read at once.
const READ_BYTES: usize = 16 * 1024;

/// How many reads one poll makes before it writes. A stream of the program may always have more.
const READS_PER_POLL: usize = 16;

/// Room for this many runs of a batch is kept for the next one.
const KEPT_RUNS: usize = 64;

/// How many batches one poll writes before it reads.
const BATCHES_PER_POLL: usize = 16;

/// One link.
pub(super) struct LinkRun<'a, S> {
    /// What the task keeps.
    tools: &'a mut Tools,
    /// The stream.
    session: Session<S>,
    /// Where the link is in its life.
    stage: Stage,
    /// The bytes of the present batch that the stream has not taken.
    wire: Wire,
    /// How many bytes the stream has taken that the store does not know of.
    unreported: usize,
    /// Whether the stream has bytes that a flush has not confirmed.
    is_unflushed: bool,
    /// What has arrived and is no whole answer.
    inbound: BytesMut,
    /// The messages to encode, and those that cannot be. Empty between two polls.
    batch: Vec<Run>,
    refused: Vec<Refused>,
    /// Answers that the store does not know of.
    answers: Vec<Answer>,
    /// When to ask the kernel what is acknowledged.
    ack_poll: AckPoll,
}

/// The life of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Messages go out.
    Sending,
    /// A write has failed. What had arrived before is read; it may be answers.
    ReadingOn,
    /// All messages have their fate, and the outbox closes: the protocol's last bytes go out.
    Finishing,
    /// And then the stream's own.
    ShuttingDown,
}

/// How a link has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkEnd {
    /// It broke; the next one comes.
    Broken,
    /// The outbox closes.
    Closed,
}

/// What a step has found.
enum Step {
    /// There is nothing more to do for now.
    Wait,
    /// The link has ended.
    End(LinkEnd),
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin + Send + 'static> LinkRun<'a, S> {
    /// Begins with a link.
    pub(super) fn new(tools: &'a mut Tools, session: Session<S>) -> Self {
        let counts = session.unacknowledged().is_some();
        let now = tools.shared.now();
        tools.shared.change(|state| state.store.begin_link(counts, now));
        if let Err(error) = tools.codec.begin() {
            fail(&session, error); // The first poll finds it.
        }
        Self {
            tools,
            session,
            stage: Stage::Sending,
            wire: Wire::default(),
            unreported: 0,
            is_unflushed: false,
            inbound: BytesMut::new(),
            batch: Vec::new(),
            refused: Vec::new(),
            answers: Vec::new(),
            ack_poll: AckPoll::new(),
        }
    }

    /// Works until the link ends. Call it no more after that.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        let end = ready!(self.poll_work(cx));
        // A TLS session says goodbye. Nobody waits for it: what it cannot send at once is not worth it. A socket is closed with
        // the connection: its shutdown would be a break, with an event and a redial.
        if end == LinkEnd::Closed && !self.tools.is_socket {
            let _ = Pin::new(&mut self.session).poll_shutdown(cx);
        }
        let missing = self.session.unacknowledged();
        self.change(|state| state.store.end_link(missing));
        Poll::Ready(end)
    }

    /// Works until the link ends.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        loop {
            // A stream of the program may take and give without end.
            ready!(coop::poll_proceed(cx)).made_progress();
            for step in [Self::read, Self::write] {
                match step(self, cx) {
                    Ok(Step::Wait) => {}
                    Ok(Step::End(end)) => return Poll::Ready(end),
                    Err(error) => return Poll::Ready(fail(&self.session, error)),
                }
            }
            match self.prepare_to_sleep(cx) {
                Err(error) => return Poll::Ready(fail(&self.session, error)),
                Ok(Sleep::Until(deadline)) => ready!(self.tools.alarm.poll(cx, deadline)),
                Ok(Sleep::No) => {}
                Ok(Sleep::End(end)) => return Poll::Ready(end),
            }
        }
    }

    // ===== reading =====

    /// Reads what has arrived, and takes the answers in it. An error is the peer's fault, or the decoder's.
    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<Step> {
        for _ in 0..READS_PER_POLL {
            self.inbound.reserve(READ_BYTES);
            match poll_read_buf(Pin::new(&mut self.session), cx, &mut self.inbound) {
                Poll::Pending => return Ok(Step::Wait),
                Poll::Ready(Ok(0)) => return Ok(Step::End(LinkEnd::Broken)),
                Poll::Ready(Ok(_)) => self.take_answers()?,
                Poll::Ready(Err(error)) if is_try_again(&error) => {}
                Poll::Ready(Err(_)) => return Ok(Step::End(LinkEnd::Broken)),
            }
        }
        // There may be more, which wakes nobody.
        cx.waker().wake_by_ref();
        Ok(Step::Wait)
    }

    /// Decodes what has arrived, and tells the store.
    fn take_answers(&mut self) -> io::Result<()> {
        let decoded = self.tools.codec.decode(&mut self.inbound, &mut self.answers);
        if !self.answers.is_empty() {
            let mut answers = std::mem::take(&mut self.answers);
            // What came before a false answer counts.
            let taken = self.change(|state| answers.drain(..).try_for_each(|answer| state.store.answer(answer)));
            self.answers = answers;
            taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        if self.inbound.is_empty() && self.inbound.capacity() > 2 * READ_BYTES {
            self.inbound = BytesMut::new();
        }
        decoded
    }

    // ===== writing =====

    /// Writes batch after batch, until the stream takes no more or there is nothing to write.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Step> {
        let mut batches = 0;
        while self.stage != Stage::ReadingOn {
            if !self.wire.is_empty() {
                let outcome = Pin::new(&mut self.session).poll_write(cx, self.wire.next());
                match outcome {
                    Poll::Pending => break,
                    Poll::Ready(Err(error)) if is_try_again(&error) => {}
                    Poll::Ready(Ok(0) | Err(_)) => self.stage = Stage::ReadingOn,
                    Poll::Ready(Ok(len)) => self.wrote(len),
                }
            } else if self.is_unflushed {
                match Pin::new(&mut self.session).poll_flush(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Err(error)) if is_try_again(&error) => {}
                    Poll::Ready(Err(_)) => self.stage = Stage::ReadingOn,
                    Poll::Ready(Ok(())) => self.is_unflushed = false,
                }
            } else {
                match self.stage {
                    Stage::Sending => {
                        batches += 1;
                        if batches > BATCHES_PER_POLL || !self.next_batch()? {
                            break;
                        }
                    }
                    Stage::ReadingOn => break,
                    Stage::Finishing => self.stage = Stage::ShuttingDown,
                    Stage::ShuttingDown if self.tools.is_socket => return Ok(Step::End(LinkEnd::Closed)),
                    Stage::ShuttingDown => match Pin::new(&mut self.session).poll_shutdown(cx) {
                        Poll::Pending => break,
                        Poll::Ready(_) => return Ok(Step::End(LinkEnd::Closed)),
                    },
                }
            }
        }
        Ok(Step::Wait)
    }

    /// The stream has taken bytes.
    fn wrote(&mut self, len: usize) {
        self.wire.advance(len);
        self.is_unflushed = !self.tools.is_socket;
        if self.stage == Stage::Sending {
            self.unreported += len;
            self.ack_poll = AckPoll::new();
        }
    }

    /// Takes the next messages and encodes them. Returns whether there are any.
    fn next_batch(&mut self) -> io::Result<bool> {
        let now = self.tools.shared.now();
        let mut batch = std::mem::take(&mut self.batch);
        self.change(|state| state.store.take(now, &mut batch));
        if batch.is_empty() {
            return Ok(false);
        }
        let outcome = self.tools.codec.encode(&mut batch, &mut self.wire, &mut self.refused);
        let mut refused = std::mem::take(&mut self.refused);
        self.change(|state| {
            batch.drain(..).for_each(|run| state.store.encoded(run));
            refused.drain(..).for_each(|(number, reason)| state.store.refused(number, reason));
        });
        batch.shrink_to(KEPT_RUNS);
        (self.batch, self.refused) = (batch, refused);
        outcome.map(|()| true)
    }

    /// Changes the state, after it knows all that was written and what of it is acknowledged.
    fn change<T>(&mut self, change: impl FnOnce(&mut State) -> T) -> T {
        let unreported = std::mem::take(&mut self.unreported);
        let is_flushed = !self.is_unflushed;
        let now = self.tools.shared.now();
        // Asked before the lock is taken: a system call.
        let missing = if unreported > 0 { self.session.unacknowledged() } else { None };
        self.tools.shared.change(|state| {
            if unreported > 0 {
                state.store.wrote(unreported);
            }
            if is_flushed {
                state.store.flushed(now);
            }
            if let Some(missing) = missing {
                state.store.acknowledged(missing);
            }
            change(state)
        })
    }

    // ===== sleeping =====

    /// Looks whether anything is left to do. If not, the next message wakes the task.
    fn prepare_to_sleep(&mut self, cx: &Context<'_>) -> io::Result<Sleep> {
        let time = self.tools.shared.now();
        let now = Instant::now();
        self.ask_kernel(now);
        let is_idle = self.stage == Stage::Sending && self.wire.is_empty() && !self.is_unflushed;
        let waker = cx.waker().clone();
        let look = self.change(|state| {
            state.store.expire(time);
            state.wants_messages = is_idle && state.store.wants_messages();
            state.task = Some(waker);
            Look {
                phase: state.phase.clone(),
                is_empty: state.store.oldest_waiting().is_none(),
                can_take: is_idle && state.store.can_take(time),
                awaits: state.store.awaits_acknowledgement(),
                deadlines: state.store.deadlines(time),
                report: (state.store.tally(), state.store.take_rejections()),
            }
        });
        let report = self.tools.reporter.report(look.report.0, look.report.1);
        let close = match look.phase {
            Phase::Open => None,
            Phase::Closing(Some(deadline)) if now >= deadline => return Ok(Sleep::End(LinkEnd::Closed)),
            Phase::Closing(_) if look.is_empty && is_idle => {
                self.stage = Stage::Finishing;
                self.tools.codec.finish(&mut self.wire);
                return Ok(Sleep::No);
            }
            Phase::Closing(deadline) => deadline,
            Phase::Ended(_) => return Ok(Sleep::End(LinkEnd::Closed)),
        };
        if look.can_take {
            return Ok(Sleep::No);
        }
        if look.deadlines.answer.is_some_and(|deadline| deadline <= time) && self.stage == Stage::Sending {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer has not answered the oldest message within the answer timeout",
            ));
        }
        let ask_at = if look.awaits { Some(self.ack_poll.due(now)) } else { None };
        let shared = &self.tools.shared;
        let moment = |time: Option<Duration>| time.and_then(|time| shared.moment(time));
        let pace = if is_idle { moment(look.deadlines.pace) } else { None };
        let answer = if self.stage == Stage::Sending { moment(look.deadlines.answer) } else { None };
        let deadlines = [report, close, ask_at, moment(look.deadlines.expiry), answer, pace];
        Ok(Sleep::Until(deadlines.into_iter().fold(None, earlier)))
    }

    /// Asks the kernel what the peer's kernel has acknowledged, if it is time to.
    fn ask_kernel(&mut self, now: Instant) {
        if !self.ack_poll.take(now) {
            return;
        }
        if let Some(missing) = self.session.unacknowledged() {
            let written = self.change(|state| {
                let before = state.store.tally().written;
                state.store.acknowledged(missing);
                state.store.tally().written - before
            });
            self.ack_poll.answered(written > 0);
        }
    }
}

/// Breaks a link for this reason, which is the peer's fault or that of the program's code.
fn fail<S>(session: &Session<S>, error: io::Error) -> LinkEnd {
    // The connection's logger reports the first cause of a break. If the peer has closed meanwhile, this is the second.
    if let Some(error) = session.fail(error) {
        warn(format_args!("the link of an outbox would have been broken, and has ended: {error}"));
    }
    LinkEnd::Broken
}
