//! The login: from a stream to a session that meets the requirements and listens to all channels.
//!
//! Next: [`LoginDialer`](super::login_dialer::LoginDialer), which logs in as part of a dial.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream as _;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Connection, SimpleQueryMessage, SimpleQueryStream};

use super::attempt_config::LoginConfig;
use super::channels::{ListenId, quoted};
use super::hosts::HostStream;
use super::pending_queries::ends_session;
use super::stream::{SwapStream, TlsBelow};
use crate::dial::BoxedStream;
use crate::sync::Mutex;

/// An error of any kind.
pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// The state of the protocol after a login, without the stream.
pub(super) struct Login {
    /// Sends queries.
    pub(super) client: Client,
    /// Reads and writes messages.
    pub(super) protocol: Connection<SwapStream, SwapStream>,
    /// The stream under `protocol`. It has no inner stream until the login is used.
    pub(super) stream: SwapStream,
    /// The channels that are listened to.
    pub(super) channels: Vec<(Arc<str>, ListenId)>,
    /// The name of the host.
    pub(super) host: String,
    /// Behind a pooler: the process that ran the first query.
    pub(super) pooled_process_id: Option<i32>,
    /// False if a pooler gives each transaction to any process: then no notification arrives.
    pub(super) is_session_kept: bool,
}

/// The most channels of one transaction of a login. More of them need a time that grows with the square of their number,
/// without a sign of life.
const MAX_LISTENS: usize = 1_000;

/// Asks which process of the server runs this query.
pub(super) const PROCESS_ID: &str = "SELECT pg_catalog.pg_backend_pid()";

/// The process id in an answer to [`PROCESS_ID`].
pub(super) fn process_id_in(message: &SimpleQueryMessage) -> Option<i32> {
    match message {
        SimpleQueryMessage::Row(row) if !row.is_empty() => row.try_get(0).ok()??.parse().ok(),
        _ => None,
    }
}

/// Runs a part of a login until a time, which is the end of `limit`.
pub(super) async fn before<T>(
    end: Option<Instant>,
    limit: Option<Duration>,
    part: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    match end.zip(limit) {
        None => part.await,
        Some((end, limit)) => timeout_at(end, part).await.unwrap_or_else(|_| {
            let text = format!("the attempt took longer than {limit:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, text).into())
        }),
    }
}

/// The newest login, until it is used.
///
/// A dial makes a stream and a login. The core connection takes the stream and lends it to the task as a session. The
/// login waits here for that session, because a session carries bytes only.
#[derive(Clone, Default)]
pub(super) struct PendingLogin(Arc<Mutex<Option<Login>>>);

impl PendingLogin {
    /// Replaces the login: `None` when a dial begins, the new one when it has succeeded.
    pub(super) fn set(&self, login: Option<Login>) {
        *self.0.lock() = login;
    }

    /// Takes the login. The task does so to use the connection, and the attempt observer if the connection ends before.
    pub(super) fn take(&self) -> Option<Login> {
        self.0.lock().take()
    }
}

impl Login {
    /// Logs in, and checks the session against `target_session_attrs`.
    pub(super) async fn new(stream: HostStream, login: &LoginConfig) -> Result<Self, BoxError> {
        let (stream, LoginConfig { config, needs_primary }) = (SwapStream::new(stream), login);
        let (client, protocol) = config.connect_raw(stream.clone(), TlsBelow).await?;
        let (channels, host, pooled_process_id) = (Vec::new(), String::new(), None);
        let mut login = Self { client, protocol, stream, channels, host, pooled_process_id, is_session_kept: true };
        login.check_attributes(config.get_target_session_attrs()).await?;
        if *needs_primary {
            login.check_primary().await?;
        }
        Ok(login)
    }

    /// Listens to the channels, and finds out whether there is a pooler between. The first answers have to arrive until
    /// `end`; then each further thousand has to arrive within `limit`.
    pub(super) async fn listen(
        &mut self,
        channels: Vec<(Arc<str>, ListenId)>,
        limit: Option<(Duration, Instant)>,
    ) -> Result<(), BoxError> {
        let (limit, mut end) = (limit.map(|(limit, _)| limit), limit.map(|(_, end)| end));
        let mut chunks = channels.chunks(MAX_LISTENS);
        let first = self.listen_to(chunks.next().unwrap_or_default(), true);
        before(end, limit, first).await?;
        for chunk in chunks {
            end = limit.and_then(|limit| Instant::now().checked_add(limit));
            before(end, limit, self.listen_to(chunk, false)).await?;
        }
        self.channels = channels;
        Ok(())
    }

    /// Takes the stream out. Nothing is in flight on it.
    pub(super) fn take_stream(&self) -> Result<BoxedStream, BoxError> {
        self.stream.take_inner().ok_or_else(closed)
    }

    /// Checks the session against `target_session_attrs`.
    async fn check_attributes(&mut self, wanted: TargetSessionAttrs) -> Result<(), BoxError> {
        if wanted == TargetSessionAttrs::Any {
            return Ok(());
        }
        let is_read_only = self.ask("SHOW transaction_read_only").await?.map(|value| value == "on");
        match (wanted, is_read_only) {
            (TargetSessionAttrs::ReadWrite, Some(false)) | (TargetSessionAttrs::ReadOnly, Some(true)) => Ok(()),
            (TargetSessionAttrs::ReadWrite, _) => {
                Err("the server is read-only: expected read-write (target_session_attrs)".into())
            }
            (TargetSessionAttrs::ReadOnly, _) => {
                Err("the server is read-write: expected read-only (target_session_attrs)".into())
            }
            (other, _) => Err(format!("target_session_attrs {other:?}: expected any, read-write or read-only").into()),
        }
    }

    /// Checks that the server is no standby.
    async fn check_primary(&mut self) -> Result<(), BoxError> {
        match self.ask("SELECT pg_catalog.pg_is_in_recovery()").await?.as_deref() {
            Some("f") => Ok(()),
            _ => Err("the server is a standby: expected a primary (target_session_attrs)".into()),
        }
    }

    /// Listens to these channels in one query, which is one transaction: they come into force together.
    async fn listen_to(&mut self, channels: &[(Arc<str>, ListenId)], is_first: bool) -> Result<(), BoxError> {
        // Both are sent before the first answer is read, so that the question takes no time of its own.
        let asked = match self.stream.key_process_id().filter(|_| is_first) {
            Some(process_id) => Some((process_id, self.client.simple_query_raw(PROCESS_ID).await?)),
            None => None,
        };
        let mut sql = String::new();
        for (channel, _) in channels {
            let _ = write!(sql, "LISTEN {};", quoted(channel));
        }
        let listening = match channels {
            [] => None,
            _ => Some(self.client.simple_query_raw(&sql).await?),
        };
        if let Some((named, answers)) = asked {
            let found = self.read_process_id(answers).await?;
            self.pooled_process_id = found.filter(|found| *found != named);
        }
        let Some(answers) = listening else { return Ok(()) };
        let mut unanswered = channels.len();
        // The last answer is sent after the commit, when the channels are in force. Many notifications may follow it. They
        // wait in the socket until the reader's queue has room.
        self.stream.set_limit(1);
        self.read(answers, |message| {
            unanswered -= usize::from(matches!(message, SimpleQueryMessage::CommandComplete(_)));
            unanswered == 0
        })
        .await
    }

    /// Asks for the process id of the server process that runs the queries. `None` if the server does not know.
    pub(super) async fn process_id(&mut self) -> Result<Option<i32>, BoxError> {
        let answers = self.client.simple_query_raw(PROCESS_ID).await?;
        self.read_process_id(answers).await
    }

    /// Reads the answer to [`PROCESS_ID`]. A server that does not know the function is not PostgreSQL, and that is no
    /// error.
    async fn read_process_id(&mut self, answers: SimpleQueryStream) -> Result<Option<i32>, BoxError> {
        let mut found = None;
        let outcome = self.read(answers, |message| {
            found = found.or_else(|| process_id_in(message));
            matches!(message, SimpleQueryMessage::CommandComplete(_))
        });
        match outcome.await {
            Ok(()) => Ok(found),
            Err(error) => {
                match error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::as_db_error) {
                    Some(refusal) if !ends_session(refusal) => Ok(None),
                    _ => Err(error),
                }
            }
        }
    }

    /// Sends a query, and returns the value that it selects.
    async fn ask(&mut self, sql: &str) -> Result<Option<String>, BoxError> {
        let answers = self.client.simple_query_raw(sql).await?;
        let mut value = None;
        self.read(answers, |message| {
            if let SimpleQueryMessage::Row(row) = message {
                value = row.get(0).map(ToOwned::to_owned);
            }
            value.is_some()
        })
        .await?;
        Ok(value)
    }

    /// Reads the answers of a query up to the one that `is_last` accepts.
    async fn read(
        &mut self,
        answers: SimpleQueryStream,
        mut is_last: impl FnMut(&SimpleQueryMessage) -> bool,
    ) -> Result<(), BoxError> {
        let mut answers = pin!(answers);
        poll_fn(|cx| {
            loop {
                let polled = self.protocol.poll_message(cx);
                // The protocol reports the end of the connection once, and that may come together with the last answer.
                match polled {
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                    Poll::Ready(None) => return Poll::Ready(Err(closed())),
                    Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
                }
                // The answer may have arrived just now. Then nothing wakes this task for it any more.
                while let Poll::Ready(answer) = answers.as_mut().poll_next(cx) {
                    match answer {
                        Some(Ok(answer)) if !is_last(&answer) => {}
                        Some(Ok(_)) | None => return Poll::Ready(Ok(())),
                        Some(Err(error)) => return Poll::Ready(Err(error.into())),
                    }
                }
                if polled.is_pending() {
                    if !self.stream.is_full() {
                        return Poll::Pending;
                    }
                    // No known server sends notifications before the answer. If one does, they are kept.
                    self.stream.set_limit(usize::MAX);
                }
            }
        })
        .await
    }
}

/// The error of a server that closes the connection during the login.
fn closed() -> BoxError {
    io::Error::from(io::ErrorKind::UnexpectedEof).into()
}
