//! The delays between dials.
//!
//! Each delay is drawn from a window that grows with the outage, with one of two kinds of [`Jitter`]. The window lies
//! below the longest delay and never above it. So delays stay spread out however long the outage lasts, and never
//! exceed the longest delay.
//!
//! The redial after a *stable* link uses [`Backoff::first_delay`] instead. Nothing suggests yet that the peer is in
//! trouble, so a random part of the shortest delay is enough to spread a crowd of clients. Next: `actor/delays.rs`,
//! which has the delays of the program beside these, and `actor/rules.rs`, which decides between the two.

use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::{SmallRng, SysRng};
use rand::{RngExt, SeedableRng};

/// How the window of the delays grows, by the terms of the AWS Architecture Blog ("Exponential Backoff And Jitter",
/// 2015).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Jitter {
    /// "Full jitter" with a minimum: the n-th delay is uniform in `min ..= min(max, min * 2^n)`.
    ///
    /// For peers with many clients, as the delays are spread as widely as possible.
    #[default]
    Full,
    /// "Equal jitter": the first delays are uniform in `min ..= min * 2`, then both ends of the window grow 2.5-fold. There are
    /// three first delays, or as many as `max` fits into 700 ms: a peer that bears many dials for good bears them at first, too,
    /// when most outages end.
    ///
    /// For clients that have to be back soon. An outage can end at any moment between two dials. For the same mean
    /// delay, equal delays make the wait from that moment to the next dial shorter than unequal ones. For the same
    /// reason the delays start larger and grow later than delays that double from a small one.
    #[cfg(feature = "postgres")]
    Equal,
}

/// An endless iterator of delays.
#[derive(Debug)]
pub(crate) struct Backoff {
    /// Which rule the window grows by.
    jitter: Jitter,
    /// The shortest delay, `retry_min`.
    min: Duration,
    /// The longest delay, `retry_max`.
    max: Duration,
    /// How many delays were drawn since the start or the last reset. Stops counting at 255.
    drawn: u8,
    /// The upper end of the last window.
    upper: Duration,
    /// Seeded once, so that a test with a fixed seed sees the same delays each time.
    random: SmallRng,
}

impl Backoff {
    /// Delays from `min` to `max`. `min` must not exceed `max`. Without a seed, the operating system gives one.
    pub(crate) fn new(jitter: Jitter, min: Duration, max: Duration, seed: Option<u64>) -> Self {
        debug_assert!(min <= max);
        let random = seed.map_or_else(seeded_by_system, SmallRng::seed_from_u64);
        Self { jitter, min, max, drawn: 0, upper: min, random }
    }

    /// The shortest delay.
    pub(crate) fn shortest(&self) -> Duration {
        self.min
    }

    /// The longest delay.
    pub(crate) fn longest(&self) -> Duration {
        self.max
    }

    /// Starts over: the next delay is drawn from the first window.
    pub(crate) fn reset(&mut self) {
        (self.drawn, self.upper) = (0, self.min);
    }

    /// A random delay in this range, with the same seed.
    pub(crate) fn random(&mut self, range: RangeInclusive<Duration>) -> Duration {
        self.random.random_range(range)
    }

    /// The delay before the first redial after a stable link: a random part of the shortest delay.
    pub(crate) fn first_delay(&mut self) -> Duration {
        self.random.random_range(Duration::ZERO..=self.min)
    }
}

/// How many delays of [`Jitter::Equal`] come before the window grows.
#[cfg(feature = "postgres")]
fn first_delays(max: Duration) -> u8 {
    let fit = Duration::from_millis(700).as_nanos() / max.as_nanos().max(1);
    fit.clamp(3, 50) as u8
}

/// A random generator with a seed from the operating system.
pub(crate) fn seeded_by_system() -> SmallRng {
    // The system's generator can fail early in boot. The keys of the hasher are random enough to spread clients.
    SmallRng::try_from_rng(&mut SysRng).unwrap_or_else(|_| SmallRng::seed_from_u64(RandomState::new().hash_one(0)))
}

/// Never ends: giving up is a matter of the rules.
impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.drawn = self.drawn.saturating_add(1);
        let upper = match (self.jitter, self.drawn) {
            (Jitter::Full, _) => self.upper.saturating_mul(2),
            #[cfg(feature = "postgres")]
            (Jitter::Equal, drawn) if drawn <= first_delays(self.max) => self.min.saturating_mul(2),
            #[cfg(feature = "postgres")]
            (Jitter::Equal, _) => self.upper.saturating_mul(2).saturating_add(self.upper / 2),
        };
        self.upper = upper.min(self.max); // rule: longest-delay
        let lower = match self.jitter {
            Jitter::Full => self.min,
            #[cfg(feature = "postgres")]
            Jitter::Equal => self.min.max(self.upper / 2),
        };
        Some(self.random.random_range(lower..=self.upper))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn full(min: Duration, max: Duration, seed: u64) -> Backoff {
        Backoff::new(Jitter::Full, min, max, Some(seed))
    }

    #[cfg(feature = "postgres")]
    fn equal(min: Duration, max: Duration, seed: u64) -> Backoff {
        Backoff::new(Jitter::Equal, min, max, Some(seed))
    }

    fn of_each_kind(min: Duration, max: Duration) -> Vec<Backoff> {
        vec![
            full(min, max, 3),
            #[cfg(feature = "postgres")]
            equal(min, max, 3),
        ]
    }

    #[test]
    fn window_doubles_from_the_shortest_to_the_longest_delay() {
        for seed in 0..1_000 {
            let mut delays = full(S, 60 * S, seed);
            for upper in [2, 4, 8, 16, 32, 60, 60, 60] {
                let delay = delays.next().unwrap();
                assert!(S <= delay && delay <= upper * S, "{delay:?} is outside 1s..={upper}s");
            }
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn window_of_equal_jitter_stays_for_three_delays_and_then_grows_at_both_ends() {
        for seed in 0..1_000 {
            let mut delays = equal(100 * MS, 10 * S, seed);
            for window in [100..=200, 100..=200, 100..=200, 250..=500, 625..=1_250, 1_562..=3_125, 3_906..=7_813] {
                let delay = delays.next().unwrap().as_millis();
                assert!(window.contains(&delay), "{delay} ms is outside {window:?}");
            }
            for _ in 0..3 {
                let delay = delays.next().unwrap();
                assert!(5 * S <= delay && delay <= 10 * S, "{delay:?} is outside 5s..=10s");
            }
            delays.reset();
            assert!(delays.next().unwrap() <= 200 * MS);
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn equal_jitter_has_as_many_first_delays_as_the_longest_fits_into_700_ms() {
        for (longest, expected) in [(1, 50), (50, 14), (100, 7), (150, 4), (234, 3), (700, 3), (60_000, 3)] {
            assert_eq!(first_delays(longest * MS), expected, "{longest} ms");
        }
        assert_eq!((first_delays(Duration::ZERO), first_delays(Duration::MAX)), (50, 3));
        for seed in 0..1_000 {
            let mut delays = equal(10 * MS, 100 * MS, seed);
            for window in [[10, 20]; 7].into_iter().chain([[25, 50], [50, 100], [50, 100]]) {
                let delay = delays.next().unwrap();
                assert!(window[0] * MS <= delay && delay <= window[1] * MS, "{delay:?} is outside {window:?} ms");
            }
        }
    }

    #[test]
    fn every_delay_is_spread_over_its_window() {
        // 1,000 clients. At every draw, those at the maximum included, each quarter of the window gets its share.
        let mut clients: Vec<_> = (0..1_000).map(|seed| full(S, 60 * S, seed)).collect();
        for upper in [2.0_f64, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let mut quarters = [0; 4];
            for client in &mut clients {
                let position = (client.next().unwrap().as_secs_f64() - 1.0) / (upper - 1.0);
                quarters[((position * 4.0) as usize).min(3)] += 1;
            }
            assert!(quarters.iter().all(|&n| n > 180), "window up to {upper} s: {quarters:?}");
        }
    }

    #[test]
    fn first_delay_is_spread_below_the_shortest_delay() {
        let mut quarters = [0; 4];
        for seed in 0..1_000 {
            let delay = full(S, 60 * S, seed).first_delay();
            assert!(delay <= S);
            quarters[((delay.as_secs_f64() * 4.0) as usize).min(3)] += 1;
        }
        assert!(quarters.iter().all(|&n| n > 180), "{quarters:?}");
    }

    #[test]
    fn equal_seeds_repeat_exactly_and_seeds_of_the_system_differ() {
        let draw = |backoff: Backoff| backoff.take(20).collect::<Vec<_>>();
        assert_eq!(draw(full(MS, S, 7)), draw(full(MS, S, 7)));
        assert_ne!(draw(full(MS, S, 7)), draw(full(MS, S, 8)));
        assert_ne!(draw(Backoff::new(Jitter::Full, MS, S, None)), draw(Backoff::new(Jitter::Full, MS, S, None)));
    }

    #[test]
    fn reset_goes_back_to_the_first_window() {
        let mut delays = full(S, 60 * S, 1);
        delays.by_ref().take(100).for_each(drop);
        delays.reset();
        assert!(delays.next().unwrap() <= 2 * S);
    }

    #[test]
    fn any_setting_and_any_number_of_draws_stay_within_the_bounds() {
        // Miri takes a millisecond for a draw.
        let draws = if cfg!(miri) { 100 } else { 10_000 };
        let extremes = [Duration::from_nanos(1), MS, S, Duration::MAX / 2, Duration::MAX];
        for min in extremes {
            for max in extremes.into_iter().filter(|&max| min <= max) {
                for mut delays in of_each_kind(min, max) {
                    for delay in delays.by_ref().take(draws) {
                        assert!(min <= delay && delay <= max, "{delay:?} for {min:?}..={max:?}");
                    }
                    assert!(delays.first_delay() <= min);
                    assert_eq!(delays.shortest(), min);
                }
            }
        }
    }
}
