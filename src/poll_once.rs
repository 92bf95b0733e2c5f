//! A look at a future without waiting for it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::task::unconstrained;

/// What a future has ready now, if anything. It is polled once and dropped, and wakes nobody.
///
/// A future of tokio's answers "pending" when the task has used up its cooperative budget; that must not pass for "nothing
/// is ready", so it is polled outside of the budget.
pub(crate) fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(unconstrained(future)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
