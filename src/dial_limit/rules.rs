//! The rules of a limit: how many dials are under way, and when the next one may begin.
//!
//! They are pure: the caller gives the time, and asks again when it has come. Dials are spaced evenly. In any second, from
//! any moment on, at most `per_second` of them begin.
//!
//! A timer is late by a millisecond or more. If that time were lost, a limit of thousands a second would never be reached.
//! So a dial that is up to [`LATE`] behind its time does not delay the next one, and the spacing is wider by as much, so that
//! no second has more than its share.
//!
//! A hundred processes lose a server in the same moment. Each would dial at once, and then all in step. So after a quiet time, the
//! second dial is later by a part of the spacing that differs from limit to limit. Next: `queue.rs`, which asks for the dial in front.

use std::time::Duration;

/// By how much a dial may be late without a delay for the next one: a hundredth of a second, which is what the rate loses.
const LATE: Duration = Duration::from_millis(10);

/// One limit, and the dials that count against it.
#[derive(Debug)]
pub(crate) struct Rules {
    /// How many dials may be under way; at least 1.
    at_once: usize,
    /// The time between two dials that are spaced evenly.
    spacing: Duration,
    /// By how much the second dial after a quiet time is later; less than the spacing.
    phase: Duration,
    /// How many dials are under way.
    dialing: usize,
    /// When the next dial may begin.
    due: Duration,
}

/// When a dial may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Now: it has begun, and counts.
    Now,
    /// After this time, if nothing else begins first.
    After(Duration),
    /// When another dial has ended.
    AfterADial,
}

impl Rules {
    /// Neither number may be zero. `phase` is a part of the spacing, from 0 to 1; at random, so that limits do not dial in step.
    pub(crate) fn new(at_once: usize, per_second: u32, phase: f64) -> Self {
        debug_assert!(at_once > 0 && per_second > 0);
        let second = (Duration::from_secs(1) + LATE).as_nanos() as u64;
        // Rounded up: a second never has room for one more.
        let spacing = Duration::from_nanos(second.div_ceil(u64::from(per_second.max(1))));
        Self { at_once, spacing, phase: spacing.mul_f64(phase), dialing: 0, due: Duration::ZERO }
    }

    /// Begins a dial, if one may begin now. Times count from any moment, the same for each call.
    pub(crate) fn begin(&mut self, now: Duration) -> Turn {
        if self.dialing >= self.at_once {
            return Turn::AfterADial;
        }
        // Further away than that, the clock has stepped back: the clocks of two runtimes may differ, if one is paused.
        self.due = self.due.min(now + self.phase + self.spacing);
        let wait = self.due.saturating_sub(now);
        if !wait.is_zero() {
            return Turn::After(wait);
        }
        let is_rested = self.due + self.spacing + LATE <= now;
        let phase = if is_rested { self.phase } else { Duration::ZERO };
        self.due = self.due.max(now.saturating_sub(LATE)) + phase + self.spacing;
        self.dialing += 1;
        Turn::Now
    }

    /// A dial has ended, however it went.
    pub(crate) fn end(&mut self) {
        self.dialing = self.dialing.saturating_sub(1);
    }

    /// How many dials are under way.
    pub(crate) fn dialing(&self) -> usize {
        self.dialing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    /// Begins as many dials as it can until `end`, and ends each at once. A timer is late by up to `late`. Returns when
    /// they began.
    fn times(rules: &mut Rules, mut now: Duration, end: Duration, late: Duration) -> Vec<Duration> {
        let mut times = Vec::new();
        while now < end {
            match rules.begin(now) {
                Turn::Now => {
                    times.push(now);
                    rules.end();
                }
                Turn::After(wait) => now += wait + late,
                Turn::AfterADial => panic!("no dial is under way"),
            }
        }
        times
    }

    /// The most that begin within a second, whenever that second begins.
    fn busiest_second(times: &[Duration]) -> usize {
        let within = |(index, from): (usize, &Duration)| times.partition_point(|time| *time < *from + S) - index;
        times.iter().enumerate().map(within).max().unwrap_or(0)
    }

    #[test]
    fn no_second_has_more_than_its_share_and_hardly_less() {
        for per_second in [1, 2, 7, 50, 99, 100, 199, 250, 1_000, 3_333] {
            for phase in [0.0, 0.5, 0.999] {
                // A quiet time before does not add up.
                let times = times(&mut Rules::new(1, per_second, phase), 100 * S, 110 * S, Duration::ZERO);
                let (most, share) = (busiest_second(&times), per_second as usize);
                assert!(most <= share, "{most} in a second, of {share}");
                assert!(times.len() + 1 >= 10 * share * 98 / 100, "{} in ten seconds, of {share}", times.len());
            }
        }
    }

    #[test]
    fn burst_after_a_quiet_time_is_one_dial_and_those_of_ten_milliseconds() {
        for (per_second, burst) in [(1, 1), (10, 1), (100, 1), (101, 2), (1_000, 10), (50_000, 496)] {
            let mut rules = Rules::new(usize::MAX, per_second, 0.0);
            for now in [S, 3 * S, 1_000_000 * S] {
                let begun = (0..10_000).take_while(|_| rules.begin(now) == Turn::Now).count();
                assert_eq!(begun, burst, "{per_second} a second, at {now:?}");
            }
        }
    }

    #[test]
    fn late_timers_do_not_lower_the_rate() {
        // A timer of tokio that is armed for less than a millisecond takes a whole one, and perhaps two.
        for per_second in [50, 500, 1_000, 5_000, 20_000] {
            let times = times(&mut Rules::new(1, per_second, 0.0), S, 3 * S, 2 * MS);
            assert!(times.len() >= 2 * per_second as usize * 98 / 100, "{} in 2 s, of {per_second}", times.len());
            assert!(busiest_second(&times) <= per_second as usize);
        }
    }

    #[test]
    fn dials_are_spaced_evenly() {
        let times = times(&mut Rules::new(1, 4, 0.0), S, 3 * S, Duration::ZERO);
        assert_eq!(times.len(), 8);
        // The first one is never late.
        assert_eq!(times[1] - times[0], (S + LATE) / 4 - LATE);
        assert!(times.windows(2).skip(1).all(|pair| pair[1] - pair[0] == (S + LATE) / 4), "{times:?}");
    }

    #[test]
    fn limits_that_rested_together_do_not_dial_in_step() {
        let second = |phase| times(&mut Rules::new(1, 1, phase), 100 * S, 110 * S, Duration::ZERO)[..3].to_vec();
        let spacing = S + LATE;
        for phase in [0.0, 0.25, 0.75] {
            let began = 100 * S;
            let expected = began + spacing.mul_f64(1.0 + phase) - LATE;
            assert_eq!(second(phase), [began, expected, expected + spacing], "{phase}");
        }
    }

    #[test]
    fn as_many_are_under_way_as_may_be_and_the_next_begins_when_one_has_ended() {
        let mut rules = Rules::new(2, u32::MAX, 0.0);
        assert_eq!([1, 2, 3].map(|n| rules.begin(n * S)), [Turn::Now, Turn::Now, Turn::AfterADial]);
        assert_eq!(rules.dialing(), 2);
        rules.end();
        assert_eq!([4, 5].map(|n| rules.begin(n * S)), [Turn::Now, Turn::AfterADial]);
    }

    #[test]
    fn dial_that_has_to_wait_for_another_takes_no_turn_of_the_second() {
        let mut rules = Rules::new(1, 1, 0.0);
        assert_eq!(rules.begin(S), Turn::Now);
        assert_eq!([2, 3, 4].map(|n| rules.begin(n * S)), [Turn::AfterADial; 3]);
        rules.end();
        assert_eq!(rules.begin(4 * S), Turn::Now);
    }

    #[test]
    fn clock_that_steps_back_holds_nobody_up_for_longer_than_one_spacing() {
        let mut rules = Rules::new(9, 10, 0.0);
        assert_eq!(rules.begin(1_000_000 * S), Turn::Now);
        assert_eq!(rules.begin(S), Turn::After(101 * MS));
        assert_eq!(rules.begin(S + 101 * MS), Turn::Now);
        assert_eq!(rules.begin(1_000_001 * S), Turn::Now);
    }

    #[test]
    fn end_without_a_begin_counts_for_nothing() {
        let mut rules = Rules::new(1, 1, 0.0);
        rules.end();
        assert_eq!([rules.begin(S), rules.begin(2 * S)], [Turn::Now, Turn::AfterADial]);
    }

    #[test]
    fn largest_and_smallest_numbers_work() {
        let mut rules = Rules::new(usize::MAX, u32::MAX, 0.0);
        assert!((0..1_000_000).all(|_| rules.begin(S) == Turn::Now));
        let mut rules = Rules::new(1, 1, 0.0);
        assert_eq!(rules.begin(Duration::ZERO), Turn::Now);
        rules.end();
        assert_eq!(rules.begin(Duration::from_nanos(1)), Turn::After(S + LATE - Duration::from_nanos(1)));
    }
}
