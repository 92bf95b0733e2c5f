//! The delays between the dials of a connection: those of the backoff, or those that the program yields.
//!
//! Next: [`Backoff`], the window from which the crate's own are drawn; then [`rules`](super::rules), which decide that there
//! is a delay.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::panics::catch;

/// The shortest delay of a schedule whose program sets no `retry_min`: a schedule of zeros must not dial in a loop.
const SHORTEST: Duration = Duration::from_millis(1);

/// The delays of a connection.
pub(crate) struct Delays {
    /// Draws the delays, unless there is a schedule.
    backoff: Backoff,
    /// On the heap, as most connections have none.
    schedule: Option<Box<Schedule>>,
}

/// The delays of the program, for [`Builder::backoff`](crate::Builder::backoff).
pub(crate) struct Schedule {
    /// Called once for each outage.
    make: Box<dyn FnMut() -> DelaysOfOutage + Send>,
    /// What is left of the present outage; `None` before its first delay.
    left: Option<DelaysOfOutage>,
    /// Whether the delays are used as they are.
    is_exact: bool,
    /// The bounds that the program has set, if any.
    bounds: (Option<Duration>, Option<Duration>),
}

/// The delays of one outage.
type DelaysOfOutage = Box<dyn Iterator<Item = Duration> + Send>;

impl Delays {
    /// The delays of this schedule, or else of the backoff.
    pub(crate) fn new(backoff: Backoff, schedule: Option<Box<Schedule>>) -> Self {
        Self { backoff, schedule }
    }

    /// `retry_min`.
    pub(super) fn shortest(&self) -> Duration {
        self.backoff.shortest()
    }

    /// `retry_max`.
    pub(super) fn longest(&self) -> Duration {
        self.backoff.longest()
    }

    /// The delay before the first redial after a stable link; later ones start over from it. `None`: there is none.
    ///
    /// # Errors
    ///
    /// The message of a panic of the schedule. The next delay is then the first of a new schedule.
    pub(super) fn start_over(&mut self) -> Result<Option<Duration>, String> {
        self.backoff.reset();
        match &mut self.schedule {
            Some(schedule) => {
                schedule.left = None;
                schedule.next(&mut self.backoff)
            }
            None => Ok(Some(self.backoff.first_delay())),
        }
    }

    /// The next delay; `None` after the last of a schedule.
    ///
    /// # Errors
    ///
    /// As for [`start_over`](Self::start_over).
    pub(super) fn next(&mut self) -> Result<Option<Duration>, String> {
        match &mut self.schedule {
            Some(schedule) => schedule.next(&mut self.backoff),
            None => Ok(self.backoff.next()),
        }
    }

    /// A delay that the program asks for, and up to a quarter more. At least the shortest.
    pub(super) fn after(&mut self, delay: Duration) -> Duration {
        let delay = delay.max(self.shortest());
        self.backoff.random(delay..=delay.saturating_add(delay / 4))
    }
}

impl Schedule {
    /// A schedule that calls `make` for each outage.
    pub(crate) fn new<I>(mut make: impl FnMut() -> I + Send + 'static, is_exact: bool) -> Self
    where
        I: IntoIterator<Item = Duration>,
        I::IntoIter: Send + 'static,
    {
        let make = Box::new(move || Box::new(make().into_iter().fuse()) as DelaysOfOutage);
        Self { make, left: None, is_exact, bounds: (None, None) }
    }

    /// The same, with each delay moved into these bounds.
    pub(crate) fn within(self, min: Option<Duration>, max: Option<Duration>) -> Self {
        Self { bounds: (min, max), ..self }
    }

    /// The next delay.
    fn next(&mut self, random: &mut Backoff) -> Result<Option<Duration>, String> {
        let left = self.left.take();
        let delay = catch(|| {
            let mut left = left.unwrap_or_else(|| (self.make)());
            let delay = left.next();
            self.left = Some(left);
            delay
        })?;
        let (min, max) = (self.bounds.0.unwrap_or(SHORTEST), self.bounds.1.unwrap_or(Duration::MAX));
        Ok(delay.map(|delay| {
            // Never longer than the program says: "equal jitter", as in `Jitter::Equal`.
            let drawn = if self.is_exact { delay } else { random.random(delay / 2..=delay) };
            drawn.clamp(min, max)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Jitter;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn backoff() -> Backoff {
        Backoff::new(Jitter::Full, S, 60 * S, Some(7))
    }

    fn exact<const N: usize>(delays: [Duration; N]) -> Schedule {
        Schedule::new(move || delays, true)
    }

    #[test]
    fn schedule_is_followed_to_its_end_and_starts_over_after_a_stable_link() {
        let mut delays = Delays::new(backoff(), Some(Box::new(exact([S, 3 * S]))));
        for _ in 0..2 {
            assert_eq!(delays.start_over(), Ok(Some(S)));
            assert_eq!(delays.next(), Ok(Some(3 * S)));
            assert_eq!(delays.next(), Ok(None));
            assert_eq!(delays.next(), Ok(None), "an end is an end");
        }
    }

    #[test]
    fn delays_of_a_schedule_are_spread_below_it_and_kept_within_the_bounds() {
        let schedule = || Schedule::new(|| std::iter::repeat(10 * S), false);
        let mut delays = Delays::new(backoff(), Some(Box::new(schedule())));
        let drawn: Vec<_> = (0..1_000).map(|_| delays.next().unwrap().unwrap()).collect();
        assert!(drawn.iter().all(|delay| (5 * S..=10 * S).contains(delay)));
        assert!(drawn.iter().any(|delay| *delay < 6 * S) && drawn.iter().any(|delay| *delay > 9 * S));
        let mut delays = Delays::new(backoff(), Some(Box::new(schedule().within(Some(7 * S), Some(8 * S)))));
        let drawn: Vec<_> = (0..1_000).map(|_| delays.next().unwrap().unwrap()).collect();
        assert!(drawn.iter().all(|delay| (7 * S..=8 * S).contains(delay)));
    }

    #[test]
    fn schedule_of_zeros_does_not_dial_in_a_loop_and_a_very_long_one_is_no_error() {
        let mut delays = Delays::new(backoff(), Some(Box::new(exact([Duration::ZERO, Duration::MAX]))));
        assert_eq!(delays.next(), Ok(Some(SHORTEST)));
        assert_eq!(delays.next(), Ok(Some(Duration::MAX)));
    }

    #[test]
    fn delay_that_is_asked_for_is_never_shortened_and_spread_above_it() {
        let mut delays = Delays::new(backoff(), None);
        let drawn: Vec<_> = (0..1_000).map(|_| delays.after(100 * S)).collect();
        assert!(drawn.iter().all(|delay| (100 * S..=125 * S).contains(delay)));
        assert!(drawn.iter().any(|delay| *delay < 105 * S) && drawn.iter().any(|delay| *delay > 120 * S));
        assert!(delays.after(Duration::ZERO) >= S);
        assert_eq!(delays.after(Duration::MAX), Duration::MAX);
    }

    #[test]
    fn panic_of_a_schedule_is_an_error_and_the_next_delay_is_the_first_of_a_new_one() {
        let mut calls = 0;
        let make = move || {
            calls += 1;
            assert_ne!(calls, 1, "the first panics");
            [10 * MS, 20 * MS]
        };
        let mut delays = Delays::new(backoff(), Some(Box::new(Schedule::new(make, true))));
        assert!(delays.start_over().is_err());
        assert_eq!(delays.next(), Ok(Some(10 * MS)));
        assert_eq!(delays.next(), Ok(Some(20 * MS)));
    }
}
