//! The idle timeout: how long a waiting read has received nothing.
//!
//! The time runs from the first wait since the last byte. A byte does not reset the timer: a timer that fires too
//! early is set again for the remaining time. Only a fired timer ends the time, never a look at the clock. The
//! runtime looks at its sockets and its timers in one turn, so bytes that came in time are seen before the timer
//! fires.
//!
//! # A read that was cancelled
//!
//! tokio's traits do not show whether a poll continues the read that waited or begins another one. Two rules follow:
//!
//! - A read that comes back before the time is up continues the time. Otherwise a program that cancels its read for each
//!   heartbeat would never notice a silent peer.
//! - A read that comes back long after the time was up may be a new one, so it gets the whole time once more. The timer
//!   would have woken a read that still waited, so "long after" means later than an eighth of the limit. It gets the time
//!   only once more, because a runtime that was held up also polls late.
//!
//! Next: [`timer`](super::timer), the timer beneath.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime;
use tokio::time::Instant;

use super::timer::{Timer, now};

/// Measures for how long the reader of a link has received nothing.
#[derive(Default)]
pub(super) struct IdleTimer {
    /// `None` unless a read has waited since the last byte.
    silence: Option<Silence>,
    /// Fires at the end of this silence, or earlier if a byte came since it was set.
    timer: Option<Timer>,
}

/// A time in which nothing was received.
#[derive(Clone, Copy)]
struct Silence {
    /// The link, which a silence does not outlive.
    generation: u64,
    /// The first wait since the last byte, or the wait that got the whole time once more.
    began: Instant,
    /// Whether a late read got the whole time once more.
    is_extended: bool,
}

impl IdleTimer {
    /// Something was received.
    pub(super) fn reset(&mut self) {
        self.silence = None;
    }

    /// A read waits on this link. Ready when nothing was received for `limit`.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        generation: u64,
        limit: Duration,
        runtime: &runtime::Handle,
    ) -> Poll<()> {
        let begin = |is_extended| Silence { generation, began: now(runtime), is_extended };
        // rule: silence-goes-on-within-a-link
        let current = self.silence.filter(|silence| silence.generation == generation);
        let mut silence = current.unwrap_or_else(|| begin(false));
        loop {
            self.silence = Some(silence);
            // A deadline beyond the range of the clock never comes.
            let Some(deadline) = silence.began.checked_add(limit) else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Timer::new(deadline, runtime));
            ready!(timer.poll(cx));
            let is_due = timer.deadline >= deadline;
            self.timer = None;
            if !is_due {
                continue;
            }
            let is_late = now(runtime) > deadline + limit / 8;
            if silence.is_extended || !is_late {
                self.silence = None;
                return Poll::Ready(());
            }
            silence = begin(true);
        }
    }
}
