//! Replies to callers that wait for the server's answer.
//!
//! Next: [`PendingQueries`](super::pending_queries::PendingQueries), which sends them when the answers arrive.

use std::collections::VecDeque;

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

/// Queries that the task has not sent yet.
#[derive(Default)]
pub(super) struct UserQueries {
    /// In the order of the calls.
    queue: VecDeque<UserQuery>,
    /// The length at which to look for queries whose callers have gone.
    purge_at: usize,
}

/// The least length at which it is worth a look.
const MIN_PURGE: usize = 64;

impl UserQueries {
    /// Adds a query. Returns queries that need not be sent, as their callers have gone. Drop them without a lock.
    pub(super) fn push(&mut self, query: UserQuery) -> VecDeque<UserQuery> {
        self.push_and_purge(query, |query| query.reply.is_closed())
    }

    /// The same. It looks again only when the queue has doubled, so that N queries take N steps in all.
    fn push_and_purge(&mut self, query: UserQuery, mut is_gone: impl FnMut(&UserQuery) -> bool) -> VecDeque<UserQuery> {
        let mut gone = VecDeque::new();
        if self.queue.len() >= self.purge_at.max(MIN_PURGE) {
            (gone, self.queue) = std::mem::take(&mut self.queue).into_iter().partition(&mut is_gone);
            self.purge_at = 2 * self.queue.len();
        }
        self.queue.push_back(query);
        gone
    }
}

impl IntoIterator for UserQueries {
    type Item = UserQuery;
    type IntoIter = std::collections::vec_deque::IntoIter<UserQuery>;

    fn into_iter(self) -> Self::IntoIter {
        self.queue.into_iter()
    }
}

/// Drops a value that may wake a caller, or that is the program's own. Its panic concerns nobody else.
pub(super) fn drop_quietly<T>(value: T) {
    ignore(|| drop(value));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_that_wait_are_looked_at_twice_on_average_and_those_of_callers_that_have_gone_are_dropped() {
        let (mut queries, mut looks, mut waiting, mut dropped) = (UserQueries::default(), 0, Vec::new(), 0);
        for number in 0..40_000 {
            let (reply, answer) = oneshot::channel();
            // Every tenth caller has gone.
            if number % 10 > 0 {
                waiting.push(answer);
            }
            let gone = queries.push_and_purge(UserQuery { sql: String::new(), reply }, |query| {
                looks += 1;
                query.reply.is_closed()
            });
            dropped += gone.len();
        }
        assert!(looks <= 80_000, "{looks}");
        assert!(dropped > 1_000, "{dropped}");
        assert_eq!(queries.into_iter().count(), 40_000 - dropped);
    }
}
