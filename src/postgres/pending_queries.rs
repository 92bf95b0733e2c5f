//! The queries that were sent on one connection and are not answered yet.
//!
//! Next: [`Channels`](super::channels::Channels), which the answers to its commands change.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::Error;
use super::cause::Cause;
use super::channels::{ChannelCommand, TOO_LONG, quoted};
use super::listener_shared::ListenerShared;
use super::login::process_id_in;
use super::reply::{ReplySender, Waiter, acknowledge, drop_quietly, reply};

/// The queries in the order in which they were sent. The server answers in the same order.
#[derive(Default)]
pub(super) struct PendingQueries {
    /// Each with its answer.
    queries: VecDeque<PendingQuery>,
    /// How many of them are heartbeats.
    heartbeats: usize,
    /// The process id in the last answer to a heartbeat.
    process_id: Option<i32>,
}

/// How many heartbeats may be unanswered. A server that is alive and answers none of them is behind by that many
/// intervals.
const MAX_HEARTBEATS: usize = 64;

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
    /// A statement of the program, which waits for the rows. The server may need any time for it.
    Statement(ReplySender<Vec<SimpleQueryMessage>>),
    /// A ping of the program.
    Ping(ReplySender<Vec<SimpleQueryMessage>>),
    /// The listener's own ping. Behind a pooler, it asks for the process id.
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
        self.heartbeats += usize::from(matches!(kind, QueryKind::Heartbeat));
        self.queries.push_back(PendingQuery { kind, answer });
    }

    /// Whether one more heartbeat may be sent. The answers of a busy server may be behind many notifications.
    pub(super) fn has_room_for_heartbeat(&self) -> bool {
        self.heartbeats < MAX_HEARTBEATS
    }

    /// The process id in the last answer to a heartbeat, if it asked for that.
    pub(super) fn process_id(&self) -> Option<i32> {
        self.process_id
    }

    /// Whether the server works on a statement of the program: there is no earlier query that it has not answered.
    pub(super) fn is_statement_running(&self) -> bool {
        matches!(self.queries.front(), Some(PendingQuery { kind: QueryKind::Statement(_), .. }))
    }

    /// Passes the answers that have arrived to their callers. Returns a cause if the connection is of no more use.
    pub(super) fn poll_answers(&mut self, cx: &mut Context<'_>, shared: &ListenerShared) -> Option<Cause> {
        while let Some(query) = self.queries.front_mut() {
            let Poll::Ready(answer) = query.answer.as_mut().poll(cx) else { return None };
            let PendingQuery { kind, .. } = self.queries.pop_front()?;
            self.heartbeats -= usize::from(matches!(kind, QueryKind::Heartbeat));
            match answer {
                Ok(rows) => {
                    if matches!(kind, QueryKind::Heartbeat) {
                        self.process_id = rows.iter().find_map(process_id_in);
                    }
                    complete(shared, kind, rows);
                }
                Err(error) => {
                    if error.as_db_error().is_none_or(ends_session) {
                        // The query fails with the connection.
                        self.queries.push_front(PendingQuery { kind, answer: Box::pin(std::future::pending()) });
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
        self.queries.into_iter().for_each(drop_quietly);
    }

    /// Ends all of them: the connection is lost, and there will be no answers.
    ///
    /// A lost connection listens to nothing, so each `unlisten` is done. Each `listen` waits for the next connection.
    pub(super) fn fail(self, cause: &Cause) {
        for query in self.queries {
            match query.kind {
                QueryKind::Channels(
                    ChannelCommand::Listen { waiters, .. } | ChannelCommand::Unlisten { waiters, .. },
                ) => acknowledge(waiters),
                QueryKind::Statement(sender) | QueryKind::Ping(sender) => reply(sender, Err(cause.error())),
                QueryKind::Heartbeat => {}
            }
        }
    }
}

/// Whether the server ends the session with this error.
///
/// A pooler may leave out the field for the severity as programs read it. PgBouncer does, for its own errors; its text for
/// people is in English.
pub(super) fn ends_session(error: &DbError) -> bool {
    match error.parsed_severity() {
        Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
        None => matches!(error.severity(), "FATAL" | "PANIC"),
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
        QueryKind::Statement(sender) | QueryKind::Ping(sender) => reply(sender, Ok(rows)),
        QueryKind::Heartbeat => {}
    }
}

/// The server has refused the query. Returns a cause if the connection is of no more use.
fn refuse(shared: &ListenerShared, kind: QueryKind, source: tokio_postgres::Error) -> Option<Cause> {
    match kind {
        QueryKind::Channels(ChannelCommand::Listen { channel, waiters, .. })
            if shared.lock().can_leave_host && source.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) =>
        {
            // A standby. The next attempt begins with the host after it, and listens as part of the login.
            let mut state = shared.lock();
            state.channels.try_at_next_login(&channel);
            state.is_host_refused = true;
            drop(state);
            acknowledge(waiters);
            return Some(Cause::new(source));
        }
        QueryKind::Channels(ChannelCommand::Listen { channel, id, waiters }) => {
            let waiter = shared.lock().channels.listen_refused(&channel, id);
            acknowledge(waiters);
            let waiter = waiter?;
            let error = if source.code().is_some_and(|code| code.code() == TOO_LONG) {
                let reason = "expected 1 to 63 bytes in the encoding of the database, it has more";
                Error::InvalidChannel { channel: channel.to_string(), reason }
            } else {
                Error::Refused { statement: format!("LISTEN {}", quoted(&channel)), source }
            };
            reply(waiter, Err(error));
        }
        // It is unknown which channels the server still listens to. On the next connection it is known.
        QueryKind::Channels(ChannelCommand::Unlisten { waiters, .. }) => {
            acknowledge(waiters);
            return Some(Cause::new(source));
        }
        // The text is not shown: there may be a secret in it.
        QueryKind::Statement(sender) | QueryKind::Ping(sender) => {
            reply(sender, Err(Error::Refused { statement: "a statement".into(), source }));
        }
        QueryKind::Heartbeat => {}
    }
    None
}
