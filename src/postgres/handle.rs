//! What other tasks may do with a listener.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use tokio::sync::oneshot;
use tokio::task::coop;
use tokio_postgres::SimpleQueryMessage;

use super::Error;
use super::channels::Unlistened;
use super::end::End;
use super::questions::tell_all;
use super::shared::{Question, Shared, State, Waiter};
use crate::Status;

/// A handle on a [`Listener`](super::Listener) for other tasks; made by [`Listener::handle`](super::Listener::handle).
///
/// It does not keep the listener alive: when that is dropped, calls fail with [`Error::Closed`]. What waits for the server must
/// be polled on a tokio runtime with time, as it has a time limit.
#[derive(Clone)]
pub struct ListenerHandle {
    pub(super) shared: Arc<Shared>,
}

impl ListenerHandle {
    /// Listens to a channel; see [`Listener::listen`](super::Listener::listen).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn listen(&self, channel: &str) -> Result<(), Error> {
        // (A loop of errors must yield, too; here and below.)
        coop::consume_budget().await;
        check_name(channel)?;
        let (reply, answer) = oneshot::channel();
        let ticket = self.order(|state| state.channels.listen(channel, reply))?;
        let Some(ticket) = ticket else { return Err(Error::AlreadyListening { channel: channel.into() }) };
        let mut claim = Claim { handle: self, channel, ticket: Some(ticket) };
        self.shared.answer(answer).await?;
        claim.ticket = None;
        Ok(())
    }

    /// Stops listening to a channel; see [`Listener::unlisten`](super::Listener::unlisten).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn unlisten(&self, channel: &str) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let ordered = self.order_unlisten(channel, reply);
        coop::consume_budget().await;
        ordered?;
        self.shared.answer(answer).await
    }

    fn order_unlisten(&self, channel: &str, reply: Waiter) -> Result<(), Error> {
        check_name(channel)?;
        let ousted = match self.order(|state| state.channels.unlisten(channel, reply))? {
            Unlistened::NotListening => return Err(Error::NotListening { channel: channel.into() }),
            Unlistened::Waits { ousted } => ousted,
            Unlistened::Done { leaver, ousted } => {
                tell_all([leaver]);
                ousted
            }
        };
        oust(channel, ousted);
        Ok(())
    }

    /// Stops listening to all channels; see [`Listener::unlisten_all`](super::Listener::unlisten_all).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let ordered = self.order(|state| state.channels.unlisten_all(reply)).map(|(ousted, leaver)| {
            for (channel, waiter) in ousted {
                oust(&channel, Some(waiter));
            }
            tell_all(leaver);
        });
        coop::consume_budget().await;
        ordered?;
        self.shared.answer(answer).await
    }

    /// The channels that are listened to, in alphabetical order; those too that the server has not acknowledged yet.
    pub fn channels(&self) -> Vec<String> {
        self.shared.lock().channels.names()
    }

    /// Asks the server whether it is there; see [`Listener::ping`](super::Listener::ping).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn ping(&self) -> Result<(), Error> {
        let limit = self.shared.ping_timeout;
        match tokio::time::timeout(limit, self.question("")).await {
            Ok(outcome) => outcome.map(drop),
            // (It may have become full just after the question.)
            Err(_) if self.shared.has_been_full_for(limit / 2) => Err(Error::Backlog { limit }),
            Err(_) => Err(Error::PingTimeout { limit }),
        }
    }

    /// Puts a question to the server, once there is a connection.
    pub(super) async fn question(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        coop::consume_budget().await;
        let (reply, answer) = oneshot::channel();
        let is_up = self.order(|state| {
            if state.is_up {
                // Those whose callers have gone need no answer.
                state.questions.retain(|question| !question.reply.is_closed());
                state.questions.push_back(Question { sql: sql.to_owned(), reply });
            }
            state.is_up
        })?;
        if !is_up {
            return Err(Error::Down);
        }
        self.shared.answer(answer).await
    }

    /// Closes the listener; see [`Listener::close`](super::Listener::close).
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn close(&self) {
        self.shared.close().await;
    }

    /// The number of the newest connection: 0 before there is one. It grows, and skips those that ended before they
    /// were used.
    pub fn generation(&self) -> u64 {
        self.shared.lock().generation
    }

    /// Whether there is a connection, as far as this machine knows.
    pub fn is_connected(&self) -> bool {
        self.shared.lock().is_up
    }

    /// The status of the listener at this moment.
    pub fn status(&self) -> Status {
        match (&self.shared.lock().end, self.shared.status.get()) {
            (Some(End::Closed | End::RuntimeShutdown), _) | (_, None) => Status::Closed,
            (_, Some(status)) => status.current(),
        }
    }

    /// Changes what is wanted, unless it is over, and lets the task know.
    fn order<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, Error> {
        let mut state = self.shared.lock();
        state.check()?;
        let outcome = change(&mut state);
        let task = state.task.take();
        drop(state);
        task.into_iter().for_each(Waker::wake);
        Ok(outcome)
    }
}

/// A `listen` whose caller has not been told of its success. Dropped, it leaves nothing behind.
struct Claim<'a> {
    handle: &'a ListenerHandle,
    channel: &'a str,
    ticket: Option<u64>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let _ = self.handle.order(|state| state.channels.cancel(self.channel, ticket));
        }
    }
}

fn oust(channel: &str, waiter: Option<Waiter>) {
    if let Some(waiter) = waiter {
        let _ = waiter.send(Err(Error::NotListening { channel: channel.into() }));
    }
}

/// What the server would not take, or would cut.
fn check_name(channel: &str) -> Result<(), Error> {
    let reason = match channel.len() {
        0 => "expected 1 to 63 bytes, it is empty",
        64.. => "expected 1 to 63 bytes, it has more",
        _ if channel.contains('\0') => "expected no zero byte in it",
        _ => return Ok(()),
    };
    Err(Error::InvalidChannel { channel: channel.into(), reason })
}

impl fmt::Debug for ListenerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("ListenerHandle")
            .field("generation", &state.generation)
            .field("is_connected", &state.is_up)
            .field("channels", &state.channels.len())
            .finish_non_exhaustive()
    }
}
