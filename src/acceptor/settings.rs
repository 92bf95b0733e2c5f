//! The settings that the registry and the streams need, as the builder has checked them.
//!
//! Next: [`super::registry`], which keeps them.

use std::time::Duration;

use super::Overflow;
use super::hooks::Hooks;
use super::time_budget::TimeBudget;

/// The checked settings of an acceptor; [`super::AcceptorBuilder`] documents each.
pub(super) struct Settings {
    /// Slots that are always there; at least 1.
    pub(super) acceptors: usize,
    /// What happens when they are all taken. `Grow` has a maximum of at least `acceptors`.
    pub(super) overflow: Overflow,
    /// How long a read may wait for the first byte, or the first whole line. `None`: no limit. Never zero.
    pub(super) first_byte_timeout: Option<Duration>,
    /// How long a read or a write may wait for the client. `None`: no limit. Never zero.
    pub(super) idle_timeout: Option<Duration>,
    /// Bytes a second that keep a client within the idle timeout; at least 1. `None`: any byte starts it over.
    pub(super) min_rate: Option<u32>,
    /// Called by the accept loop and by the tasks of connections, never under a lock.
    pub(super) hooks: Hooks,
}

impl Settings {
    /// The budgets of a new connection, for reads and for writes.
    pub(super) fn time_budgets(&self, writes_are_answers: bool) -> (TimeBudget, TimeBudget) {
        let per_byte = match self.min_rate {
            Some(rate) => Duration::from_secs(1) / rate,
            None => Duration::MAX,
        };
        // A handler of lines waits for a whole line, so that its bytes earn nothing.
        let per_byte_read = if writes_are_answers { per_byte } else { Duration::ZERO };
        (
            TimeBudget::new(self.first_byte_timeout, self.idle_timeout, per_byte_read),
            TimeBudget::new(None, self.idle_timeout, per_byte),
        )
    }
}
