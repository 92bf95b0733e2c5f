//! How long a waiting read has received nothing.
//!
//! The time runs from the first wait since the last byte. The alarm is not set anew for each byte: when it goes off too
//! early, it is put off to where it belongs. Only the alarm decides, and not a look at the clock: the runtime looks at
//! its sockets and its timers in one turn, so that bytes which came in time are seen before the alarm is.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime;
use tokio::time::{Instant, Sleep, sleep_until};

/// The silence of a link, as its reader sees it.
#[derive(Default)]
pub(super) struct Silence {
    /// The link, and the first wait on it since the last byte.
    began: Option<(u64, Instant)>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    /// Something was received.
    pub(super) fn end(&mut self) {
        self.began = None;
    }

    /// A read waits on this link. Ready when nothing was received for `limit`.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        generation: u64,
        limit: Duration,
        runtime: &runtime::Handle,
    ) -> Poll<()> {
        // A timer and a clock of the connection's own runtime, whoever polls this handle.
        let _guard = runtime.enter();
        let now = Instant::now();
        let began = match self.began {
            // A read that still waits is polled when the alarm goes off. This one comes so late that it must be another.
            Some((link, began)) if link == generation && now - began <= limit.saturating_mul(2) => began,
            _ => now,
        };
        self.began = Some((generation, began));
        // A limit beyond all times is none.
        let Some(deadline) = began.checked_add(limit) else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if alarm.deadline() >= deadline {
                self.began = None;
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
    }
}
