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
