//! One direction of a handle, and the operation that is under way in it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, RawWakerVTable, Waker, ready};
use std::time::Duration;

use tokio::runtime;

use super::idle_timeout::IdleTimer;
use super::timer::{Timer, now};
use crate::conn_state::{ConnState, Direction};
use crate::link::LastLook;

/// How long a stream that is not a socket, but has lost one beneath it, may take to come to its end.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// One direction of a handle.
pub(super) struct DirectionState {
    pub(super) direction: Direction,
    /// Whose waker the conn_state keeps for this direction.
    caller: Option<Caller>,
    /// The link on which an operation waits, 0 if none does.
    waits_on: u64,
    /// The link on which a write has written a part of its bytes, 0 if none has: the rest belongs to that link only.
    half_written_on: u64,
    /// The broken link for whose last bytes a read has given the runtime a turn.
    turn_given: u64,
    /// Runs while a read waits for the end of a stream whose link has broken; and which link.
    last_words: Option<Box<(u64, Timer)>>,
    /// Runs while an operation waits for a link.
    patience: Option<Patience>,
    /// It waits for a link, whatever the program's policy.
    pub(super) is_patient: bool,
    /// Runs while a read waits for bytes, if there is an idle timeout.
    silence: Option<Box<IdleTimer>>,
    /// When a write last asked the kernel whether the peer has closed.
    pub(super) last_look: LastLook,
}

/// The end of a wait.
struct Patience {
    /// Which outage it belongs to: the generation that was told last when it began.
    last_reported: u64,
    timer: Timer,
}

/// A task, known by its waker.
///
/// [`Waker::will_wake`] alone would not do: the waker that `block_on` polls with and its clone may differ in the address of
/// their table of functions, and each wait would look like another task's.
struct Caller {
    /// Keeps what the waker points to, so that nothing else gets its address.
    waker: Waker,
    /// The table of the waker that was lent, not of the clone.
    table: &'static RawWakerVTable,
}

impl Caller {
    fn new(waker: &Waker) -> Self {
        Self { waker: waker.clone(), table: waker.vtable() }
    }

    #[inline]
    fn is(&self, waker: &Waker) -> bool {
        self.waker.data() == waker.data() && std::ptr::eq(self.table, waker.vtable())
    }
}

impl DirectionState {
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            caller: None,
            waits_on: 0,
            half_written_on: 0,
            turn_given: 0,
            last_words: None,
            patience: None,
            is_patient: false,
            silence: None,
            last_look: LastLook::default(),
        }
    }

    /// The operation that waited is done.
    #[inline]
    pub(super) fn finish(&mut self) {
        self.waits_on = 0;
    }

    /// A write is done; the caller may have a rest to write on the same link.
    #[inline]
    pub(super) fn finish_write(&mut self, generation: u64, has_rest: bool) {
        self.waits_on = 0;
        self.half_written_on = if has_rest { generation } else { 0 };
    }

    /// A read has received something.
    #[inline]
    pub(super) fn finish_read(&mut self) {
        self.waits_on = 0;
        if let Some(silence) = &mut self.silence {
            silence.end();
        }
    }

    /// Nothing is under way any more.
    pub(super) fn forget(&mut self) {
        self.waits_on = 0;
        self.half_written_on = 0;
    }

    /// Nothing is under way any more, and there is no link to wait for the end of.
    #[cfg(feature = "session")]
    pub(super) fn forget_link(&mut self) {
        self.forget();
        self.last_words = None;
    }

    /// A read waits for bytes. Ready when none have come for `limit`.
    pub(super) fn poll_silence(
        &mut self,
        cx: &mut Context<'_>,
        generation: u64,
        limit: Duration,
        runtime: &runtime::Handle,
    ) -> Poll<()> {
        self.silence.get_or_insert_default().poll(cx, generation, limit, runtime)
    }

    /// The link whose break the operation under way has to be told of, though the handle has been told.
    #[inline]
    pub(super) fn owes(&self, last_reported: u64) -> Option<u64> {
        [self.half_written_on, self.waits_on].into_iter().find(|link| (1..=last_reported).contains(link))
    }

    /// Prepares to wait for a stream: from now on, a break of its link wakes this task as well.
    #[inline]
    pub(super) fn wait<S>(&mut self, generation: u64, conn_state: &ConnState<S>, cx: &Context<'_>) {
        self.waits_on = generation;
        self.patience = None;
        if self.caller.as_ref().is_none_or(|caller| !caller.is(cx.waker())) {
            conn_state.register(self.direction, cx.waker());
            self.is_registered(cx);
        }
    }

    /// The conn_state has stored this task's waker.
    pub(super) fn is_registered(&mut self, cx: &Context<'_>) {
        self.caller = Some(Caller::new(cx.waker()));
    }

    /// Lets the runtime look at its sockets, once for each broken link.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>, generation: u64) -> Poll<()> {
        if std::mem::replace(&mut self.turn_given, generation) == generation {
            return Poll::Ready(());
        }
        // Polled once and dropped: it has arranged for this task to be polled again after the sockets.
        pin!(tokio::task::yield_now()).poll(cx)
    }

    /// Waits until a stream that is about to end has said so, for a time that only a strange one needs.
    pub(super) fn poll_last_words(
        &mut self,
        cx: &mut Context<'_>,
        generation: u64,
        runtime: &runtime::Handle,
    ) -> Poll<()> {
        let current = self.last_words.take().filter(|wait| wait.0 == generation);
        let begin = || Box::new((generation, Timer::new(now(runtime) + LAST_WORDS_LIMIT, runtime)));
        let wait = self.last_words.insert(current.unwrap_or_else(begin));
        ready!(wait.1.poll(cx));
        self.last_words = None;
        Poll::Ready(())
    }

    /// The wait for a link is over.
    pub(super) fn end_patience(&mut self) {
        self.patience = None;
    }

    /// Waits for `limit`, counted from the first wait of this outage.
    pub(super) fn poll_patience(
        &mut self,
        cx: &mut Context<'_>,
        last_reported: u64,
        limit: Duration,
        runtime: &runtime::Handle,
    ) -> Poll<()> {
        let current = self.patience.take().filter(|patience| patience.last_reported == last_reported);
        // A limit beyond all times is none.
        let Some(deadline) = now(runtime).checked_add(limit) else { return Poll::Pending };
        let patience = self
            .patience
            .insert(current.unwrap_or_else(|| Patience { last_reported, timer: Timer::new(deadline, runtime) }));
        ready!(patience.timer.poll(cx));
        self.patience = None;
        Poll::Ready(())
    }
}
