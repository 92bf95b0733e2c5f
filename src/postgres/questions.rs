//! What was asked of the server on one link, and the answers.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::Error;
use super::end::Loss;
use super::login::quoted;
use super::shared::{Question, Shared, Waiter};

/// In the order in which they were sent; the answers come in the same.
#[derive(Default)]
pub(super) struct Questions(VecDeque<(Asked, Answer)>);

type Answer = Pin<Box<dyn Future<Output = Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>> + Send>>;

pub(super) enum Asked {
    Listen { channel: Arc<str>, ticket: u64, leavers: Vec<Waiter> },
    Unlisten { channels: Vec<Arc<str>>, leavers: Vec<Waiter> },
    Question(Question),
    Heartbeat,
}

impl Questions {
    pub(super) fn ask(&mut self, cx: &mut Context<'_>, client: &Arc<Client>, sql: String, asked: Asked) {
        let client = Arc::clone(client);
        let mut answer: Answer = Box::pin(async move { client.simple_query(&sql).await });
        // The first poll sends it; so the order is this one.
        if let Poll::Ready(outcome) = answer.as_mut().poll(cx) {
            answer = Box::pin(std::future::ready(outcome));
        }
        self.0.push_back((asked, answer));
    }

    pub(super) fn has_heartbeat(&self) -> bool {
        self.0.iter().any(|(asked, _)| matches!(asked, Asked::Heartbeat))
    }

    /// Tells those who wait of the answers that are there.
    pub(super) fn poll_answers(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Option<Loss> {
        while let Some((_, answer)) = self.0.front_mut() {
            let Poll::Ready(answer) = answer.as_mut().poll(cx) else { return None };
            let (asked, _) = self.0.pop_front()?;
            match answer {
                Ok(rows) => answered(shared, asked, rows),
                Err(error) => {
                    let severity = error.as_db_error().map(DbError::parsed_severity);
                    if matches!(severity, None | Some(Some(Severity::Fatal | Severity::Panic))) {
                        // What was asked shares the fate of the link.
                        self.0.push_front((asked, Box::pin(std::future::pending())));
                        // Of its own end, the connection says more.
                        return (!error.is_closed()).then(|| Loss::of(error));
                    }
                    if let Some(loss) = refused(shared, asked, error) {
                        return Some(loss);
                    }
                    // There may be an UNLISTEN to be sent.
                    cx.waker().wake_by_ref();
                }
            }
        }
        None
    }

    /// The link is lost, and there will be no answers.
    pub(super) fn lost(self, loss: &Loss) {
        for (asked, _) in self.0 {
            match asked {
                Asked::Listen { leavers, .. } | Asked::Unlisten { leavers, .. } => tell_all(leavers),
                Asked::Question(question) => drop(question.reply.send(Err(loss.error()))),
                Asked::Heartbeat => {}
            }
        }
    }
}

fn answered(shared: &Shared, asked: Asked, rows: Vec<SimpleQueryMessage>) {
    match asked {
        Asked::Listen { channel, ticket, leavers } => {
            let waiter = shared.lock().channels.listened(&channel, ticket);
            tell_all(leavers);
            tell_all(waiter);
        }
        Asked::Unlisten { channels, leavers } => {
            shared.lock().channels.unlistened(&channels);
            tell_all(leavers);
        }
        Asked::Question(question) => drop(question.reply.send(Ok(rows))),
        Asked::Heartbeat => {}
    }
}

fn refused(shared: &Shared, asked: Asked, source: tokio_postgres::Error) -> Option<Loss> {
    match asked {
        Asked::Listen { channel, ticket, leavers } => {
            let waiter = shared.lock().channels.refused(&channel, ticket);
            tell_all(leavers);
            if let Some(waiter) = waiter {
                let statement = format!("LISTEN {}", quoted(&channel));
                let _ = waiter.send(Err(Error::Refused { statement, source }));
            }
        }
        // What the server still listens to is not known: another link is.
        Asked::Unlisten { leavers, .. } => {
            tell_all(leavers);
            return Some(Loss::of(source));
        }
        // (The user's own words may have a secret in them.)
        Asked::Question(question) => {
            let _ = question.reply.send(Err(Error::Refused { statement: "a statement".into(), source }));
        }
        Asked::Heartbeat => {}
    }
    None
}

pub(super) fn tell_all(waiters: impl IntoIterator<Item = Waiter>) {
    for waiter in waiters {
        let _ = waiter.send(Ok(()));
    }
}
