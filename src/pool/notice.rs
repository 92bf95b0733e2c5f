//! Word of the pool's end, for those who dial.
//!
//! (Each dial has a channel of its own: if one waker panics, the others are told all the same.)

use std::sync::MutexGuard;

use slab::Slab;
use tokio::sync::oneshot;

use crate::panics::ignore;
use crate::sync::Mutex;

/// The dials that are to be told. `None`: the pool is closed.
pub(super) struct Notices(Mutex<Option<Slab<oneshot::Sender<()>>>>);

/// One dial that is to be told.
pub(super) struct Notice<'a> {
    notices: &'a Notices,
    place: usize,
    closed: oneshot::Receiver<()>,
}

impl Default for Notices {
    fn default() -> Self {
        Self(Mutex::new(Some(Slab::new())))
    }
}

impl Notices {
    fn lock(&self) -> MutexGuard<'_, Option<Slab<oneshot::Sender<()>>>> {
        self.0.lock()
    }

    /// `None`: the pool is closed.
    pub(super) fn begin(&self) -> Option<Notice<'_>> {
        let (tell, closed) = oneshot::channel();
        let place = self.lock().as_mut()?.insert(tell);
        Some(Notice { notices: self, place, closed })
    }

    pub(super) fn close(&self) {
        let dialing = self.lock().take();
        for (_, tell) in dialing.into_iter().flatten() {
            ignore(|| drop(tell));
        }
    }
}

impl Notice<'_> {
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
        let _tell = self.notices.lock().as_mut().and_then(|dialing| dialing.try_remove(self.place));
    }
}
