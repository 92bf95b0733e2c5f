//! The clock of one direction of a connection: it runs while an operation waits for the peer.
//!
//! Tokio's traits do not show that a pending read or write was dropped. The clock infers it from the time: a waiting
//! task is woken at the deadline and polls soon after. Timing the connection instead, as servers without futures do,
//! would charge the peer for the time that the handler takes.
//!
//! Next: [`super::stream`], which has a clock for each direction.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::time_budget::TimeBudget;

/// How long after its deadline a waiting task may poll. One that polls later was not waiting: the operation was
/// dropped, and this is another one.
const WAKE_LATENCY: Duration = Duration::from_millis(100);

/// A [`TimeBudget`], and since when it is being spent.
#[derive(Debug)]
pub(super) struct WaitClock {
    /// The time that is left, without the present wait: that is taken off at its end.
    budget: TimeBudget,
    /// When the present wait began.
    since: Option<Instant>,
    /// Set for the deadline or earlier, as a deadline only ever moves away. Each direction has its own, because two
    /// tasks may wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl WaitClock {
    /// The clock stands still.
    pub(super) fn new(budget: TimeBudget) -> Self {
        Self { budget, since: None, timer: None }
    }

    /// Starts the clock, or lets it run on: the operation has to wait.
    ///
    /// `Ready` if it has waited for too long. Otherwise the task is woken when it has.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.was_abandoned(now) {
            self.since = None;
            self.budget.refill();
        }
        let Some(left) = self.budget.left() else { return Poll::Pending };
        let since = *self.since.get_or_insert(now);
        let Some(deadline) = since.checked_add(left) else { return Poll::Pending };
        if now >= deadline {
            return Poll::Ready(());
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            // It was set for an earlier wait.
            timer.as_mut().reset(deadline);
        }
    }

    /// Stops the clock and spends what it has measured: the operation no longer waits.
    pub(super) fn stop(&mut self) {
        if self.since.is_none() {
            return;
        }
        let now = Instant::now();
        let was_abandoned = self.was_abandoned(now);
        let Some(since) = self.since.take() else { return };
        match was_abandoned {
            true => self.budget.refill(),
            false => self.budget.spend(now.duration_since(since)),
        }
    }

    /// Whether the wait that the clock is measuring ended unseen: its task was woken at the deadline and did not poll.
    fn was_abandoned(&self, now: Instant) -> bool {
        let (Some(since), Some(left)) = (self.since, self.budget.left()) else { return false };
        now.duration_since(since) > left.saturating_add(WAKE_LATENCY)
    }

    /// Gives time back for bytes.
    pub(super) fn earn(&mut self, bytes: usize) {
        self.budget.earn(bytes);
    }

    /// Gives the whole budget back, also to an operation that is waiting now.
    pub(super) fn refill(&mut self) {
        if let Some(since) = self.since {
            let now = Instant::now();
            self.budget.spend(now.duration_since(since));
            self.since = Some(now);
        }
        self.budget.refill();
    }

    /// The first message has arrived in time.
    pub(super) fn first_arrived(&mut self) {
        self.budget.first_arrived();
    }
}
