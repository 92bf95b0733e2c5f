//! Figures of a pool.

use std::sync::atomic::{AtomicU64, Ordering};

use super::book::Counts;

/// How the slots of a pool are used at one moment, and what has happened since it was made; by
/// [`Pool::stats`](super::Pool::stats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// All slots.
    pub max: usize,
    /// Slots whose connection is lent, or being dialed; and those of [`Pool::slot`](super::Pool::slot).
    pub in_use: usize,
    /// Slots whose connection is open and lent to nobody.
    pub idle: usize,
    /// Slots whose connection is being closed.
    pub releasing: usize,
    /// How many users wait, for a resource or for a slot.
    pub waiting: usize,
    /// Connections opened.
    pub opened: u64,
    /// Hand-outs of a connection that was open already; counted when it is given back.
    pub reused: u64,
    /// Dials that failed, or came to no end: given up by their users, panicked, or ended by the close of the pool.
    pub dials_failed: u64,
    /// Connections closed as their slot was needed.
    pub evicted: u64,
    /// Connections that were found dead when they were to be handed out again.
    pub found_dead: u64,
}

/// What is counted on the way.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) opened: AtomicU64,
    pub(super) dials_failed: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) found_dead: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    pub(super) fn with(&self, counts: Counts) -> Stats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { max, in_use, idle, releasing, waiting, reused } = counts;
        Stats {
            max,
            in_use,
            idle,
            releasing,
            waiting,
            opened: value(&self.opened),
            reused,
            dials_failed: value(&self.dials_failed),
            evicted: value(&self.evicted),
            found_dead: value(&self.found_dead),
        }
    }
}
