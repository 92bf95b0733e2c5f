//! What callers wait for, and for how long.
//!
//! Each entry counts for itself, under the lock that a waiter takes anyway. The figures of a pool are their sums.
//!
//! Next: [`Entry::take_grant`](super::slots::Entry::take_grant), where most waits end.

use std::fmt;
use std::time::Duration;

/// What a caller waits for before it has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitingFor {
    /// Another caller uses the connection, or it is being closed.
    User,
    /// All slots are in use.
    Slot,
    /// The connection is being dialed, or [prepared](super::Resource::before_reuse).
    Dial,
}

impl fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "another caller uses it",
            Self::Slot => "no slot is free",
            Self::Dial => "its dial has not ended",
        })
    }
}

/// How often and how long callers have waited for another user or for a slot. A dial of one's own is not a wait.
///
/// On Linux the times come from the kernel's coarse clock, which costs next to nothing. A single time is exact to about
/// 4 ms, and the sum of many is right on average.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waits {
    /// The waits that have ended, whether with a connection or not.
    pub count: u64,
    /// The sum of their times.
    pub total: Duration,
    /// The longest one.
    pub longest: Duration,
}

impl Waits {
    /// Counts a wait that has ended.
    #[inline]
    pub(super) fn add(&mut self, time: Duration) {
        self.count += 1;
        self.total = self.total.saturating_add(time);
        self.longest = self.longest.max(time);
    }

    /// Adds the waits of another resource.
    pub(super) fn add_all(&mut self, other: &Self) {
        self.count += other.count;
        self.total = self.total.saturating_add(other.total);
        self.longest = self.longest.max(other.longest);
    }
}

/// When a wait began.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitStart(
    #[cfg(all(target_os = "linux", not(perconn_portable)))] Duration,
    #[cfg(not(all(target_os = "linux", not(perconn_portable))))] std::time::Instant,
);

#[cfg(all(target_os = "linux", not(perconn_portable)))]
impl WaitStart {
    /// A wait that begins now. Two reads of the exact clock would take a tenth of the time of a short wait.
    #[inline]
    pub(super) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        Self(now.try_into().unwrap_or(Duration::ZERO))
    }

    /// How long it has lasted.
    #[inline]
    pub(super) fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

#[cfg(not(all(target_os = "linux", not(perconn_portable))))]
impl WaitStart {
    /// A wait that begins now.
    pub(super) fn now() -> Self {
        Self(std::time::Instant::now())
    }

    /// How long it has lasted.
    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// How often [`get_timeout`](super::Resource::get_timeout) has ended with a
/// [`GetError::Timeout`](super::GetError::Timeout), by what the caller was waiting for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// See [`WaitingFor::User`].
    pub user: u64,
    /// See [`WaitingFor::Slot`].
    pub slot: u64,
    /// See [`WaitingFor::Dial`].
    pub dial: u64,
}

impl Timeouts {
    /// Counts one.
    pub(super) fn add(&mut self, waiting_for: WaitingFor) {
        *match waiting_for {
            WaitingFor::User => &mut self.user,
            WaitingFor::Slot => &mut self.slot,
            WaitingFor::Dial => &mut self.dial,
        } += 1;
    }

    /// Adds those of another resource.
    pub(super) fn add_all(&mut self, other: &Self) {
        self.user += other.user;
        self.slot += other.slot;
        self.dial += other.dial;
    }
}

/// What an entry counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EntryCounts {
    /// How often a connection came back that had been open before it was lent.
    pub(super) reused: u64,
    pub(super) waits: Waits,
    pub(super) timeouts: Timeouts,
}

impl EntryCounts {
    /// Adds those of another entry.
    pub(super) fn add_all(&mut self, other: &Self) {
        self.reused += other.reused;
        self.waits.add_all(&other.waits);
        self.timeouts.add_all(&other.timeouts);
    }
}
