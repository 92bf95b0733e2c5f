//! A handle on a listener for other tasks.
//!
//! Next: `listener_shared/requests`, which takes a request to the task and waits for its answer.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::coop;
use tokio_postgres::SimpleQueryMessage;

use super::channels::{ListenId, UnlistenOutcome};
use super::listener_shared::{Inbox, ListenerShared, ListenerState};
use super::reply::{UserQuery, Waiter, acknowledge, drop_quietly, reply};
use super::{Error, Subscription};
use crate::{ConnStats, Status, StatusWatch};

/// A handle on a [`Listener`](super::Listener) for other tasks; made by [`Listener::handle`](super::Listener::handle).
///
/// It does not keep the listener alive: once that is dropped, calls fail with [`Error::Closed`]. Calls that wait for
/// the server have a time limit, so they must be polled on a tokio runtime with its time driver enabled.
#[derive(Clone)]
pub struct ListenerHandle {
    /// Outlives the listener, and records its end: then calls fail.
    pub(super) shared: Arc<ListenerShared>,
}

impl ListenerHandle {
    /// Listens to a channel; see [`Listener::listen`](super::Listener::listen).
    ///
    /// # Errors
    ///
    /// See there.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn listen(&self, channel: &str) -> Result<(), Error> {
        // A loop over calls that fail at once must yield too, here and below.
        coop::consume_budget().await;
        check_name(channel)?;
        let (sender, answer) = oneshot::channel();
        let id = self.shared.request(|state| state.channels.listen(channel, sender))?;
        let Some(id) = id else { return Err(Error::AlreadyListening { channel: channel.into() }) };
        let mut guard = CancelGuard { handle: self, channel, id: Some(id) };
        self.shared.wait_for_answer(answer).await?;
        self.shared.report_listening(Inbox::Listener, channel);
        guard.id = None;
        Ok(())
    }

    /// Listens to several channels; see [`Listener::listen_all`](super::Listener::listen_all).
    ///
    /// # Errors
    ///
    /// See there.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub fn listen_all(
        &self,
        channels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        // Before the first await, so that the future needs nothing of the caller's type.
        let channels: Vec<Arc<str>> = channels.into_iter().map(|channel| Arc::from(channel.as_ref())).collect();
        async move {
            coop::consume_budget().await;
            channels.iter().try_for_each(|channel| check_name(channel))?;
            let mut answers = Vec::with_capacity(channels.len());
            let request = |state: &mut ListenerState| {
                let mut guards = Vec::with_capacity(channels.len());
                for channel in &channels {
                    let (sender, answer) = oneshot::channel();
                    let Some(id) = state.channels.listen(channel, sender) else {
                        // The guards would lock the state.
                        let undone = guards.drain(..).map(|(channel, id)| state.channels.cancel(channel, id)).collect();
                        return Err((channel, undone));
                    };
                    guards.push((&**channel, id));
                    answers.push(answer);
                }
                Ok(guards)
            };
            let listened: Result<_, (&Arc<str>, Vec<Option<Waiter>>)> = self.shared.request(request)?;
            let mut guards: Vec<_> = match listened {
                Ok(listened) => listened
                    .into_iter()
                    .map(|(channel, id)| CancelGuard { handle: self, channel, id: Some(id) })
                    .collect(),
                Err((channel, undone)) => {
                    drop_quietly(undone);
                    return Err(Error::AlreadyListening { channel: channel.to_string() });
                }
            };
            for answer in answers {
                self.shared.wait_for_answer(answer).await?;
            }
            for guard in &mut guards {
                self.shared.report_listening(Inbox::Listener, guard.channel);
                guard.id = None;
            }
            Ok(())
        }
    }

    /// Listens to a channel for a receiver of its own; see [`Listener::subscribe`](super::Listener::subscribe).
    ///
    /// # Errors
    ///
    /// See there.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn subscribe(&self, channel: &str) -> Result<Subscription, Error> {
        coop::consume_budget().await;
        check_name(channel)?;
        let (sender, answer) = oneshot::channel();
        let id = self.shared.request(|state| {
            let id = state.channels.share(channel, sender);
            let queue = state.queue.empty_copy();
            state.receivers.add(channel, id, queue);
            id
        })?;
        // Its drop takes it back.
        let subscription = Subscription::new(Arc::clone(&self.shared), channel, id);
        self.shared.wait_for_answer(answer).await?;
        self.shared.report_listening(Inbox::Receiver { channel, id }, channel);
        Ok(subscription)
    }

    /// Stops listening to a channel; see [`Listener::unlisten`](super::Listener::unlisten).
    ///
    /// # Errors
    ///
    /// See there.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn unlisten(&self, channel: &str) -> Result<(), Error> {
        let (sender, answer) = oneshot::channel();
        // Before the first await: once polled, it is done.
        let requested = self.request_unlisten(channel, sender);
        coop::consume_budget().await;
        requested?;
        self.shared.wait_for_answer(answer).await
    }

    /// Makes the request of an `unlisten`.
    fn request_unlisten(&self, channel: &str, sender: Waiter) -> Result<(), Error> {
        check_name(channel)?;
        let cancelled = match self.shared.request(|state| state.channels.unlisten(channel, sender))? {
            UnlistenOutcome::NotListening => return Err(Error::NotListening { channel: channel.into() }),
            UnlistenOutcome::Pending { cancelled } => cancelled,
            UnlistenOutcome::Done { waiter, cancelled } => {
                acknowledge([waiter]);
                cancelled
            }
        };
        cancel_listen(channel, cancelled);
        Ok(())
    }

    /// Stops listening to all channels; see [`Listener::unlisten_all`](super::Listener::unlisten_all).
    ///
    /// # Errors
    ///
    /// See there.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        let (sender, answer) = oneshot::channel();
        let requested = self.shared.request(|state| state.channels.unlisten_all(sender)).map(|(cancelled, done)| {
            for (channel, waiter) in cancelled {
                cancel_listen(&channel, Some(waiter));
            }
            acknowledge(done);
        });
        coop::consume_budget().await;
        requested?;
        self.shared.wait_for_answer(answer).await
    }

    /// The channels that are listened to, in alphabetical order. They include the ones that the server has not
    /// acknowledged yet.
    pub fn channels(&self) -> Vec<String> {
        self.shared.lock().channels.names()
    }

    /// Asks the server for an answer; see [`Listener::ping`](super::Listener::ping).
    ///
    /// # Errors
    ///
    /// See there.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn ping(&self) -> Result<(), Error> {
        let limit = self.shared.ping_timeout;
        match tokio::time::timeout(limit, self.query("")).await {
            Ok(outcome) => outcome.map(drop),
            // The queue may have become full shortly after the query was sent.
            Err(_) if self.shared.has_been_blocked_for(limit / 2) => Err(Error::Backlog { limit }),
            Err(_) => Err(Error::PingTimeout { limit }),
        }
    }

    /// Sends statements of your own in the session that listens; see [`Listener::simple_query`](super::Listener::simple_query).
    ///
    /// # Errors
    ///
    /// See there.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        if sql.contains('\0') {
            return Err(Error::InvalidConfig("simple_query: a statement with a zero byte: expected none".into()));
        }
        self.query(sql).await
    }

    /// Sends a query to the server and waits for its answer.
    async fn query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        coop::consume_budget().await;
        let (sender, answer) = oneshot::channel();
        let request = |state: &mut ListenerState| {
            state.is_connected().then(|| state.user_queries.push(UserQuery { sql: sql.to_owned(), reply: sender }))
        };
        self.shared.request(request)?.ok_or(Error::Down)?.into_iter().for_each(drop_quietly);
        self.shared.wait_for_answer(answer).await
    }

    /// Closes the listener; see [`Listener::close`](super::Listener::close).
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn close(&self) {
        self.shared.close().await;
    }

    /// The number of the newest connection: 0 before there is one.
    ///
    /// It grows, and skips connections that ended before they were used.
    pub fn generation(&self) -> u64 {
        self.shared.lock().generation
    }

    /// Whether there is a connection, as far as this machine knows.
    pub fn is_connected(&self) -> bool {
        self.shared.lock().is_connected()
    }

    /// The status of the listener at this moment.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// The figures of the listener's connection: attempts, breaks by cause, times, the last failure.
    pub fn conn_stats(&self) -> ConnStats {
        self.shared.conn_stats()
    }

    /// A watch of the status, for a task that waits for a change of it; see [`StatusWatch`].
    pub fn watch_status(&self) -> StatusWatch {
        self.shared.watch_status()
    }
}

/// Takes a `listen` back when it is dropped, unless the call has succeeded.
struct CancelGuard<'a> {
    /// Where the `listen` is taken back.
    handle: &'a ListenerHandle,
    /// What the `listen` is looked up by, together with `id`.
    channel: &'a str,
    /// The number of the `listen`; `None` once the call has succeeded.
    id: Option<ListenId>,
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // The way to this caller goes after the lock: the caller's waker may be dropped with it.
            drop_quietly(self.handle.shared.request(|state| state.channels.cancel(self.channel, id)));
        }
    }
}

/// Ends another task's `listen`, because the channel was unlistened.
fn cancel_listen(channel: &str, waiter: Option<Waiter>) {
    if let Some(waiter) = waiter {
        reply(waiter, Err(Error::NotListening { channel: channel.into() }));
    }
}

/// Refuses names that the server would refuse or truncate.
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
            .field("is_connected", &state.is_connected())
            .field("channels", &state.channels.len())
            .finish_non_exhaustive()
    }
}
