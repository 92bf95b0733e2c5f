//! The task of an outbox: it owns the connection, and runs one link after the other.
//!
//! Next: [`LinkRun`], which writes and reads on one link.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Answers;
use super::alarm::{Alarm, earlier};
use super::codec::Codec;
use super::hooks::Hooks;
use super::link_run::{LinkEnd, LinkRun};
use super::protocol::Protocol;
use super::report::Reporter;
use super::shared::{Phase, Shared};
use crate::{Error, Session, Sessions};

/// How long the end waits for the connection's own: only a hook of the program that hangs needs the limit.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The task, before it runs.
pub(super) struct Task<S> {
    /// Makes a stream for each link.
    pub(super) sessions: Sessions<S>,
    /// Makes bytes of messages.
    pub(super) protocol: Option<Box<dyn Protocol>>,
    /// Makes answers of bytes, if that is not the protocol's business.
    pub(super) answers: Option<Answers>,
    /// Whether one of them does.
    pub(super) has_answers: bool,
    /// The event hook.
    pub(super) hooks: Hooks,
    /// Whether what a stream has taken is with the kernel.
    pub(super) is_socket: bool,
    /// The messages.
    pub(super) shared: Arc<Shared>,
}

/// What the task needs on each link, and keeps.
pub(super) struct Tools {
    /// The messages.
    pub(super) shared: Arc<Shared>,
    /// The program's protocol.
    pub(super) codec: Codec,
    /// The program's hook.
    pub(super) reporter: Reporter,
    /// The one timer.
    pub(super) alarm: Alarm,
    /// Whether what a stream has taken is with the kernel.
    pub(super) is_socket: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Task<S> {
    /// Starts it on the present runtime.
    pub(super) fn spawn(self) {
        let Self { sessions, protocol, answers, has_answers, hooks, is_socket, shared } = self;
        // Made here, so that it ends the outbox even if the runtime shuts down before the first poll.
        let end = EndGuard(Tools {
            shared,
            codec: Codec::new(protocol, answers, has_answers),
            reporter: Reporter::new(hooks),
            alarm: Alarm::default(),
            is_socket,
        });
        tokio::spawn(Self::run(sessions, end));
    }

    /// Runs links until the outbox ends.
    async fn run(mut sessions: Sessions<S>, mut end: EndGuard) {
        let tools = &mut end.0;
        let cause = loop {
            let session = match tools.next_session(&mut sessions).await {
                Some(Ok(session)) => session,
                Some(Err(error)) => break final_error(error),
                None => break Error::ClosedConnection,
            };
            let mut link = LinkRun::new(tools, session);
            match poll_fn(|cx| link.poll(cx)).await {
                LinkEnd::Broken => {}
                LinkEnd::Closed => {
                    // Before the link is dropped, which would break it.
                    let _ = tokio::time::timeout(CLOSE_TIMEOUT, sessions.close()).await;
                    break Error::ClosedConnection;
                }
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, sessions.close()).await;
        tools.end(cause);
    }
}

impl Tools {
    /// Waits for a link. `None`: the outbox is closed, and either has nothing left to send or no time.
    async fn next_session<S>(&mut self, sessions: &mut Sessions<S>) -> Option<io::Result<Session<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut next = pin!(sessions.next());
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = next.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            loop {
                let now = self.shared.now();
                let (phase, deadlines, is_empty, tally, rejections) = self.shared.change(|state| {
                    state.task = Some(cx.waker().clone());
                    state.wants_messages = false;
                    state.store.expire(now);
                    let is_empty = state.store.oldest_waiting().is_none();
                    let rejections = state.store.take_rejections();
                    (state.phase.clone(), state.store.deadlines(now), is_empty, state.store.tally(), rejections)
                });
                let report = self.reporter.report(tally, rejections);
                let close = match phase {
                    Phase::Open => None,
                    Phase::Closing(Some(deadline)) if !is_empty && Instant::now() < deadline => Some(deadline),
                    Phase::Closing(None) if !is_empty => None,
                    Phase::Closing(_) | Phase::Ended(_) => return Poll::Ready(None),
                };
                let expiry = deadlines.expiry.and_then(|expiry| self.shared.moment(expiry));
                if self.alarm.poll(cx, earlier(earlier(report, close), expiry)).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Gives everything its last fate, and reports it.
    fn end(&mut self, cause: Error) {
        let tally = self.shared.end(|| Arc::new(cause));
        let rejections = self.shared.change(|state| state.store.take_rejections());
        self.reporter.report_end(tally, rejections);
        // After the last event: a program that has closed the outbox has seen it all.
        self.shared.ended.wake_all();
    }
}

/// The error inside that of a wait for a link.
fn final_error(error: io::Error) -> Error {
    let inner = error.into_inner().and_then(|inner| inner.downcast().ok());
    inner.map_or(Error::ClosedConnection, |error| *error)
}

/// Ends the outbox if the task is dropped: the runtime has shut down.
struct EndGuard(Tools);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if self.0.shared.final_tally().is_none() {
            self.0.end(Error::RuntimeShutdown);
        }
    }
}
