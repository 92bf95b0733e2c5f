//! The task of a listener: it uses one connection after the other, and reports the losses between them.
//!
//! Next: [`MessageQueue`](super::queue::MessageQueue), where its notifications and markers wait for the reader.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::Event;
use super::cause::Cause;
use super::connection::ServerConnection;
use super::end_reason::EndReason;
use super::listener_shared::{ListenerShared, register_waker};
use super::login::{Login, PendingLogin};
use super::reply::{UserQueries, acknowledge, drop_quietly, reply};
use super::task_watch::{TaskPhase, TaskWatch};
use crate::dial::BoxedStream;
use crate::panics::{catch, ignore, wake};
use crate::{Session, Sessions, Status};

/// The task of a listener, and everything it owns.
///
/// It waits for a session, uses it until the loss, and begins again. While it waits for a session, the core
/// connection dials: the task itself never does.
pub(super) struct ListenerTask {
    /// Where requests come from, and where notifications and the end go.
    pub(super) shared: Arc<ListenerShared>,
    /// Lends one session on each connection that the core makes.
    pub(super) sessions: Sessions<BoxedStream>,
    /// The login that goes with the next session.
    pub(super) pending_login: PendingLogin,
    /// The interval of the heartbeats.
    pub(super) heartbeat: Option<Duration>,
    /// The task of a [`ListenerConn`](super::ListenerConn), which has only one connection.
    pub(super) is_single: bool,
}

impl ListenerTask {
    /// Runs the task. However it ends, even if it is dropped before its first poll, the end is recorded.
    pub(super) fn run(self) -> impl Future<Output = ()> + Send {
        let guard =
            EndGuard { shared: Some(Arc::clone(&self.shared)), task_watch: Arc::clone(&self.shared.task_watch) };
        async move {
            let _guard = guard;
            // Declared after the guard, and so dropped before it.
            let mut task = self;
            task.use_connections().await;
            task.sessions.close().await;
            drop(task.sessions);
            if matches!(task.shared.lock().end_reason, Some(EndReason::Closed)) {
                task.shared.report_from_task(&Event::Closed, None);
            }
        }
    }

    /// Uses one connection after the other, until there is no next one or the listener has ended.
    async fn use_connections(&mut self) {
        let mut lost_at = None;
        loop {
            let session = match self.next_session().await {
                None => return,
                Some(Ok(session)) => session,
                Some(Err(error)) => return self.finish(&error),
            };
            // Each successful dial leaves a login. If it is gone, the connection has ended, and the observer has reported it as
            // a failed attempt.
            let Some(login) = self.pending_login.take() else { continue };
            let generation = session.generation();
            let mut connection = self.begin(login, session, generation, lost_at);
            let Some(cause) = poll_fn(|cx| poll_connection(&mut connection, cx)).await else {
                // A stream of the program may panic. Then the server gets no final message.
                return ignore(|| connection.terminate());
            };
            lost_at = Some(Instant::now());
            self.handle_loss(connection, generation, &cause);
            if self.is_single {
                return;
            }
            self.shared.release_link();
        }
    }

    /// The next session, or `None` when the listener has ended.
    async fn next_session(&mut self) -> Option<io::Result<Session<BoxedStream>>> {
        let shared = Arc::clone(&self.shared);
        let ended = poll_fn(|cx| {
            let mut state = shared.lock();
            if state.end_reason.is_some() {
                return Poll::Ready(());
            }
            register_waker(&mut state.task_waker, cx);
            Poll::Pending
        });
        tokio::select! {
            biased;
            () = ended => None,
            session = self.sessions.next() => Some(session),
        }
    }

    /// Puts a connection into use, and reports it.
    fn begin(
        &self,
        login: Login,
        session: Session<BoxedStream>,
        generation: u64,
        lost_at: Option<Instant>,
    ) -> ServerConnection {
        let channels = login.channels.clone();
        let is_session_kept = login.is_session_kept;
        let event = match lost_at {
            None => Event::Connected { generation },
            Some(lost_at) => Event::Reconnected { generation, outage: lost_at.elapsed(), channels: channels.len() },
        };
        let connection = ServerConnection::new(&self.shared, login, session, self.heartbeat);
        // The hook sees the new state.
        self.shared.change_status(Status::Connected { generation }, |state| {
            state.generation = generation;
            state.is_link_in_use = true;
            state.channels.link_up(channels);
        });
        self.shared.report_from_task(&event, None);
        if !is_session_kept {
            self.shared.report_pooler();
        }
        let mut woken = Vec::new();
        match lost_at {
            Some(lost_at) => self.shared.lock().push_resynced(generation, lost_at.elapsed(), &mut woken),
            None => woken.extend(self.shared.lock().reader_waker.take()),
        }
        woken.into_iter().for_each(wake);
        connection
    }

    /// Reports a loss to the reader, to the callers that wait for the server, and to the hooks.
    fn handle_loss(&self, connection: ServerConnection, generation: u64, cause: &Cause) {
        let error = Arc::new(cause.error());
        if self.is_single {
            // Before the reports, so that every call already returns it.
            self.shared.end(EndReason::Lost(cause.clone()));
        }
        let (mut replaced, mut done, mut user_queries) = (None, Vec::new(), UserQueries::default());
        let mut woken = Vec::new();
        self.shared.change_status(Status::Disconnected { generation }, |state| {
            (state.full_since, state.behind_since) = (None, None);
            replaced = state.last_cause.replace(Arc::clone(&error));
            if !self.is_single {
                state.push_lost(generation, &error, &mut woken);
            }
            done = state.channels.link_down();
            user_queries = std::mem::take(&mut state.user_queries);
        });
        drop_quietly(replaced);
        woken.into_iter().for_each(wake);
        acknowledge(done);
        for query in user_queries {
            reply(query.reply, Err(cause.error()));
        }
        // A stream of the program may panic when it is dropped.
        ignore(|| connection.fail_pending(cause));
        self.shared.report_from_task(&Event::Disconnected { generation, cause: Arc::clone(&error) }, Some(&error));
    }

    /// Ends the listener, because the core connection has ended with `error`.
    fn finish(&self, error: &io::Error) {
        match crate::Error::of(error) {
            Some(crate::Error::GaveUp { .. }) if self.is_single => {
                // The connection was made, and lost before it was used.
                let error = self.shared.lock().last_cause.clone();
                let cause = error.map_or_else(|| Cause::new("it ended at once"), |error| Cause::Failed(error));
                self.shared.end(EndReason::Lost(cause));
            }
            Some(crate::Error::GaveUp { attempts, .. }) => {
                let reason = EndReason::GaveUp { attempts: *attempts, cause: self.shared.lock().last_cause.clone() };
                let error = Arc::new(reason.error());
                // The hook sees the end, and runs before the calls that wait return.
                let ended = self.shared.mark_ended(reason);
                self.shared.report_from_task(&Event::GaveUp { attempts: *attempts }, Some(&error));
                if let Some(ended) = ended {
                    self.shared.report_end(ended);
                }
            }
            Some(crate::Error::ClosedConnection) => self.shared.end(EndReason::Closed),
            _ => self.shared.end(EndReason::RuntimeShutdown),
        }
    }
}

/// Polls a connection. Its stream may be the program's own, and panic: that is a loss.
fn poll_connection(connection: &mut ServerConnection, cx: &mut Context<'_>) -> Poll<Option<Cause>> {
    catch(|| connection.poll(cx))
        .unwrap_or_else(|message| Poll::Ready(Some(Cause::new(format!("the stream panicked: {message}")))))
}

/// Records the end when the task ends. When the runtime shuts down, it drops the task.
struct EndGuard {
    /// `None` while the guard is dropped.
    shared: Option<Arc<ListenerShared>>,
    /// Where a close waits.
    task_watch: Arc<TaskWatch>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.end(EndReason::RuntimeShutdown);
            // This drops the hooks, if nothing else has the listener any more.
            drop_quietly(shared);
        }
        // The task owns nothing now, and no socket is in use.
        self.task_watch.set(TaskPhase::Ended);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::postgres::WhenFull;
    use crate::postgres::hooks::Hooks;
    use crate::postgres::queue::MessageQueue;

    /// Notes how many clones of a token there are when it is called.
    struct CountsTokens(Arc<()>, AtomicUsize);

    impl Wake for CountsTokens {
        fn wake(self: Arc<Self>) {
            self.1.store(Arc::strong_count(&self.0), Ordering::SeqCst);
        }
    }

    #[test]
    fn close_is_woken_when_the_task_has_released_the_hooks() {
        let counts = Arc::new(CountsTokens(Arc::new(()), AtomicUsize::new(0)));
        let token = Arc::clone(&counts.0);
        let on_event: crate::hooks::Hook<Event> = Box::new(move |_| assert!(Arc::strong_count(&token) > 0));
        let hooks = Hooks { on_event: Some(on_event), ..Hooks::default() };
        let shared =
            Arc::new(ListenerShared::new(MessageQueue::new(1, WhenFull::Wait), hooks, Duration::MAX, false, false));
        let task_watch = Arc::clone(&shared.task_watch);
        let guard = EndGuard { shared: Some(shared), task_watch: Arc::clone(&task_watch) };
        let mut waits = pin!(task_watch.ended_or_in_hook());
        let waker = Waker::from(Arc::clone(&counts));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(guard);
        assert_eq!(counts.1.load(Ordering::SeqCst), 1);
        assert!(waits.poll(&mut Context::from_waker(&waker)).is_ready());
    }
}
