//! A single poll of a future.
//!
//! Next: [`link`](crate::link), which uses it to read what has arrived without waiting.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::task::unconstrained;

/// Polls a future once and drops it. Returns its output if it is ready now; wakes nothing.
///
/// A future of tokio is pending when the task has used up its cooperative budget, although its result may be ready. So
/// this poll runs outside of the budget.
pub(crate) fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(unconstrained(future)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
