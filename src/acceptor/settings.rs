//! What an acceptor was built with.

use std::time::Duration;

use super::Overflow;
use super::hooks::Hooks;
use super::patience::Patience;

pub(super) struct Settings {
    pub(super) acceptors: usize,
    pub(super) overflow: Overflow,
    pub(super) first_byte_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) min_rate: Option<u32>,
    pub(super) hooks: Hooks,
}

impl Settings {
    /// For reads and for writes.
    pub(super) fn patience(&self, writes_are_answers: bool) -> (Patience, Patience) {
        let per_byte = match self.min_rate {
            Some(rate) => Duration::from_secs(1) / rate,
            None => Duration::MAX,
        };
        // If a whole line is waited for, its bytes are worth nothing.
        let per_byte_read = if writes_are_answers { per_byte } else { Duration::ZERO };
        (
            Patience::new(self.first_byte_timeout, self.idle_timeout, per_byte_read),
            Patience::new(None, self.idle_timeout, per_byte),
        )
    }
}
