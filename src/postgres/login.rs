//! The login: from a stream to a session that meets the requirements and listens to all channels.
//!
//! Next: [`LoginDialer`](super::login_dialer::LoginDialer), which logs in as part of a dial.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_core::Stream as _;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, NoTls, SimpleQueryMessage};

use super::channels::{ListenId, quoted};
use super::stream::SwapStream;
use crate::dial::BoxedStream;
use crate::sync::Mutex;

/// An error of any kind.
pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// The state of the protocol after a login, without the stream.
pub(super) struct Login {
    /// Sends queries.
    pub(super) client: Client,
    /// Reads and writes messages.
    pub(super) protocol: Connection<SwapStream, NoTlsStream>,
    /// The stream under `protocol`. It has no inner stream until the login is used.
    pub(super) stream: SwapStream,
    /// The channels that are listened to.
    pub(super) channels: Vec<(Arc<str>, ListenId)>,
    /// The name of the host.
    pub(super) host: String,
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
    /// Logs in and listens to the channels. Returns the stream too; nothing is in flight on it.
    pub(super) async fn new(
        stream: BoxedStream,
        config: &Config,
        channels: impl FnOnce() -> Vec<(Arc<str>, ListenId)>,
    ) -> Result<(BoxedStream, Self), BoxError> {
        let stream = SwapStream::new(stream);
        let (client, protocol) = config.connect_raw(stream.clone(), NoTls).await?;
        let mut login = Self { client, protocol, stream, channels: Vec::new(), host: String::new() };
        login.check_attributes(config.get_target_session_attrs()).await?;
        // As late as possible, because callers may change the channels at any time.
        login.channels = channels();
        login.listen().await?;
        let stream = login.stream.take_inner().ok_or_else(closed)?;
        Ok((stream, login))
    }

    /// Checks the session against `target_session_attrs`.
    async fn check_attributes(&mut self, wanted: TargetSessionAttrs) -> Result<(), BoxError> {
        if wanted == TargetSessionAttrs::Any {
            return Ok(());
        }
        let mut is_read_only = None;
        self.query("SHOW transaction_read_only", |message| {
            if let SimpleQueryMessage::Row(row) = message {
                is_read_only = row.get(0).map(|value| value == "on");
            }
            is_read_only.is_some()
        })
        .await?;
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

    /// Listens to all channels in one query, which is one transaction: they come into force together.
    async fn listen(&mut self) -> Result<(), BoxError> {
        let mut unanswered = self.channels.len();
        if unanswered == 0 {
            return Ok(());
        }
        let mut sql = String::new();
        for (channel, _) in &self.channels {
            let _ = write!(sql, "LISTEN {};", quoted(channel));
        }
        // The last answer is sent after the commit, when the channels are in force. Many notifications may follow it. They
        // wait in the socket until the reader's queue has room.
        self.stream.set_limit(1);
        self.query(&sql, |message| {
            unanswered -= usize::from(matches!(message, SimpleQueryMessage::CommandComplete(_)));
            unanswered == 0
        })
        .await
    }

    /// Sends a query and reads its answers up to the one that `is_last` accepts.
    async fn query(&mut self, sql: &str, mut is_last: impl FnMut(&SimpleQueryMessage) -> bool) -> Result<(), BoxError> {
        let mut answers = pin!(self.client.simple_query_raw(sql).await?);
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
