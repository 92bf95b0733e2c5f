//! The state that a listener, its handles, its task and its dialer share.
//!
//! Its methods are here by use: this file has the end and the hooks, [`receive`] the reader, [`requests`] the callers
//! that wait for the server, [`attempts`] the dialer. The program's wakers and hooks never run under the lock.
//!
//! Next: [`receive`], where the reader takes a message.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::channels::Channels;
use super::end_reason::EndReason;
use super::hooks::Hooks;
use super::queue::{Item, MessageQueue};
use super::receivers::Receivers;
use super::reply::{UserQueries, Waiter, drop_quietly};
use super::task_watch::{TaskPhase, TaskWatch};
use super::{Error, Event, Notification};
use crate::panics::wake;
use crate::status::StatusCell;
use crate::sync::Mutex;
use crate::{ConnStats, StatsWatch, Status, StatusWatch};

pub(super) use self::attempts::FailedAttempt;
pub(super) use self::receive::Inbox;
pub(super) use self::requests::saturating_add;

mod attempts;
mod receive;
mod requests;

/// What a listener, its handles, its task and its dialer share.
pub(super) struct ListenerShared {
    /// Locked for short changes; no waker and no hook runs under it.
    state: Mutex<ListenerState>,
    /// The logger and the event hook of the program.
    hooks: Hooks,
    /// How long an answer to a heartbeat or a `ping` may take.
    pub(super) ping_timeout: Duration,
    /// Whether the reader gets a message when a channel is listened to.
    reports_listening: bool,
    /// What the task is doing; [`close`](ListenerShared::close) waits for it.
    pub(super) task_watch: Arc<TaskWatch>,
    /// The status of the listener, which changes together with the state.
    status: Arc<StatusCell>,
    /// The figures of the core connection, once it is built.
    pub(super) conn_stats: OnceLock<StatsWatch>,
}

/// The state of a listener that changes.
pub(super) struct ListenerState {
    /// The channels that the program wants.
    pub(super) channels: Channels<Waiter>,
    /// The messages for the reader.
    pub(super) queue: MessageQueue<Notification>,
    /// The queues of the receivers that have one channel each.
    pub(super) receivers: Receivers,
    /// The marker of the last loss is in the queue, and that of the end of the loss is not.
    pub(super) is_loss_reported: bool,
    /// Queries that the task has not sent yet.
    pub(super) user_queries: UserQueries,
    /// The number of the newest connection that was used.
    pub(super) generation: u64,
    /// The task still uses the last connection, so there must be no other.
    pub(super) is_link_in_use: bool,
    /// Since when nothing is read because the queue is full, or nothing is dialed because it is full of markers.
    pub(super) full_since: Option<Instant>,
    /// Since when the server's answers may be behind notifications that nobody has taken: the queue was full then, and not
    /// everything that has arrived was read since.
    pub(super) behind_since: Option<Instant>,
    /// Whether another host can be tried when one refuses to listen.
    pub(super) can_leave_host: bool,
    /// The host of the last connection cannot listen: the next attempt begins with another.
    pub(super) is_host_refused: bool,
    /// It was reported that a pooler does not keep the session.
    pub(super) is_pooler_reported: bool,
    /// Why the last attempt failed, or why the last connection was lost.
    pub(super) last_cause: Option<Arc<Error>>,
    /// Why the current attempt, or the last one, failed.
    attempt_cause: Option<FailedAttempt>,
    /// Why the listener has ended. `None` while it lives.
    pub(super) end_reason: Option<EndReason>,
    /// Wakes the task that waits in `recv`.
    pub(super) reader_waker: Option<Waker>,
    /// Wakes the task of the listener.
    pub(super) task_waker: Option<Waker>,
    /// Wakes a dial that waits for its permission.
    dial_waker: Option<Waker>,
}

/// What is left of a listener that has ended. It is dropped without the lock, as that wakes callers.
pub(super) struct Ended {
    /// The messages that nobody will read.
    unread: Vec<VecDeque<Item<Notification>>>,
    /// The reason that a close has replaced.
    replaced: Option<EndReason>,
    /// The calls that wait for an answer about a channel.
    channels: Channels<Waiter>,
    /// The calls that wait for an answer to a query.
    queries: UserQueries,
}

impl ListenerShared {
    /// The state of a listener that has not connected yet.
    pub(super) fn new(
        queue: MessageQueue<Notification>,
        hooks: Hooks,
        ping_timeout: Duration,
        can_leave_host: bool,
        reports_listening: bool,
    ) -> Self {
        let state = ListenerState {
            channels: Channels::default(),
            queue,
            receivers: Receivers::default(),
            is_loss_reported: false,
            user_queries: UserQueries::default(),
            generation: 0,
            is_link_in_use: false,
            full_since: None,
            behind_since: None,
            can_leave_host,
            is_host_refused: false,
            is_pooler_reported: false,
            last_cause: None,
            attempt_cause: None,
            end_reason: None,
            reader_waker: None,
            task_waker: None,
            dial_waker: None,
        };
        Self {
            state: Mutex::new(state),
            hooks,
            ping_timeout,
            reports_listening,
            task_watch: Arc::default(),
            status: Arc::new(StatusCell::new()),
            conn_stats: OnceLock::new(),
        }
    }

    /// Locks the state. No other lock is taken while it is held.
    pub(super) fn lock(&self) -> MutexGuard<'_, ListenerState> {
        self.state.lock()
    }

    // ===== the end =====

    /// Ends the listener. The first reason stays, except that a close replaces any other.
    pub(super) fn end(&self, reason: EndReason) {
        if let Some(ended) = self.mark_ended(reason) {
            self.report_end(ended);
        }
    }

    /// Notes the end, so that every later call knows it. [`report_end`](Self::report_end) has to follow, unless it has ended before.
    pub(super) fn mark_ended(&self, reason: EndReason) -> Option<Ended> {
        let mut state = self.lock();
        let is_close = matches!(reason, EndReason::Closed);
        if matches!(state.end_reason, Some(EndReason::Closed)) || (state.end_reason.is_some() && !is_close) {
            return None;
        }
        let status = match reason {
            EndReason::GaveUp { .. } => Status::GaveUp,
            EndReason::Closed | EndReason::Lost(_) | EndReason::RuntimeShutdown => Status::Closed,
        };
        self.status.set_status(status);
        let mut unread = Vec::new();
        if is_close {
            unread.push(state.queue.take_all());
            unread.extend(state.receivers.all().map(|receiver| receiver.queue.take_all()));
        }
        let replaced = state.end_reason.replace(reason);
        let channels = std::mem::take(&mut state.channels);
        let queries = std::mem::take(&mut state.user_queries);
        Some(Ended { unread, replaced, channels, queries })
    }

    /// Ends every call that waits.
    pub(super) fn report_end(&self, ended: Ended) {
        let Ended { unread, replaced, channels, queries } = ended;
        let mut state = self.lock();
        let receivers: Vec<_> = state.receivers.all().filter_map(|receiver| receiver.waker.take()).collect();
        let woken = [state.reader_waker.take(), state.task_waker.take(), state.dial_waker.take()];
        drop(state);
        // Dropping the senders wakes their callers.
        channels.into_waiters().into_iter().for_each(drop_quietly);
        queries.into_iter().for_each(drop_quietly);
        // An unread cause may be an error of the program's own type.
        unread.into_iter().flatten().for_each(drop_quietly);
        drop_quietly(replaced);
        woken.into_iter().flatten().chain(receivers).for_each(wake);
        self.status.wake_all();
    }

    /// Changes the state and the status together, unless the listener has ended.
    pub(super) fn change_status(&self, status: Status, change: impl FnOnce(&mut ListenerState)) {
        let mut state = self.lock();
        if state.end_reason.is_none() {
            self.status.set_status(status);
        }
        change(&mut state);
        drop(state);
        self.status.wake_all();
    }

    /// The status at this moment.
    pub(super) fn status(&self) -> Status {
        self.status.get()
    }

    /// The figures of the core connection.
    pub(super) fn conn_stats(&self) -> ConnStats {
        self.conn_stats.get().map(StatsWatch::current).unwrap_or_default()
    }

    /// A watch of the status.
    pub(super) fn watch_status(&self) -> StatusWatch {
        StatusWatch::new(Arc::clone(&self.status))
    }

    /// Closes the listener, and waits until the task has ended or runs a hook.
    pub(super) async fn close(&self) {
        self.end(EndReason::Closed);
        self.task_watch.ended_or_in_hook().await;
    }

    // ===== hooks =====

    /// Calls the hooks from the task.
    pub(super) fn report_from_task(&self, event: &Event, error: Option<&Arc<Error>>) {
        self.task_watch.set(TaskPhase::InHook);
        self.report(event, error);
        self.task_watch.set(TaskPhase::Working);
    }

    /// Reports that a pooler does not keep the session. Once, as it concerns the settings of the pooler.
    pub(super) fn report_pooler(&self) {
        let mut state = self.lock();
        let generation = state.generation;
        if std::mem::replace(&mut state.is_pooler_reported, true) {
            return;
        }
        drop(state);
        self.report_from_task(&Event::SessionNotKept { generation }, Some(&Arc::new(Error::SessionNotKept)));
    }

    /// Calls the logger.
    pub(super) fn log(&self, error: &Arc<Error>) {
        self.hooks.log(error);
    }

    /// Calls the logger, if there is an error, and the event hook.
    pub(super) fn report(&self, event: &Event, error: Option<&Arc<Error>>) {
        if let Some(error) = error {
            self.hooks.log(error);
        }
        self.hooks.emit(|| event);
    }
}

impl ListenerState {
    /// The error of every call once the listener has ended.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.end_reason.as_ref().map_or(Ok(()), |reason| Err(reason.error()))
    }

    /// Nothing is read now, because the queue is full.
    pub(super) fn note_full(&mut self) {
        let since = *self.full_since.get_or_insert_with(Instant::now);
        self.behind_since.get_or_insert(since);
    }

    /// Since when the server's answers may not be read, because the reader is behind, or since when nothing is dialed for
    /// the same reason.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        self.behind_since.or(self.full_since)
    }

    /// Adds the markers of a loss, and notes who has to be woken. Where all channels are those of receivers, nobody may ever read
    /// from the listener itself.
    pub(super) fn push_lost(&mut self, generation: u64, cause: &Arc<Error>, woken: &mut Vec<Waker>) {
        self.is_loss_reported = self.receivers.is_empty() || self.channels.has_channel_of_listener();
        if self.is_loss_reported {
            self.queue.push_lost(generation, Arc::clone(cause));
            woken.extend(self.reader_waker.take());
        }
        self.receivers.push_lost(generation, cause, woken);
    }

    /// Adds the markers of the end of a loss, and notes who has to be woken.
    pub(super) fn push_resynced(&mut self, generation: u64, outage: Duration, woken: &mut Vec<Waker>) {
        if std::mem::take(&mut self.is_loss_reported) {
            self.queue.push_resynced(generation, outage);
        }
        // Also for a task that waits for the first connection.
        woken.extend(self.reader_waker.take());
        self.receivers.push_resynced(generation, outage, woken);
    }

    /// Whether there is a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.end_reason.is_none() && self.channels.is_connected()
    }
}

/// Registers a task of this crate, to be woken once. Its waker is tokio's own, so it may be cloned under the lock.
pub(super) fn register_waker(waker: &mut Option<Waker>, cx: &Context<'_>) {
    if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *waker = Some(cx.waker().clone());
    }
}
