//! The signal that ends all dials when their pool is closed.
//!
//! Each dial has a channel of its own, so that a waker that panics does not keep the signal from the others.
//!
//! Next: [`dial`](super::dial_attempt::dial), which listens.

use slab::Slab;

use crate::panics::ignore;
use crate::sync::modelled::{Mutex, oneshot};

/// The sending side, one for each pool. `None`: the signal was sent.
pub(super) struct CloseSignal(Mutex<Option<Slab<oneshot::Sender<()>>>>);

/// The receiving side, one for each dial.
pub(super) struct CloseListener<'a> {
    /// Where the sender is removed when the dial has ended.
    signal: &'a CloseSignal,
    /// The sender's key in the slab.
    id: usize,
    /// Ends with an error when the pool drops the sender: that is the signal.
    receiver: oneshot::Receiver<()>,
}

impl Default for CloseSignal {
    fn default() -> Self {
        Self(Mutex::new(Some(Slab::new())))
    }
}

impl CloseSignal {
    /// Adds a listener. `None`: the signal was sent.
    pub(super) fn listen(&self) -> Option<CloseListener<'_>> {
        let (sender, receiver) = oneshot::channel();
        let id = self.0.lock().as_mut()?.insert(sender);
        Some(CloseListener { signal: self, id, receiver })
    }

    /// Sends the signal to all listeners. From now on, there are no new ones.
    pub(super) fn send(&self) {
        let senders = self.0.lock().take(); // rule: signal-is-final
        for (_, sender) in senders.into_iter().flatten() {
            // This wakes the dial.
            ignore(|| drop(sender));
        }
    }
}

impl CloseListener<'_> {
    /// Waits for the signal.
    pub(super) async fn received(&mut self) {
        // Nothing is ever sent: the sender is dropped, which is an error here.
        let _ = (&mut self.receiver).await;
    }
}

impl Drop for CloseListener<'_> {
    fn drop(&mut self) {
        // Closed first, so that the drop of the sender wakes nobody. The sender is dropped after the lock is released.
        self.receiver.close();
        let _sender = self.signal.0.lock().as_mut().and_then(|senders| senders.try_remove(self.id));
    }
}
