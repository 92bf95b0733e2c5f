//! What the task finds when it looks at the store before it sleeps.
//!
//! Next: [`LinkRun`](super::link_run::LinkRun), which looks.

use tokio::time::Instant;

use super::Tally;
use super::link_run::LinkEnd;
use super::shared::Phase;
use super::store::Deadlines;

/// What the look before the sleep has found.
pub(super) struct Look {
    /// Whether the outbox closes.
    pub(super) phase: Phase,
    /// Whether all messages have their fate.
    pub(super) is_empty: bool,
    /// Whether there is a message to write.
    pub(super) can_take: bool,
    /// Whether a fate depends on an acknowledgement.
    pub(super) awaits: bool,
    /// When time matters.
    pub(super) deadlines: Deadlines,
    /// What to report.
    pub(super) report: (Tally, Vec<(u64, String)>),
}

/// Whether the task sleeps.
pub(super) enum Sleep {
    /// There is more to do.
    No,
    /// Until it is woken, or then.
    Until(Option<Instant>),
    /// The link has ended.
    End(LinkEnd),
}
