//! What other tasks may do with a listener.

use super::Error;
use crate::Status;

/// A handle on a [`Listener`](super::Listener) for other tasks; made by [`Listener::handle`](super::Listener::handle).
///
/// It does not keep the listener alive: when that is dropped, calls fail with [`Error::Closed`].
#[derive(Clone, Debug)]
pub struct ListenerHandle {}

impl ListenerHandle {
    /// Listens to a channel; see [`Listener::listen`](super::Listener::listen).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn listen(&self, channel: &str) -> Result<(), Error> {
        let _ = channel;
        todo!()
    }

    /// Stops listening to a channel; see [`Listener::unlisten`](super::Listener::unlisten).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn unlisten(&self, channel: &str) -> Result<(), Error> {
        let _ = channel;
        todo!()
    }

    /// Stops listening to all channels; see [`Listener::unlisten_all`](super::Listener::unlisten_all).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        todo!()
    }

    /// The channels that are listened to, in alphabetical order; those too that the server has not acknowledged yet.
    pub fn channels(&self) -> Vec<String> {
        todo!()
    }

    /// Asks the server whether it is there; see [`Listener::ping`](super::Listener::ping).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn ping(&self) -> Result<(), Error> {
        todo!()
    }

    /// Closes the listener; see [`Listener::close`](super::Listener::close).
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn close(&self) {
        todo!()
    }

    /// The number of the newest connection: 1 for the first, 0 before there is one.
    pub fn generation(&self) -> u64 {
        todo!()
    }

    /// Whether there is a connection, as far as this machine knows.
    pub fn is_connected(&self) -> bool {
        todo!()
    }

    /// The state of the listener at this moment.
    pub fn status(&self) -> Status {
        todo!()
    }
}
