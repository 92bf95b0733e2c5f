//! One direction of a handle, and the operation under way in it.
//!
//! Next: [`poll`](super::poll), the operations that use it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, RawWakerVTable, Waker};

use super::idle_timeout::IdleTimer;
use super::timer::GenerationTimeout;
use crate::conn_state::{ConnState, Direction};
use crate::link::LastCheck;

/// The state of one direction of a handle.
///
/// A whole `Conn` has two of them, a half has one. It ties the operation under way to the link on which it began, so
/// that the operation reports that link's break even if the other direction has reported it before.
pub(super) struct DirectionState {
    /// Which of the two it is: the [`ConnState`] keeps a waker for each.
    pub(super) direction: Direction,
    /// The task whose waker the [`ConnState`] stores for this direction.
    registered: Option<RegisteredTask>,
    /// The link on which an operation waits, 0 if none does.
    pending_on: u64,
    /// The link on which the last write took only a part of its bytes, 0 if it took all. The rest belongs to that link.
    partial_write_on: u64,
    /// The broken link for which an operation has yielded to the runtime: a read to its remaining bytes, a write to a
    /// reader that knows the reason.
    yielded_for: u64,
    /// Runs while a read waits for the end of a broken link's stream.
    pub(super) stream_end_timeout: GenerationTimeout,
    /// Runs while an operation waits for a link, if the program limits that wait. Keyed by the generation reported
    /// last.
    pub(super) link_timeout: GenerationTimeout,
    /// Whether reads report the peer's close as an error, as the builder or the owner of this handle says.
    pub(super) close_as_error: bool,
    /// Whether it writes the jobs of a `SharedConn`. Then it waits for a link for any time, as the queue applies the
    /// program's `when_down`, and it waits until a link has settled.
    pub(super) is_for_jobs: bool,
    /// Runs while a read waits for bytes, if there is an idle timeout. On the heap, as most connections have none.
    pub(super) idle_timer: Option<Box<IdleTimer>>,
    /// When a write last asked the kernel whether the peer has closed.
    pub(super) last_check: LastCheck,
}

/// A task, identified by its waker.
///
/// [`Waker::will_wake`] alone would not do: the waker that `block_on` polls with and its clone may differ in the
/// address of their vtable. Then each wait would look like another task's.
struct RegisteredTask {
    /// Keeps alive what the waker points to, so that no other waker gets its address.
    waker: Waker,
    /// The vtable of the original waker, not of the clone.
    vtable: &'static RawWakerVTable,
}

impl RegisteredTask {
    /// Remembers the task of this waker.
    fn new(waker: &Waker) -> Self {
        Self { waker: waker.clone(), vtable: waker.vtable() }
    }

    /// Whether this waker is the remembered task's.
    #[inline]
    fn has_waker(&self, waker: &Waker) -> bool {
        self.waker.data() == waker.data() && std::ptr::eq(self.vtable, waker.vtable())
    }
}

impl DirectionState {
    /// A direction in which no operation has begun.
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            registered: None,
            pending_on: 0,
            partial_write_on: 0,
            yielded_for: 0,
            stream_end_timeout: GenerationTimeout::default(),
            link_timeout: GenerationTimeout::default(),
            close_as_error: false,
            is_for_jobs: false,
            idle_timer: None,
            last_check: LastCheck::default(),
        }
    }

    // ===== the operation under way =====

    /// The operation that waited has finished.
    #[inline]
    pub(super) fn finish(&mut self) {
        self.pending_on = 0;
    }

    /// A write has finished. If it took only a part, the caller may write the rest, on the same link only.
    #[inline]
    pub(super) fn finish_write(&mut self, generation: u64, has_rest: bool) {
        self.pending_on = 0;
        self.partial_write_on = if has_rest { generation } else { 0 }; // rule: rest-of-a-write-stays-on-its-link
    }

    /// A read has received something.
    #[inline]
    pub(super) fn finish_read(&mut self) {
        self.pending_on = 0;
        if let Some(idle_timer) = &mut self.idle_timer {
            idle_timer.reset();
        }
    }

    /// No operation is under way any more.
    pub(super) fn clear(&mut self) {
        self.pending_on = 0;
        self.partial_write_on = 0;
    }

    /// No operation is under way any more, and none waits for the end of a broken link.
    pub(super) fn clear_link(&mut self) {
        self.clear(); // rule: abandon-forgets-a-partial-write
        self.stream_end_timeout.stop();
    }

    /// The broken link on which an operation of this direction was under way, if the handle has reported that break
    /// already. The other direction of a whole `Conn` has reported it, and this operation must report it too.
    #[inline]
    pub(super) fn interrupted_link(&self, last_reported: u64) -> Option<u64> {
        [self.partial_write_on, self.pending_on].into_iter().find(|link| (1..=last_reported).contains(link))
    }

    // ===== waiting =====

    /// Prepares to wait for a stream: from now on, a break of its link wakes this task.
    ///
    /// Takes the lock of the [`ConnState`] only if another task waited here before. The caller must then check that the
    /// link is still live: it may have broken before the waker was stored.
    #[inline]
    pub(super) fn begin_wait<S>(&mut self, generation: u64, conn_state: &ConnState<S>, cx: &Context<'_>) {
        self.pending_on = generation; // rule: operation-stays-on-its-link
        self.link_timeout.stop();
        // rule: newest-task-is-woken
        if self.registered.as_ref().is_none_or(|registered| !registered.has_waker(cx.waker())) {
            conn_state.register(self.direction, cx.waker());
            self.note_registered(cx);
        }
    }

    /// Notes that the [`ConnState`] stores this task's waker.
    pub(super) fn note_registered(&mut self, cx: &Context<'_>) {
        self.registered = Some(RegisteredTask::new(cx.waker()));
    }

    /// Yields once for each broken link, so that the runtime looks at its sockets and its other tasks.
    pub(super) fn poll_yield_once(&mut self, cx: &mut Context<'_>, generation: u64) -> Poll<()> {
        if std::mem::replace(&mut self.yielded_for, generation) == generation {
            return Poll::Ready(());
        }
        // Polled once and dropped: this already schedules the task after the sockets.
        pin!(tokio::task::yield_now()).poll(cx)
    }
}
