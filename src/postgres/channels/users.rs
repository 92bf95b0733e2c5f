//! Who wants a channel.
//!
//! Next: [`Channels`](super::Channels), which has one of these for each channel.

use super::ListenId;

/// A channel that the program wants.
pub(super) struct Subscription<W> {
    /// The `listen` that the server's `LISTEN` is for: that of the first user, unless it was refused.
    pub(super) id: ListenId,
    /// The calls that want the channel and were not taken back. Never empty.
    pub(super) users: Vec<User<W>>,
    /// The channel is part of each login: a server has acknowledged it, or it is to be tried at another host.
    pub(super) is_in_login: bool,
}

/// A `listen` that the program has not taken back.
pub(super) struct User<W> {
    /// The call.
    pub(super) id: ListenId,
    /// Who made it.
    pub(super) owner: Owner,
    /// The call that waits for the first acknowledgement. `None` after it.
    pub(super) waiter: Option<W>,
}

/// The users of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The reader of the listener: at most once for each channel.
    Listener,
    /// One receiver of its own, beside any number of others.
    Receiver,
}

impl<W> Subscription<W> {
    /// Whether the reader of the listener is one of its users.
    pub(super) fn has_listener(&self) -> bool {
        self.users.iter().any(|user| user.owner == Owner::Listener)
    }

    /// The calls that wait for the acknowledgement.
    pub(super) fn take_waiters(&mut self) -> impl Iterator<Item = W> {
        self.users.iter_mut().filter_map(|user| user.waiter.take())
    }
}

/// What an `unlisten` leads to. `cancelled` is the `listen` of another task that was still waiting.
pub(in crate::postgres) enum UnlistenOutcome<W> {
    /// The server will answer.
    Pending {
        /// `None` if the `listen` was acknowledged.
        cancelled: Option<W>,
    },
    /// There is no connection, so it is done.
    Done {
        /// The call of `unlisten` itself, given back to be acknowledged at once.
        waiter: W,
        /// `None` if the `listen` was acknowledged.
        cancelled: Option<W>,
    },
    /// The channel was not listened to.
    NotListening,
}
