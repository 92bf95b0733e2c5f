//! Finding out whether a write that waits is still wanted. A future that is given up is dropped without a word.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::seat::{Seat, WRITING};

/// How long a write that is wanted may take to answer to a wake-up. Its task needs one turn for that.
const ANSWER: Duration = Duration::from_millis(50);

/// The question, if it was asked. It is only asked while the acceptor stops.
#[derive(Debug, Default)]
pub(super) struct Question {
    answer_until: Option<Pin<Box<Sleep>>>,
}

impl Question {
    pub(super) fn is_open(&self) -> bool {
        self.answer_until.is_some()
    }

    /// Whether the write that waits was given up. If not, the task is woken to ask again.
    pub(super) fn is_given_up(&mut self, seat: &Seat, cx: &mut Context<'_>) -> bool {
        loop {
            let Some(time) = &mut self.answer_until else {
                seat.clear(WRITING);
                // Whoever still waits is polled, and says so again.
                seat.wake_all();
                self.answer_until = Some(Box::pin(sleep(ANSWER)));
                continue;
            };
            if time.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.answer_until = None;
            if !seat.has(WRITING) {
                return true;
            }
        }
    }
}
