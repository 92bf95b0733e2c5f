//! What a change of the state leaves to do once its lock is released.
//!
//! Next: [`ConnState`](super::ConnState), where it is run.

use std::sync::Arc;
use std::task::Waker;

use crate::fault::Fault;
use crate::link::Link;
use crate::panics::wake;

/// What a change leaves to do once the lock is released.
#[must_use]
pub(super) struct Deferred<S> {
    /// The handles that have to look again.
    pub(super) handles: [Option<Waker>; 2],
    /// The actor, if a command is queued.
    pub(super) actor: Option<Waker>,
    /// Dropping a stream runs code of the program, whose panic is caught.
    pub(super) _discarded: Vec<Link<S>>,
    /// So does dropping an error of a stream.
    pub(super) _forgotten: Option<Arc<Fault>>,
}

impl<S> Deferred<S> {
    /// Wakes the tasks, then drops the rest.
    pub(super) fn run(self) {
        self.handles.into_iter().flatten().chain(self.actor).for_each(wake);
    }
}
