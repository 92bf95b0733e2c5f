//! The queries that were sent on one connection and are not answered yet.
//!
//! Next: [`Channels`](super::channels::Channels), which the answers to its commands change.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::Error;
use super::cause::Cause;
use super::channels::{ChannelCommand, quoted};
use super::listener_shared::ListenerShared;
use super::reply::{ReplySender, Waiter, acknowledge, drop_quietly, reply};

/// The queries in the order in which they were sent. The server answers in the same order.
#[derive(Default)]
pub(super) struct PendingQueries(VecDeque<PendingQuery>);

/// A query and its answer, once that has arrived.
struct PendingQuery {
    /// Who gets the answer.
    kind: QueryKind,
    /// Ready when the server has answered.
    answer: Answer,
}

/// The future of an answer.
type Answer = Pin<Box<dyn Future<Output = Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>> + Send>>;

/// What a query is for.
pub(super) enum QueryKind {
    /// `LISTEN` or `UNLISTEN`.
    Channels(ChannelCommand<Waiter>),
    /// A query of the program, which waits for the rows.
    User(ReplySender<Vec<SimpleQueryMessage>>),
    /// The listener's own ping.
    Heartbeat,
}

impl PendingQueries {
    /// Sends a query.
    pub(super) fn send(&mut self, cx: &mut Context<'_>, client: &Arc<Client>, sql: String, kind: QueryKind) {
        let client = Arc::clone(client);
        let mut answer: Answer = Box::pin(async move { client.simple_query(&sql).await });
        // The first poll sends the query, so that the order of sending is the order of this queue.
        if let Poll::Ready(outcome) = answer.as_mut().poll(cx) {
            answer = Box::pin(std::future::ready(outcome));
        }
        self.0.push_back(PendingQuery { kind, answer });
    }

    /// Whether a heartbeat is among them.
    pub(super) fn has_heartbeat(&self) -> bool {
        self.0.iter().any(|query| matches!(query.kind, QueryKind::Heartbeat))
    }

    /// Passes the answers that have arrived to their callers. Returns a cause if the connection is of no more use.
    pub(super) fn poll_answers(&mut self, cx: &mut Context<'_>, shared: &ListenerShared) -> Option<Cause> {
        while let Some(query) = self.0.front_mut() {
            let Poll::Ready(answer) = query.answer.as_mut().poll(cx) else { return None };
            let PendingQuery { kind, .. } = self.0.pop_front()?;
            match answer {
                Ok(rows) => complete(shared, kind, rows),
                Err(error) => {
                    let severity = error.as_db_error().map(DbError::parsed_severity);
                    if matches!(severity, None | Some(Some(Severity::Fatal | Severity::Panic))) {
                        // The query fails with the connection.
                        self.0.push_front(PendingQuery { kind, answer: Box::pin(std::future::pending()) });
                        // The connection reports more about its own end than the query does.
                        return (!error.is_closed()).then(|| Cause::new(error));
                    }
                    if let Some(cause) = refuse(shared, kind, error) {
                        return Some(cause);
                    }
                    // An UNLISTEN may have to follow.
                    cx.waker().wake_by_ref();
                }
            }
        }
        None
    }

    /// Drops all of them, which wakes their callers: the listener has ended.
    pub(super) fn abandon(self) {
        self.0.into_iter().for_each(drop_quietly);
    }

    /// Ends all of them: the connection is lost, and there will be no answers.
    ///
    /// A lost connection listens to nothing, so each `unlisten` is done. Each `listen` waits for the next connection.
    pub(super) fn fail(self, cause: &Cause) {
        for query in self.0 {
            match query.kind {
                QueryKind::Channels(
                    ChannelCommand::Listen { waiters, .. } | ChannelCommand::Unlisten { waiters, .. },
                ) => acknowledge(waiters),
                QueryKind::User(sender) => reply(sender, Err(cause.error())),
                QueryKind::Heartbeat => {}
            }
        }
    }
}

/// The server has done what the query asked for.
fn complete(shared: &ListenerShared, kind: QueryKind, rows: Vec<SimpleQueryMessage>) {
    match kind {
        QueryKind::Channels(ChannelCommand::Listen { channel, id, waiters }) => {
            let waiter = shared.lock().channels.listen_acknowledged(&channel, id);
            acknowledge(waiters);
            acknowledge(waiter);
        }
        QueryKind::Channels(ChannelCommand::Unlisten { channels, waiters }) => {
            shared.lock().channels.unlisten_acknowledged(&channels);
            acknowledge(waiters);
        }
        QueryKind::User(sender) => reply(sender, Ok(rows)),
        QueryKind::Heartbeat => {}
    }
}

/// The server has refused the query. Returns a cause if the connection is of no more use.
fn refuse(shared: &ListenerShared, kind: QueryKind, source: tokio_postgres::Error) -> Option<Cause> {
    match kind {
        QueryKind::Channels(ChannelCommand::Listen { channel, id, waiters }) => {
            let waiter = shared.lock().channels.listen_refused(&channel, id);
            acknowledge(waiters);
            if let Some(waiter) = waiter {
                let statement = format!("LISTEN {}", quoted(&channel));
                reply(waiter, Err(Error::Refused { statement, source }));
            }
        }
        // It is unknown which channels the server still listens to. On the next connection it is known.
        QueryKind::Channels(ChannelCommand::Unlisten { waiters, .. }) => {
            acknowledge(waiters);
            return Some(Cause::new(source));
        }
        // The text is not shown: there may be a secret in it.
        QueryKind::User(sender) => reply(sender, Err(Error::Refused { statement: "a statement".into(), source })),
        QueryKind::Heartbeat => {}
    }
    None
}
