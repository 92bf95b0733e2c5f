//! What an acceptor was built with.

use std::sync::Arc;
use std::time::Duration;

use super::guarded::Work;
use super::hooks::Hooks;
use super::patience::Patience;
use super::{Overflow, Peer, Stream};

pub(super) struct Settings {
    pub(super) acceptors: usize,
    pub(super) overflow: Overflow,
    pub(super) refusal: Vec<u8>,
    pub(super) nodelay: Option<bool>,
    pub(super) first_byte_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) min_rate: Option<u32>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<super::tls::Sessions>,
    pub(super) handler: Handler,
    pub(super) hooks: Hooks,
}

/// What serves a connection.
pub(super) struct Handler {
    pub(super) start: Start,
    /// See `Stream`.
    pub(super) writes_are_answers: bool,
}

pub(super) type Start = Arc<dyn Fn(Stream, Peer) -> Work + Send + Sync>;

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
