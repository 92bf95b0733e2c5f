//! The runtime's context, for streams that ask for it.

use std::any::TypeId;

use tokio::net::TcpStream;
use tokio::runtime::{EnterGuard, Handle};

/// Enters the runtime for a stream that may start timers or tasks of its own when it is polled. A bare socket does not.
#[inline]
pub(super) fn enter_for<S: 'static>(runtime: &Handle) -> Option<EnterGuard<'_>> {
    (TypeId::of::<S>() != TypeId::of::<TcpStream>()).then(|| runtime.enter())
}
