//! The clock of one direction of a connection: it runs while an operation waits for the peer.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::patience::Patience;

/// Who waits is woken by the alarm at the deadline, and comes within this time after it. Who comes later has not waited all
/// the while: the operation was given up, which nobody tells, and this is another.
const LATE: Duration = Duration::from_millis(100);

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
        let now = Instant::now();
        if self.was_given_up(now) {
            self.since = None;
            self.patience.renew();
        }
        let Some(left) = self.patience.left() else { return false };
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

    /// The operation does not wait any more.
    pub(super) fn end(&mut self) {
        if self.since.is_none() {
            return;
        }
        let now = Instant::now();
        let was_given_up = self.was_given_up(now);
        let Some(since) = self.since.take() else { return };
        match was_given_up {
            true => self.patience.renew(),
            false => self.patience.spend(now.duration_since(since)),
        }
    }

    fn was_given_up(&self, now: Instant) -> bool {
        let (Some(since), Some(left)) = (self.since, self.patience.left()) else { return false };
        now.duration_since(since) > left.saturating_add(LATE)
    }

    pub(super) fn earn(&mut self, bytes: usize) {
        self.patience.earn(bytes);
    }

    /// All patience is back, for an operation that is waiting now, too.
    pub(super) fn renew(&mut self) {
        if let Some(since) = self.since {
            let now = Instant::now();
            self.patience.spend(now.duration_since(since));
            self.since = Some(now);
        }
        self.patience.renew();
    }

    pub(super) fn first_has_come(&mut self) {
        self.patience.first_has_come();
    }
}
