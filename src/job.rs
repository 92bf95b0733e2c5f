//! What handles ask of the actor, on its bounded queue.

use std::sync::Arc;

use crate::fault::Fault;

/// One request.
#[derive(Debug)]
pub(crate) enum Job {
    /// A link broke.
    Redial(Arc<Fault>),
    /// Dial now.
    Reconnect,
    /// End.
    Close,
}

impl Job {
    /// How many jobs can be on their way at once: one of each kind, as the ledger takes care of.
    pub(crate) const KINDS: usize = 3;
}
