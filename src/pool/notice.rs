//! Word of the pool's end, for those who dial.
//!
//! (Each has a channel of his own, as a waker is the program's own code: if one panics, the others are told all the same.)

use std::panic::{AssertUnwindSafe, catch_unwind};

use slab::Slab;
use tokio::sync::oneshot;

use super::shared::Shared;
use crate::hooks::panic_message;

/// Those who are to be told.
#[derive(Default)]
pub(super) struct Notices(Slab<oneshot::Sender<()>>);

/// One who is to be told.
pub(super) struct Notice<'a> {
    shared: &'a Shared,
    place: usize,
    closed: oneshot::Receiver<()>,
}

impl<'a> Notice<'a> {
    /// `None`: the pool is closed.
    pub(super) fn begin(shared: &'a Shared) -> Option<Self> {
        let (tell, closed) = oneshot::channel();
        let mut state = shared.lock();
        if shared.board.is_closed() {
            return None;
        }
        let place = state.notices.0.insert(tell);
        Some(Self { shared, place, closed })
    }

    /// Waits until the pool is closed.
    pub(super) async fn closed(&mut self) {
        // (The sender is never used, but dropped.)
        let _ = (&mut self.closed).await;
    }
}

impl Drop for Notice<'_> {
    fn drop(&mut self) {
        // A sender whose receiver listens no more wakes nobody. (It is dropped where the lock is not held.)
        self.closed.close();
        let _tell = self.shared.lock().notices.0.try_remove(self.place);
    }
}

impl Notices {
    pub(super) fn tell_all(self) {
        for (_, tell) in self.0 {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(tell))) {
                panic_message(panic);
            }
        }
    }
}
