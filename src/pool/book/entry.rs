//! What the book knows of one resource.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::idle::Links;

pub(super) struct Entry<P> {
    pub(super) phase: Phase<P>,
    /// Those who wait for it, by ticket.
    pub(super) waiters: BTreeMap<u64, usize>,
    /// Whoever has it waits for a slot.
    pub(super) is_starved: bool,
    /// Its connection is closed when it comes back.
    pub(super) closes: bool,
    /// The resource is gone.
    pub(super) is_gone: bool,
}

pub(super) enum Phase<P> {
    /// Nobody has it, and no connection is open.
    Empty,
    /// Somebody has it.
    Claimed,
    /// Its connection is open, and nobody uses it.
    Idle { parked: P, since: Option<Instant>, links: Links },
}
