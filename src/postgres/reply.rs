//! Replies to callers that wait for the server's answer.
//!
//! Next: [`PendingQueries`](super::pending_queries::PendingQueries), which sends them when the answers arrive.

use tokio::sync::oneshot;
use tokio_postgres::SimpleQueryMessage;

use super::Error;
use crate::panics::ignore;

/// The way back to a caller that waits for an answer.
pub(super) type ReplySender<T> = oneshot::Sender<Result<T, Error>>;

/// A call that waits for the server's answer about a channel.
pub(super) type Waiter = ReplySender<()>;

/// A query of the program, or an empty one: a ping.
pub(super) struct UserQuery {
    /// Its text; empty for a ping.
    pub(super) sql: String,
    /// The caller that waits for the rows.
    pub(super) reply: ReplySender<Vec<SimpleQueryMessage>>,
}

/// Sends the outcome to a caller, if it still waits.
///
/// This wakes the caller. Its waker may be code of the program, and may panic.
pub(super) fn reply<T>(sender: ReplySender<T>, outcome: Result<T, Error>) {
    ignore(|| drop(sender.send(outcome)));
}

/// Reports to all of these callers that the server has done what they asked for.
pub(super) fn acknowledge(waiters: impl IntoIterator<Item = Waiter>) {
    waiters.into_iter().for_each(|waiter| reply(waiter, Ok(())));
}
