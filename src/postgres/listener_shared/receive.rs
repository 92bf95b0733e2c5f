//! The reader of a listener: how it takes messages from the queue.
//!
//! Next: [`Listener::recv`](crate::postgres::Listener::recv), which calls this.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;

use super::{ListenerShared, ListenerState};
use crate::panics::wake;
use crate::postgres::channels::ListenId;
use crate::postgres::end_reason::EndReason;
use crate::postgres::queue::{Item, MessageQueue};
use crate::postgres::reply::drop_quietly;
use crate::postgres::{Error, Message, Notification};

/// How many messages cost the reader one unit of its task's cooperative budget.
///
/// A reader of a long queue must leave time to other tasks. With one unit for each message it would yield after 128
/// messages, as tokio's own channels do. At 150 ns for each message, these yields were a tenth of the time.
const MESSAGES_PER_BUDGET_UNIT: u32 = 32;

/// One of the queues that a program reads from.
#[derive(Clone, Copy)]
pub(in crate::postgres) enum Inbox<'a> {
    /// The queue of the listener itself.
    Listener,
    /// The queue of a [`Subscription`](crate::postgres::Subscription).
    Receiver {
        /// Its channel.
        channel: &'a str,
        /// Tells it from others of that channel.
        id: ListenId,
    },
}

impl ListenerState {
    /// A queue, and who waits for it. `None` if the receiver was removed.
    fn inbox(&mut self, inbox: Inbox<'_>) -> Option<(&mut MessageQueue<Notification>, &mut Option<Waker>)> {
        match inbox {
            Inbox::Listener => Some((&mut self.queue, &mut self.reader_waker)),
            Inbox::Receiver { channel, id } => {
                self.receivers.get_mut(channel, id).map(|receiver| (&mut receiver.queue, &mut receiver.waker))
            }
        }
    }
}

impl ListenerShared {
    /// Says in a queue that a channel is listened to from now on, if the program has asked for it.
    pub(in crate::postgres) fn report_listening(&self, inbox: Inbox<'_>, channel: &str) {
        if !self.reports_listening {
            return;
        }
        let mut state = self.lock();
        let Some((queue, waker)) = state.inbox(inbox) else { return };
        queue.push_listening(channel);
        let waker = waker.take();
        drop(state);
        waker.into_iter().for_each(wake);
    }

    /// Removes a receiver, and takes its `listen` back.
    pub(in crate::postgres) fn remove_receiver(&self, channel: &str, id: ListenId) {
        let mut state = self.lock();
        let removed = state.receivers.remove(channel, id);
        let waiter = state.channels.cancel(channel, id);
        let task = state.task_waker.take();
        drop(state);
        drop_quietly((removed, waiter));
        task.into_iter().for_each(wake);
    }

    /// Takes the next message. `calls` belongs to the reader and counts its calls.
    pub(in crate::postgres) fn poll_recv(
        &self,
        inbox: Inbox<'_>,
        calls: &mut u32,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Message, Error>> {
        *calls = calls.wrapping_add(1);
        if *calls % MESSAGES_PER_BUDGET_UNIT != 0 {
            return self.poll_queue(inbox, cx);
        }
        let budget = ready!(coop::poll_proceed(cx));
        let received = self.poll_queue(inbox, cx);
        if received.is_ready() {
            budget.made_progress();
        }
        received
    }

    /// Takes the next message from the queue, or the error of the end.
    fn poll_queue(&self, inbox: Inbox<'_>, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        let mut woken = [None, None];
        let polled = self.poll_reader(inbox, cx, |state| Self::take_from_queue(state, inbox, &mut woken));
        woken.into_iter().flatten().for_each(wake);
        polled.map_ok(|item| match item {
            Item::Notification(notification) => Message::Notification(notification),
            Item::Marker(message) => message,
        })
    }

    /// Takes the next item, and the tasks that have waited for the room in the queue.
    fn take_from_queue(
        state: &mut ListenerState,
        inbox: Inbox<'_>,
        woken: &mut [Option<Waker>; 2],
    ) -> Poll<Result<Item<Notification>, Error>> {
        if matches!(state.end_reason, Some(EndReason::Closed)) {
            return Poll::Ready(Err(Error::Closed));
        }
        let Some((queue, _)) = state.inbox(inbox) else { return Poll::Ready(Err(Error::Closed)) };
        if let Some(item) = queue.pop() {
            let (has_room_again, has_room_for_markers) = (queue.has_room_again(), queue.has_room_for_markers());
            if state.full_since.is_some() && has_room_again {
                woken[0] = state.task_waker.take();
            }
            if matches!(item, Item::Marker(_)) && has_room_for_markers {
                woken[1] = state.dial_waker.take();
            }
            return Poll::Ready(Ok(item));
        }
        match &state.end_reason {
            Some(reason) => Poll::Ready(Err(reason.error())),
            None => Poll::Pending,
        }
    }

    /// Polls the state for the reader, which is woken once if it has to wait.
    ///
    /// The waker is code of the program: it is cloned and dropped without the lock.
    fn poll_reader<T>(
        &self,
        inbox: Inbox<'_>,
        cx: &Context<'_>,
        mut poll: impl FnMut(&mut ListenerState) -> Poll<T>,
    ) -> Poll<T> {
        let mut waker = None;
        loop {
            let mut state = self.lock();
            if let Poll::Ready(output) = poll(&mut state) {
                return Poll::Ready(output);
            }
            // Without an inbox, `poll` is ready.
            let Some((_, registered)) = state.inbox(inbox) else { return Poll::Pending };
            if registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            if let Some(waker) = waker.take() {
                let replaced = registered.replace(waker);
                drop(state);
                drop(replaced);
                return Poll::Pending;
            }
            // The state may change meanwhile: look again.
            drop(state);
            waker = Some(cx.waker().clone());
        }
    }

    /// Waits until the first connection is in use. Only for a program that has no reader yet.
    pub(in crate::postgres) async fn wait_for_first_connection(&self) {
        poll_fn(|cx| {
            self.poll_reader(Inbox::Listener, cx, |state| match state.generation > 0 || state.end_reason.is_some() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
        })
        .await;
    }
}
