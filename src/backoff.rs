//! How long to wait between dials.
//!
//! The delays are drawn from a window that grows with the outage, in one of two [shapes](Shape). In both, the jitter goes down
//! from the cap and not up to it, so delays stay spread out however long the outage lasts and never exceed the cap.
//!
//! A dial after a *stable* link has ended is [jitter](Backoff::jitter): nothing says yet that the peer is in
//! trouble, so the delay is a random part of `retry_min`, just enough to spread a crowd of clients.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use rand::rngs::{SmallRng, SysRng};
use rand::{RngExt, SeedableRng};

/// How the window of the delays grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// For peers that many depend on: the n-th delay is uniform in `floor ..= min(cap, floor * 2^n)`. This is the "full
    /// jitter" of the AWS Architecture Blog ("Exponential Backoff And Jitter", 2015) with a floor.
    Spread,
    /// For a client to which each moment counts: the first three delays are uniform in `floor ..= floor * 2`, and then both
    /// ends of the window grow 2.5-fold. This is the "equal jitter" of the same article. An outage of some length may end at
    /// any moment between two dials; equal gaps make the time until the next dial shorter than unequal ones of the same
    /// mean, and gaps that grow later, from a larger first one, than gaps that double from a small one.
    #[cfg(feature = "postgres")]
    Eager,
}

/// An endless iterator of delays.
#[derive(Debug)]
pub(crate) struct Backoff {
    shape: Shape,
    floor: Duration,
    cap: Duration,
    /// How many were drawn since it began or was reset, as far as that matters.
    drawn: u8,
    /// Upper end of the window that was last drawn from.
    reach: Duration,
    random: SmallRng,
}

impl Backoff {
    /// Delays between `floor` and `cap`, seeded by the operating system unless a seed is given. `floor` must not exceed
    /// `cap`.
    pub(crate) fn new(shape: Shape, floor: Duration, cap: Duration, seed: Option<u64>) -> Self {
        debug_assert!(floor <= cap);
        let random = seed.map_or_else(random_by_the_system, SmallRng::seed_from_u64);
        Self { shape, floor, cap, drawn: 0, reach: floor, random }
    }

    /// Starts over: the next delay is drawn from the first window again.
    pub(crate) fn reset(&mut self) {
        (self.drawn, self.reach) = (0, self.floor);
    }

    /// The delay before the first dial after a stable link: a random part of the floor.
    pub(crate) fn jitter(&mut self) -> Duration {
        self.random.random_range(Duration::ZERO..=self.floor)
    }
}

fn random_by_the_system() -> SmallRng {
    // The system's generator can fail early in boot; the hasher's keys are random enough to spread clients.
    SmallRng::try_from_rng(&mut SysRng).unwrap_or_else(|_| SmallRng::seed_from_u64(RandomState::new().hash_one(0)))
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.drawn = self.drawn.saturating_add(1);
        let reach = match (self.shape, self.drawn) {
            (Shape::Spread, _) => self.reach.saturating_mul(2),
            #[cfg(feature = "postgres")]
            (Shape::Eager, ..=3) => self.floor.saturating_mul(2),
            #[cfg(feature = "postgres")]
            (Shape::Eager, _) => self.reach.saturating_mul(2).saturating_add(self.reach / 2),
        };
        self.reach = reach.min(self.cap);
        let floor = match self.shape {
            Shape::Spread => self.floor,
            #[cfg(feature = "postgres")]
            Shape::Eager => self.floor.max(self.reach / 2),
        };
        Some(self.random.random_range(floor..=self.reach))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn seeded(floor: Duration, cap: Duration, seed: u64) -> Backoff {
        Backoff::new(Shape::Spread, floor, cap, Some(seed))
    }

    #[cfg(feature = "postgres")]
    fn eager(floor: Duration, cap: Duration, seed: u64) -> Backoff {
        Backoff::new(Shape::Eager, floor, cap, Some(seed))
    }

    fn of_all_shapes(floor: Duration, cap: Duration) -> Vec<Backoff> {
        vec![
            seeded(floor, cap, 3),
            #[cfg(feature = "postgres")]
            eager(floor, cap, 3),
        ]
    }

    #[test]
    fn window_doubles_from_the_floor_to_the_cap() {
        for seed in 0..1_000 {
            let mut delays = seeded(S, 60 * S, seed);
            for reach in [2, 4, 8, 16, 32, 60, 60, 60] {
                let delay = delays.next().unwrap();
                assert!(S <= delay && delay <= reach * S, "{delay:?} is outside 1s..={reach}s");
            }
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn eager_window_stays_for_three_delays_and_then_grows_at_both_ends() {
        for seed in 0..1_000 {
            let mut delays = eager(100 * MS, 10 * S, seed);
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

    #[test]
    fn every_delay_is_spread_over_its_window() {
        // 1,000 clients; at every draw, the cap included, each quarter of the window gets its share.
        let mut clients: Vec<_> = (0..1_000).map(|seed| seeded(S, 60 * S, seed)).collect();
        for reach in [2.0_f64, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let mut quarters = [0; 4];
            for client in &mut clients {
                let position = (client.next().unwrap().as_secs_f64() - 1.0) / (reach - 1.0);
                quarters[((position * 4.0) as usize).min(3)] += 1;
            }
            assert!(quarters.iter().all(|&n| n > 180), "reach {reach} s: {quarters:?}");
        }
    }

    #[test]
    fn prompt_delay_is_spread_below_the_floor() {
        let mut quarters = [0; 4];
        for seed in 0..1_000 {
            let delay = seeded(S, 60 * S, seed).jitter();
            assert!(delay <= S);
            quarters[((delay.as_secs_f64() * 4.0) as usize).min(3)] += 1;
        }
        assert!(quarters.iter().all(|&n| n > 180), "{quarters:?}");
    }

    #[test]
    fn equal_seeds_repeat_exactly_and_systems_seeds_differ() {
        let draw = |backoff: Backoff| backoff.take(20).collect::<Vec<_>>();
        assert_eq!(draw(seeded(MS, S, 7)), draw(seeded(MS, S, 7)));
        assert_ne!(draw(seeded(MS, S, 7)), draw(seeded(MS, S, 8)));
        assert_ne!(draw(Backoff::new(Shape::Spread, MS, S, None)), draw(Backoff::new(Shape::Spread, MS, S, None)));
    }

    #[test]
    fn reset_goes_back_to_the_first_window() {
        let mut delays = seeded(S, 60 * S, 1);
        delays.by_ref().take(100).for_each(drop);
        delays.reset();
        assert!(delays.next().unwrap() <= 2 * S);
    }

    #[test]
    fn any_setting_and_any_number_of_draws_stay_within_the_bounds() {
        let extremes = [Duration::from_nanos(1), MS, S, Duration::MAX / 2, Duration::MAX];
        for floor in extremes {
            for cap in extremes.into_iter().filter(|&cap| floor <= cap) {
                for mut delays in of_all_shapes(floor, cap) {
                    for delay in delays.by_ref().take(10_000) {
                        assert!(floor <= delay && delay <= cap, "{delay:?} for {floor:?}..={cap:?}");
                    }
                    assert!(delays.jitter() <= floor);
                }
            }
        }
    }
}
