//! The settings that the registry and the streams need, as the builder has checked them.
//!
//! Next: [`super::registry`], which keeps them.

use std::time::Duration;

use super::Overflow;
use super::hooks::Hooks;
use super::time_budget::TimeBudget;

/// The checked settings of an acceptor; [`super::AcceptorBuilder`] documents each.
pub(super) struct Settings {
    pub(super) acceptors: usize,
    pub(super) overflow: Overflow,
    pub(super) first_byte_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) min_rate: Option<u32>,
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
