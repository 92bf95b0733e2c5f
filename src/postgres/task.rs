//! The task of a listener: it takes one link after the other.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::Event;
use super::attempts::Slot;
use super::end::{End, Loss};
use super::link::Link;
use super::login::Login;
use super::questions::tell_all;
use super::shared::{Shared, set_waker};
use crate::dial::BoxedStream;
use crate::panics::{catch, ignore};
use crate::{Session, Sessions};

/// The task's belongings.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) sessions: Sessions<BoxedStream>,
    pub(super) slot: Slot,
    pub(super) heartbeat: Option<Duration>,
    /// There is one link only.
    pub(super) is_once: bool,
}

impl Task {
    /// Whatever becomes of it, even if it is dropped before it ever runs, the end is known.
    pub(super) fn run(mut self) -> impl Future<Output = ()> + Send {
        let end = EndGuard(Arc::clone(&self.shared));
        async move {
            let _end = end;
            self.work().await;
            self.sessions.close().await;
            drop(self.sessions);
            if matches!(self.shared.lock().end, Some(End::Closed)) {
                self.shared.tell(&Event::Closed, None);
            }
        }
    }

    async fn work(&mut self) {
        let mut lost_at = None;
        loop {
            let session = match self.next_session().await {
                None => return,
                Some(Ok(session)) => session,
                Some(Err(error)) => return self.is_over(&error),
            };
            // Each dial that succeeds leaves one; if it is gone, so is the link, which was told as an attempt that failed.
            let Some(login) = self.slot.take() else { continue };
            let generation = session.generation();
            let mut link = self.begin(login, session, generation, lost_at);
            let Some(loss) = poll_fn(|cx| poll_link(&mut link, cx)).await else {
                let mut link = Some(link);
                return poll_fn(|cx| {
                    // (A stream that panics has no goodbye.)
                    ignore(|| link.take().into_iter().for_each(|link| link.goodbye(cx)));
                    Poll::Ready(())
                })
                .await;
            };
            lost_at = Some(Instant::now());
            self.lost(link, generation, &loss);
            if self.is_once {
                return;
            }
            self.shared.link_is_done_with();
        }
    }

    /// `None`: the listener was closed.
    async fn next_session(&mut self) -> Option<io::Result<Session<BoxedStream>>> {
        let shared = Arc::clone(&self.shared);
        let ended = poll_fn(|cx| {
            let mut state = shared.lock();
            if state.end.is_some() {
                return Poll::Ready(());
            }
            set_waker(&mut state.task, cx);
            Poll::Pending
        });
        tokio::select! {
            biased;
            () = ended => None,
            session = self.sessions.next() => Some(session),
        }
    }

    fn begin(&self, login: Login, session: Session<BoxedStream>, generation: u64, lost_at: Option<Instant>) -> Link {
        let channels = login.channels.clone();
        let event = match lost_at {
            None => Event::Connected { generation },
            Some(lost_at) => Event::Reconnected { generation, outage: lost_at.elapsed(), channels: channels.len() },
        };
        self.shared.tell(&event, None);
        let link = Link::new(&self.shared, login, session, self.heartbeat);
        let reader = {
            let mut state = self.shared.lock();
            state.generation = generation;
            state.is_up = state.end.is_none();
            state.is_busy = true;
            state.channels.link_up(channels);
            if let Some(lost_at) = lost_at {
                state.outbox.resynced(generation, lost_at.elapsed());
            }
            state.reader.take()
        };
        reader.into_iter().for_each(Waker::wake);
        link
    }

    fn lost(&self, link: Link, generation: u64, loss: &Loss) {
        let cause = Arc::new(loss.error());
        let mut state = self.shared.lock();
        state.is_up = false;
        state.full_since = None;
        state.trouble = Some(Arc::clone(&cause));
        if !self.is_once {
            state.outbox.lost(generation, Arc::clone(&cause));
        }
        let done = state.channels.link_down();
        let questions = std::mem::take(&mut state.questions);
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        tell_all(done);
        for question in questions {
            let _ = question.reply.send(Err(loss.error()));
        }
        // (A stream may panic when it is dropped.)
        ignore(|| link.lost(loss));
        if self.is_once {
            self.shared.end(End::Lost(loss.clone()));
        }
        self.shared.tell(&Event::Disconnected { generation, cause: Arc::clone(&cause) }, Some(&cause));
    }

    /// There will be no session any more.
    fn is_over(&self, error: &io::Error) {
        match crate::Error::of(error) {
            Some(crate::Error::GaveUp { .. }) if self.is_once => {
                // The connection was there, and gone before it was used.
                let trouble = self.shared.lock().trouble.clone();
                self.shared
                    .end(End::Lost(trouble.map_or_else(|| Loss::of("it ended at once"), |why| Loss::Failed(why))));
            }
            Some(crate::Error::GaveUp { attempts, .. }) => {
                let end = End::GaveUp { attempts: *attempts, trouble: self.shared.lock().trouble.clone() };
                let error = end.error();
                self.shared.tell(&Event::GaveUp { attempts: *attempts }, Some(&error));
                self.shared.end(end);
            }
            Some(crate::Error::ClosedConnection) => self.shared.end(End::Closed),
            _ => self.shared.end(End::RuntimeShutdown),
        }
    }
}

/// What was dialed may be the program's own, and panic.
fn poll_link(link: &mut Link, cx: &mut Context<'_>) -> Poll<Option<Loss>> {
    catch(|| link.poll(cx))
        .unwrap_or_else(|message| Poll::Ready(Some(Loss::of(format!("the stream panicked: {message}")))))
}

/// Enters the end when the task ends, however it ends: the runtime drops it when it shuts down.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.end(End::RuntimeShutdown);
        self.0.task_is_gone();
    }
}
