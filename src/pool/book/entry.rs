//! What the book knows of one resource.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::idle::Links;

pub(super) struct Entry<P> {
    pub(super) phase: Phase<P>,
    /// Those who wait for it, by ticket.
    pub(super) waiters: BTreeMap<u64, usize>,
    /// Its connection is closed before it has another user.
    pub(super) closes: bool,
    /// The resource is gone.
    pub(super) is_gone: bool,
}

pub(super) enum Phase<P> {
    /// Nobody has it, and no connection is open.
    Empty,
    /// Somebody has it: to use its connection, to open one, or to close it.
    Claimed,
    /// Its connection is open, and nobody uses it.
    Idle { parked: P, since: Option<Instant>, links: Links },
}
