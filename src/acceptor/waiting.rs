//! The clock of one direction of a connection: it runs while an operation waits for the peer.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep_until};

use super::patience::Patience;

#[derive(Debug)]
pub(super) struct Waiting {
    patience: Patience,
    since: Option<Instant>,
    /// Set for the deadline or earlier: a deadline only moves away. Each direction has its own, as two tasks may wait.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, since: None, alarm: None }
    }

    /// The operation has to wait. Whether it has waited for too long; if not, the task is woken when it has.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(left) = self.patience.left() else { return false };
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let Some(deadline) = since.checked_add(left) else { return false };
        if now >= deadline {
            return true;
        }
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while alarm.as_mut().poll(cx).is_ready() {
            // It was set for an earlier wait.
            if Instant::now() >= deadline {
                return true;
            }
            alarm.as_mut().reset(deadline);
        }
        false
    }

    /// The operation does not wait any more. Whether it had to.
    pub(super) fn end(&mut self) -> bool {
        let Some(since) = self.since.take() else { return false };
        self.patience.spend(since.elapsed());
        true
    }

    pub(super) fn earn(&mut self, bytes: usize) {
        self.patience.earn(bytes);
    }

    /// All patience is back, for an operation that is waiting now, too.
    pub(super) fn renew(&mut self) {
        if self.since.is_some() {
            self.end();
            self.since = Some(Instant::now());
        }
        self.patience.renew();
    }

    pub(super) fn first_has_come(&mut self) {
        self.patience.first_has_come();
    }
}
