//! From a stream to a link: the login, the requirements of the session, and all channels listened to.

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

use super::wire::Wire;
use crate::dial::BoxedStream;

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// What was made in a dial and is used on the session.
pub(super) struct Login {
    pub(super) client: Client,
    pub(super) connection: Connection<Wire, NoTlsStream>,
    pub(super) wire: Wire,
    /// The channels that are listened to.
    pub(super) channels: Vec<(Arc<str>, u64)>,
    /// Where it was.
    pub(super) host: String,
}

impl Login {
    /// Logs in and listens to the channels. Gives the stream back, on which nothing is under way.
    pub(super) async fn new(
        stream: BoxedStream,
        config: &Config,
        channels: impl FnOnce() -> Vec<(Arc<str>, u64)>,
    ) -> Result<(BoxedStream, Self), BoxError> {
        let wire = Wire::new(stream);
        let (client, connection) = config.connect_raw(wire.clone(), NoTls).await?;
        let mut login = Self { client, connection, wire, channels: Vec::new(), host: String::new() };
        login.check_attributes(config.get_target_session_attrs()).await?;
        // As late as can be: they may change all the while.
        login.channels = channels();
        login.listen().await?;
        let stream = login.wire.take().ok_or_else(closed)?;
        Ok((stream, login))
    }

    async fn check_attributes(&mut self, wanted: TargetSessionAttrs) -> Result<(), BoxError> {
        if wanted == TargetSessionAttrs::Any {
            return Ok(());
        }
        let mut is_read_only = None;
        self.ask("SHOW transaction_read_only", |message| {
            if let SimpleQueryMessage::Row(row) = message {
                is_read_only = row.get(0).map(|value| value == "on");
            }
            is_read_only.is_some()
        })
        .await?;
        match (wanted, is_read_only) {
            (TargetSessionAttrs::ReadWrite, Some(false)) | (TargetSessionAttrs::ReadOnly, Some(true)) => Ok(()),
            (TargetSessionAttrs::ReadWrite, _) => Err("the server is read-only, read-write was asked for".into()),
            (TargetSessionAttrs::ReadOnly, _) => Err("the server is not read-only, read-only was asked for".into()),
            (other, _) => Err(format!("target_session_attrs {other:?} is not known").into()),
        }
    }

    /// All channels in one query, which is one transaction: they come in force together.
    async fn listen(&mut self) -> Result<(), BoxError> {
        let mut unanswered = self.channels.len();
        if unanswered == 0 {
            return Ok(());
        }
        let mut sql = String::new();
        for (channel, _) in &self.channels {
            let _ = write!(sql, "LISTEN {};", quoted(channel));
        }
        // With the answer to the last one, sent after the commit, they are in force. The notifications that follow may
        // be many, and wait until the reader's queue has room.
        self.wire.limit(1);
        self.ask(&sql, |message| {
            unanswered -= usize::from(matches!(message, SimpleQueryMessage::CommandComplete(_)));
            unanswered == 0
        })
        .await
    }

    /// Sends a query and looks at its answers until one `is_last`.
    async fn ask(&mut self, sql: &str, mut is_last: impl FnMut(&SimpleQueryMessage) -> bool) -> Result<(), BoxError> {
        let mut answers = pin!(self.client.simple_query_raw(sql).await?);
        poll_fn(|cx| {
            loop {
                let polled = self.connection.poll_message(cx);
                // (The end of the connection is told once, and may come with the last answer.)
                match polled {
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                    Poll::Ready(None) => return Poll::Ready(Err(closed())),
                    Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
                }
                // (What has arrived may have been an answer, and then this task is not woken for it any more.)
                while let Poll::Ready(answer) = answers.as_mut().poll_next(cx) {
                    match answer {
                        Some(Ok(answer)) if !is_last(&answer) => {}
                        Some(Ok(_)) | None => return Poll::Ready(Ok(())),
                        Some(Err(error)) => return Poll::Ready(Err(error.into())),
                    }
                }
                if polled.is_pending() {
                    if !self.wire.is_full() {
                        return Poll::Pending;
                    }
                    // (No server has sent notifications before the answer. If one does, they are kept.)
                    self.wire.limit(usize::MAX);
                }
            }
        })
        .await
    }
}

fn closed() -> BoxError {
    io::Error::from(io::ErrorKind::UnexpectedEof).into()
}

/// A name as an identifier of SQL: case matters, and any character may be in it.
pub(super) fn quoted(channel: &str) -> String {
    format!("\"{}\"", channel.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_one_identifier_whatever_is_in_it() {
        for (name, identifier) in [
            ("orders", r#""orders""#),
            ("Orders new", r#""Orders new""#),
            (r#"a"; DROP TABLE b; --"#, r#""a""; DROP TABLE b; --""#),
            (r#"""#, r#""""""#),
            (r"\", r#""\""#),
        ] {
            assert_eq!(quoted(name), identifier);
        }
    }
}
