//! The figures of a pool.
//!
//! Next: [`SlotTable::counts`](super::slots::SlotTable::counts), which has the other half of them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::slots::SlotCounts;
use super::wait_stats::{EntryCounts, Timeouts, Waits};

/// How the slots of a pool are used at one moment, and what has happened since the pool was made; made by
/// [`Pool::stats`](super::Pool::stats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// All slots.
    pub max: usize,
    /// Slots whose connection is lent or being dialed, and those of [`Pool::slot`](super::Pool::slot).
    pub in_use: usize,
    /// Slots whose connection is open and not lent.
    pub idle: usize,
    /// Slots whose connection is being closed.
    pub releasing: usize,
    /// The number of callers that wait for a resource or for a slot.
    pub waiting: usize,
    /// Connections that were opened.
    pub opened: u64,
    /// How often a connection was lent that was open already. It is counted when the connection is given back.
    pub reused: u64,
    /// Dials that failed or did not end: cancelled by their callers, panicked, or ended by the close of the pool.
    pub dials_failed: u64,
    /// Connections that were closed because their slot was needed.
    pub evicted: u64,
    /// Connections that a check or a hook found dead.
    pub found_dead: u64,
    /// Waits for another user of a resource, or for a slot.
    pub waits: Waits,
    /// Time limits of callers that were over before they had a connection.
    pub timeouts: Timeouts,
    /// [Release actions](super::Resource::release) that failed, panicked or took too long.
    pub releases_failed: u64,
}

/// What has happened with one resource since it was made; made by [`Resource::stats`](super::Resource::stats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceStats {
    /// The number of callers that wait for it, or for a slot for it.
    pub waiting: usize,
    /// Connections that were opened.
    pub opened: u64,
    /// How often the connection was lent that was open already. It is counted when the connection is given back.
    pub reused: u64,
    /// Dials that failed or did not end.
    pub dials_failed: u64,
    /// Waits for another user, or for a slot.
    pub waits: Waits,
    /// Time limits of callers that were over before they had the connection.
    pub timeouts: Timeouts,
}

/// The figures of one resource that are counted outside of its entry.
#[derive(Debug, Default)]
pub(super) struct DialCounters {
    /// Counted when a dial has succeeded.
    pub(super) opened: AtomicU64,
    /// Each dial counts once, here or in `opened`.
    pub(super) dials_failed: AtomicU64,
}

impl DialCounters {
    /// All figures, together with those of the entry.
    pub(super) fn with(&self, waiting: usize, EntryCounts { reused, waits, timeouts }: EntryCounts) -> ResourceStats {
        let (opened, dials_failed) = (self.opened.load(Ordering::Relaxed), self.dials_failed.load(Ordering::Relaxed));
        ResourceStats { waiting, opened, reused, dials_failed, waits, timeouts }
    }
}

/// The figures that are counted outside of the slot table.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Counted when a dial has succeeded, before the connection is lent.
    pub(super) opened: AtomicU64,
    /// Each dial counts once, here or in `opened`.
    pub(super) dials_failed: AtomicU64,
    /// Counted when the connection is closed.
    pub(super) evicted: AtomicU64,
    /// A check before a loan found it closed, or with data that nobody had asked for.
    pub(super) found_dead: AtomicU64,
    /// Counted when the action has ended.
    pub(super) releases_failed: AtomicU64,
}

/// Adds one. The order relative to other memory does not matter.
pub(super) fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    /// All figures, together with those of the slot table.
    pub(super) fn with(&self, slots: SlotCounts) -> Stats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let SlotCounts { max, in_use, idle, releasing, waiting, counts } = slots;
        Stats {
            max,
            in_use,
            idle,
            releasing,
            waiting,
            opened: value(&self.opened),
            reused: counts.reused,
            waits: counts.waits,
            timeouts: counts.timeouts,
            dials_failed: value(&self.dials_failed),
            evicted: value(&self.evicted),
            found_dead: value(&self.found_dead),
            releases_failed: value(&self.releases_failed),
        }
    }
}
