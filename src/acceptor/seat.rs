//! What is known of one connection: what is under way on it, who waits, and how it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use tokio::time::Instant;

use super::{EndReason, Peer};
use crate::sync::Mutex;

pub(super) struct Seat {
    pub(super) id: u64,
    pub(super) peer: Peer,
    pub(super) since: Instant,
    pub(super) bytes_read: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    flags: AtomicU16,
    parked: Mutex<[Option<Waker>; 3]>,
    reason: Mutex<Option<EndReason>>,
}

/// Who waits on a seat.
#[derive(Clone, Copy)]
pub(super) enum Who {
    Reader,
    Writer,
    Handler,
}

/// The acceptor stops: if nothing is under way, the connection ends.
pub(super) const DRAINED: u16 = 1;
/// The connection ends at once.
pub(super) const CUT: u16 = 2;
/// Something has come that is not answered.
pub(super) const BUSY: u16 = 4;
/// What has come is done with. (For the stream, which takes it as a sign that its patience is back.)
pub(super) const DONE: u16 = 8;
/// A read took too long, and nothing has come since.
pub(super) const TIMED_OUT: u16 = 16;
/// When the stop came, nothing was under way.
pub(super) const WAS_IDLE: u16 = 32;
/// A write waits, or has waited and was given up.
pub(super) const WRITING: u16 = 64;
/// The acceptor has cut the connection.
pub(super) const ABORTED: u16 = 128;
/// A write took too long, and the peer has taken nothing since.
pub(super) const STUCK: u16 = 256;

impl Seat {
    pub(super) fn new(id: u64, peer: Peer) -> Self {
        Self {
            id,
            peer,
            since: Instant::now(),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            flags: AtomicU16::new(0),
            parked: Mutex::new([None, None, None]),
            reason: Mutex::new(None),
        }
    }

    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags.load(Ordering::SeqCst) & flag != 0
    }

    /// Whether it was not set before.
    pub(super) fn set(&self, flag: u16) -> bool {
        self.flags.fetch_or(flag, Ordering::SeqCst) & flag == 0
    }

    /// Whether it was set before.
    pub(super) fn clear(&self, flag: u16) -> bool {
        self.has(flag) && self.flags.fetch_and(!flag, Ordering::SeqCst) & flag != 0
    }

    /// What was received is done with.
    pub(super) fn is_done(&self) {
        self.clear(BUSY);
        self.set(DONE);
        if self.has(DRAINED) {
            // A read of another task may have waited for this.
            self.call(DRAINED);
        }
    }

    /// Sets a flag and wakes everyone who waits.
    pub(super) fn call(&self, flag: u16) {
        self.set(flag);
        // A waiter that is not seen here looks at the flags after this.
        self.wake_all();
    }

    /// Wakes everyone who waits.
    pub(super) fn wake_all(&self) {
        let parked = std::mem::take(&mut *self.parked.lock());
        parked.into_iter().flatten().for_each(Waker::wake);
    }

    /// The task is woken by the next call. The flags have to be looked at after this.
    pub(super) fn park(&self, who: Who, cx: &Context<'_>) {
        let mut parked = self.parked.lock();
        let waker = &mut parked[who as usize];
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// How the handler ended; without that, its task was dropped by its runtime.
    pub(super) fn take_end(&self) -> EndReason {
        self.reason.lock().take().unwrap_or(EndReason::Cut)
    }

    pub(super) fn ended(&self, reason: EndReason) {
        *self.reason.lock() = Some(reason);
    }
}

/// For what more than one task may wait for.
impl Wake for Seat {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}
