//! An open connection of a pool, with the times that limit its use.
//!
//! Next: [`health`], the part of the check that asks the kernel.

use tokio::time::Instant;

use super::{CloseReason, PoolBuilder, health};
use crate::panics::catch;

/// An open connection, in the hands of one caller or idle.
pub(super) struct Connection<T> {
    /// The socket, stream or other value that is lent.
    pub(super) value: T,
    /// The end of its dial, from which its age counts.
    pub(super) opened: Instant,
    /// Since when it has been idle, if the pool limits that.
    pub(super) idle_since: Option<Instant>,
    /// No caller has had it yet.
    pub(super) is_new: bool,
}

impl<T: 'static> Connection<T> {
    /// A connection that a caller has just opened.
    pub(super) fn new(value: T, opened: Instant) -> Self {
        Self { value, opened, idle_since: None, is_new: true }
    }

    /// Whether it is older than a pool with these settings allows.
    pub(super) fn is_aged(&self, settings: &PoolBuilder) -> bool {
        settings.max_age.is_some_and(|limit| self.opened.elapsed() > limit)
    }

    /// Checks an idle connection before it is lent. Returns why it has to be closed instead.
    ///
    /// `is_quiet` is asked if the connection is not a socket.
    #[inline]
    pub(super) fn check(&mut self, settings: &PoolBuilder, is_quiet: fn(&mut T) -> bool) -> Option<CloseReason> {
        if self.is_aged(settings) {
            return Some(CloseReason::Aged);
        }
        if let (Some(limit), Some(since)) = (settings.idle_timeout, self.idle_since) {
            if since.elapsed() > limit {
                return Some(CloseReason::Idle);
            }
        }
        // The function of a dialer is the program's own code: if it panics, the connection is of no use.
        let is_quiet =
            health::is_quiet(&self.value).unwrap_or_else(|| catch(|| is_quiet(&mut self.value)).unwrap_or(false));
        if is_quiet { None } else { Some(CloseReason::Dead) }
    }
}
