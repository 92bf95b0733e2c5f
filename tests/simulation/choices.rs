//! The decisions of a schedule, from a seed or from the bytes of a fuzzer.
//!
//! Next: `schedule.rs`, which makes most of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A source of decisions that all parts of one schedule share.
///
/// Equal sources give equal schedules, as everything runs on one thread and in virtual time.
#[derive(Clone)]
pub struct Choices(Arc<Mutex<Source>>);

enum Source {
    Seed(SmallRng),
    /// When they are used up, every decision is the first option.
    Bytes(VecDeque<u8>),
}

impl Choices {
    pub fn from_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Source::Seed(SmallRng::seed_from_u64(seed)))))
    }

    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(Arc::new(Mutex::new(Source::Bytes(bytes.iter().copied().collect()))))
    }

    /// A number below `n`.
    pub fn below(&self, n: usize) -> usize {
        let number = match &mut *self.0.lock().unwrap() {
            Source::Seed(random) => random.next_u64() >> 8,
            Source::Bytes(bytes) => {
                let mut next = || u64::from(bytes.pop_front().unwrap_or(0));
                if n <= 256 { next() } else { next() << 8 | next() }
            }
        };
        usize::try_from(number % n as u64).unwrap()
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&self, percent: usize) -> bool {
        // The first option is "no", so that an empty input of a fuzzer injects no faults.
        100 - percent <= self.below(100)
    }

    /// One of `from`.
    pub fn pick<T: Clone>(&self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// A time of any order of magnitude from zero to `max`.
    pub fn time(&self, max: Duration) -> Duration {
        max / (1 << self.below(10)) * self.below(9) as u32 / 8
    }
}
