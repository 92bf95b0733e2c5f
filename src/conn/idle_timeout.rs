//! How long a waiting read has received nothing.
//!
//! The time runs from the first wait since the last byte. The timer is not set anew for each byte: when it rings too
//! early, it is put off to where the time ends. Only the timer decides, and not a look at the clock: the runtime looks at
//! its sockets and its timers in one turn, so that bytes which came in time are seen before the timer rings.
//!
//! Tokio's traits do not show whether a read goes on to wait or another one has begun. A read that waits is polled soon
//! after the timer has rung. One that comes much later may be another, and gets the whole time once more; but only once,
//! as the runtime may have been held up as well.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime;
use tokio::time::Instant;

use super::timer::{Timer, now};

/// The silence of a link, as its reader sees it.
#[derive(Default)]
pub(super) struct IdleTimer {
    current: Option<Current>,
    timer: Option<Timer>,
}

/// A silence that lasts.
#[derive(Clone, Copy)]
struct Current {
    generation: u64,
    /// The first wait since the last byte, or the one from which the time was given once more.
    began: Instant,
    is_second: bool,
}

impl IdleTimer {
    /// Something was received.
    pub(super) fn end(&mut self) {
        self.current = None;
    }

    /// A read waits on this link. Ready when nothing was received for `limit`.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        generation: u64,
        limit: Duration,
        runtime: &runtime::Handle,
    ) -> Poll<()> {
        let fresh = |is_second| Current { generation, began: now(runtime), is_second };
        let mut current =
            self.current.filter(|current| current.generation == generation).unwrap_or_else(|| fresh(false));
        loop {
            self.current = Some(current);
            // A limit beyond all times is none.
            let Some(deadline) = current.began.checked_add(limit) else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Timer::new(deadline, runtime));
            ready!(timer.poll(cx));
            let is_due = timer.deadline >= deadline;
            self.timer = None;
            if !is_due {
                continue;
            }
            let is_late = now(runtime) > deadline + limit / 8;
            if current.is_second || !is_late {
                self.current = None;
                return Poll::Ready(());
            }
            current = fresh(true);
        }
    }
}
