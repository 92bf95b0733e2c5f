//! The writing half, as all handles of a blocking connection share it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime;

use super::deadline::Deadline;
use super::guard::enter_for;
use super::news::{News, attempt};
use super::parts::rest_of;
use crate::WriteHalf;
use crate::sync::Mutex;

pub(super) struct Writing<S> {
    /// Locked for one attempt at a time, never while somebody waits.
    seat: Mutex<Seat<S>>,
    news: Arc<News>,
    waker: Waker,
    runtime: runtime::Handle,
}

pub(super) struct Seat<S> {
    pub(super) half: WriteHalf<S>,
    /// A thread has written a part of its bytes and waits for room for the rest. Nobody else writes meanwhile.
    is_mid_write: bool,
    /// How many threads have waited for their turn in vain once. Who comes new gives way to them.
    insisting: usize,
}

impl<S> Seat<S> {
    /// (A break that is still to be told is not the outage yet.)
    fn look_for_a_link(&self, deadline: &mut Deadline<'_>) {
        deadline.is_for_a_link(|| !self.half.is_connected() && self.half.generation() == self.half.last_reported());
    }
}

/// What a handle remembers of its writes.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) last_reported: &'a AtomicU64,
    /// Not 0 if the last write took only a part of the bytes: 1 more than the newest break told to the half at that time.
    /// The rest belongs to that link only.
    pub(super) rest: &'a AtomicU64,
}

impl<S> Writing<S> {
    pub(super) fn new(half: WriteHalf<S>, runtime: runtime::Handle) -> Self {
        let (news, waker) = News::new();
        Self { seat: Mutex::new(Seat { half, is_mid_write: false, insisting: 0 }), news, waker, runtime }
    }

    pub(super) fn seat(&self) -> MutexGuard<'_, Seat<S>> {
        // An attempt that panicked (in a stream that is not a socket) leaves a sound half.
        self.seat.lock()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Writing<S> {
    /// Writes all of `parts`, in one piece, as far as the link and the time allow.
    pub(super) fn write(
        &self,
        parts: &[IoSlice<'_>],
        memory: &Told<'_>,
        mut deadline: Deadline<'_>,
    ) -> io::Result<usize> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut known = memory.last_reported.load(Ordering::SeqCst);
        if let Some(rest) = memory.rest.load(Ordering::SeqCst).checked_sub(1) {
            known = known.min(rest);
        }
        let mut turn = Turn { writing: self, is_mid_write: false, insists: false };
        let mut done = 0;
        // What the half had been told of when it took the last part.
        let mut half_told = 0;
        let stop = loop {
            let seen = self.news.count();
            let mut seat = self.seat();
            if turn.is_free(&seat) {
                let outcome = self.attempt(&mut seat, known, |half, cx| match parts {
                    [part] => half.poll_write(cx, &part[done..]),
                    parts if done == 0 => half.poll_write_vectored(cx, parts),
                    parts => half.poll_write(cx, rest_of(parts, done)),
                });
                match outcome {
                    Poll::Ready(Ok(written)) => {
                        done += written;
                        if done == length {
                            memory.rest.store(0, Ordering::SeqCst);
                            return Ok(done);
                        }
                        half_told = seat.half.last_reported();
                        turn.begin(&mut seat);
                        continue;
                    }
                    Poll::Ready(Err(last_reported)) => break last_reported,
                    Poll::Pending => seat.look_for_a_link(&mut deadline),
                }
            } else {
                turn.insist(&mut seat);
                deadline.is_for_a_link(|| false);
            }
            drop(seat);
            if let Err(error) = self.news.wait(seen, &mut deadline) {
                break Stop { generation: None, error };
            }
        };
        if done > 0 {
            // The break, if it is one, is told to the write of the rest.
            memory.rest.store(half_told + 1, Ordering::SeqCst);
            return Ok(done);
        }
        if let Some(generation) = stop.generation {
            memory.last_reported.fetch_max(generation, Ordering::SeqCst);
            memory.rest.store(0, Ordering::SeqCst);
        }
        Err(stop.error)
    }

    /// Waits until what was written has left this process.
    pub(super) fn flush(&self, memory: &Told<'_>, mut deadline: Deadline<'_>) -> io::Result<()> {
        let known = memory.last_reported.load(Ordering::SeqCst);
        loop {
            let seen = self.news.count();
            // (Of its own statement, so that the lock is free during the wait.)
            let outcome = self.attempt(&mut self.seat(), known, |half, cx| half.poll_flush(cx));
            match outcome {
                Poll::Ready(Ok(())) => return Ok(()),
                Poll::Ready(Err(stop)) => {
                    memory.last_reported.fetch_max(stop.generation.unwrap_or(0), Ordering::SeqCst);
                    return Err(stop.error);
                }
                Poll::Pending => self.news.wait(seen, &mut deadline)?,
            }
        }
    }

    /// Ends the conversation; a write that waits in another thread fails.
    pub(super) fn shutdown(&self, memory: &Told<'_>, mut deadline: Deadline<'_>) -> io::Result<()> {
        let known = memory.last_reported.load(Ordering::SeqCst);
        memory.rest.store(0, Ordering::SeqCst);
        loop {
            let seen = self.news.count();
            let mut seat = self.seat();
            let before = seat.half.last_reported();
            let outcome = self.poll(&mut seat, |half, cx| half.poll_shutdown(cx));
            let after = seat.half.last_reported();
            drop(seat);
            if let Poll::Ready(outcome) = outcome {
                self.news.tell();
                if before == after {
                    return outcome;
                }
                memory.last_reported.fetch_max(after, Ordering::SeqCst);
                // Of a break that this handle knows of, it is not told again.
                return if after <= known { Ok(()) } else { outcome };
            }
            self.news.wait(seen, &mut deadline)?;
        }
    }

    /// Tries once, for a handle that knows of all breaks up to `known`.
    #[inline]
    fn attempt<T>(
        &self,
        seat: &mut Seat<S>,
        known: u64,
        mut poll: impl FnMut(Pin<&mut WriteHalf<S>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<Result<T, Stop>> {
        loop {
            let before = seat.half.last_reported();
            if before > known && !seat.half.is_closed() {
                // Another handle was told.
                let (generation, error) = seat.half.report_again(known);
                return Poll::Ready(Err(Stop { generation: Some(generation), error }));
            }
            let outcome = self.poll(seat, &mut poll);
            let after = seat.half.last_reported();
            match outcome {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(value)) => return Poll::Ready(Ok(value)),
                // The handle was told of this one by a read.
                Poll::Ready(Err(_)) if before < after && after <= known => {}
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(Stop { generation: (before < after).then_some(after), error }));
                }
            }
        }
    }

    #[inline]
    fn poll<T>(
        &self,
        seat: &mut Seat<S>,
        mut poll: impl FnMut(Pin<&mut WriteHalf<S>>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let _guard = enter_for::<S>(&self.runtime);
        attempt(&self.waker, |cx| poll(Pin::new(&mut seat.half), cx))
    }
}

/// Why a write ends, and the break that it tells.
struct Stop {
    generation: Option<u64>,
    error: io::Error,
}

/// One call's place among those that write at the same time.
struct Turn<'a, S> {
    writing: &'a Writing<S>,
    is_mid_write: bool,
    insists: bool,
}

impl<S> Turn<'_, S> {
    #[inline]
    fn is_free(&self, seat: &Seat<S>) -> bool {
        self.is_mid_write || (!seat.is_mid_write && (self.insists || seat.insisting == 0))
    }

    /// A part is written: the rest comes next.
    fn begin(&mut self, seat: &mut Seat<S>) {
        self.is_mid_write = true;
        seat.is_mid_write = true;
    }

    fn insist(&mut self, seat: &mut Seat<S>) {
        if !self.insists {
            self.insists = true;
            seat.insisting += 1;
        }
    }
}

impl<S> Drop for Turn<'_, S> {
    #[inline]
    fn drop(&mut self) {
        if self.is_mid_write || self.insists {
            let mut seat = self.writing.seat();
            seat.is_mid_write &= !self.is_mid_write;
            seat.insisting -= usize::from(self.insists);
            drop(seat);
            self.writing.news.tell();
        }
    }
}
