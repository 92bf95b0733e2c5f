//! The order in which calls write that are made at the same time.
//!
//! The bytes of one call stand on the link in one piece. So a call that has written a part keeps the others waiting,
//! and calls that have waited go before new ones.
//!
//! Next: [`writing`](super::writing), which asks here before it writes.

use super::shared_half::SharedHalf;
use crate::WriteHalf;

/// The write half, and who may write.
pub(super) struct WriteState<S> {
    /// Written to only by a call whose claim allows it.
    pub(super) half: WriteHalf<S>,
    /// A call has written a part of its bytes and waits for room for the rest. No other call may write.
    is_mid_write: bool,
    /// How many calls wait for others to finish. A call that has not waited lets them go first.
    waiting_calls: usize,
}

impl<S> WriteState<S> {
    /// A half on which no call is writing or waiting.
    pub(super) fn new(half: WriteHalf<S>) -> Self {
        Self { half, is_mid_write: false, waiting_calls: 0 }
    }
}

/// One call's part in the [`WriteState`], given back when the call ends.
pub(super) struct WriteClaim<'a, S> {
    /// Where the claim is given back, and the other calls are woken.
    shared: &'a SharedHalf<WriteState<S>>,
    /// This call is the one in the middle of its bytes.
    is_mid_write: bool,
    /// This call is counted among those that wait.
    is_waiting: bool,
}

impl<'a, S> WriteClaim<'a, S> {
    /// A claim that has asked for nothing yet, so that dropping it takes no lock.
    #[inline]
    pub(super) fn new(shared: &'a SharedHalf<WriteState<S>>) -> Self {
        Self { shared, is_mid_write: false, is_waiting: false }
    }

    /// Whether this call may write now.
    #[inline]
    pub(super) fn may_write(&self, state: &WriteState<S>) -> bool {
        self.is_mid_write || (!state.is_mid_write && (self.is_waiting || state.waiting_calls == 0))
    }

    /// Notes that a part is written: this call's rest comes next on the link.
    pub(super) fn set_mid_write(&mut self, state: &mut WriteState<S>) {
        self.is_mid_write = true;
        state.is_mid_write = true;
    }

    /// Notes that this call waits for another one: from now on it goes before new ones.
    pub(super) fn set_waiting(&mut self, state: &mut WriteState<S>) {
        if !self.is_waiting {
            self.is_waiting = true;
            state.waiting_calls += 1;
        }
    }
}

impl<S> Drop for WriteClaim<'_, S> {
    #[inline]
    fn drop(&mut self) {
        if self.is_mid_write || self.is_waiting {
            let mut state = self.shared.lock();
            state.is_mid_write &= !self.is_mid_write;
            state.waiting_calls -= usize::from(self.is_waiting);
            drop(state);
            self.shared.wakes.wake_all();
        }
    }
}
