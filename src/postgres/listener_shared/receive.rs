//! The reader of a listener: how it takes messages from the queue.
//!
//! Next: [`Listener::recv`](crate::postgres::Listener::recv), which calls this.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

use super::{ListenerShared, register_waker};
use crate::panics::wake;
use crate::postgres::end_reason::EndReason;
use crate::postgres::queue::Item;
use crate::postgres::{Error, Message};

/// How many messages cost the reader one unit of its task's cooperative budget.
///
/// A reader of a long queue must leave time to other tasks. With one unit for each message it would yield after 128
/// messages, as tokio's own channels do. At 150 ns for each message, these yields were a tenth of the time.
const MESSAGES_PER_BUDGET_UNIT: u32 = 32;

impl ListenerShared {
    /// Takes the next message. `calls` belongs to the reader and counts its calls.
    pub(in crate::postgres) fn poll_recv(&self, calls: &mut u32, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        *calls = calls.wrapping_add(1);
        if *calls % MESSAGES_PER_BUDGET_UNIT != 0 {
            return self.poll_queue(cx);
        }
        let budget = ready!(coop::poll_proceed(cx));
        let received = self.poll_queue(cx);
        if received.is_ready() {
            budget.made_progress();
        }
        received
    }

    /// Takes the next message from the queue, or the error of the end.
    fn poll_queue(&self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        let mut state = self.lock();
        if matches!(state.end_reason, Some(EndReason::Closed)) {
            return Poll::Ready(Err(Error::Closed));
        }
        if let Some(item) = state.queue.pop() {
            let mut woken = [None, None];
            if state.full_since.is_some() && state.queue.has_room_again() {
                woken[0] = state.task_waker.take();
            }
            if matches!(item, Item::Marker(_)) && state.queue.has_room_for_markers() {
                woken[1] = state.dial_waker.take();
            }
            drop(state);
            woken.into_iter().flatten().for_each(wake);
            return Poll::Ready(Ok(match item {
                Item::Notification(notification) => Message::Notification(notification),
                Item::Marker(message) => message,
            }));
        }
        if let Some(reason) = &state.end_reason {
            return Poll::Ready(Err(reason.error()));
        }
        register_waker(&mut state.reader_waker, cx);
        Poll::Pending
    }

    /// Waits until the first connection is in use. Only for a program that has no reader yet.
    pub(in crate::postgres) async fn wait_for_first_connection(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.generation > 0 || state.end_reason.is_some() {
                return Poll::Ready(());
            }
            register_waker(&mut state.reader_waker, cx);
            Poll::Pending
        })
        .await;
    }
}
