//! When a client dials again, by each law. Times are in nanoseconds.
//!
//! | law | source |
//! |---|---|
//! | perconn | `src/backoff.rs`, and the first delay of `src/actor/rules.rs` |
//! | goperconn | `goperconn.go`: a pause of 1 s after a break and after the first failure; it doubles up to 1 min |
//! | stubborn-io | `ExpBackoffStrategy::default()` of the crate itself: 4 s, doubled up to 30 min, 5 % of jitter |
//! | gRPC | `doc/connection-backoff.md`: a dial at once, then 1 s, times 1.6 up to 2 min, 20 % of jitter, from dial to dial |
//! | full jitter | AWS Architecture Blog, 2015: uniform in 0 to 1 s, doubled up to 1 min |
//!
//! Next: `src/backoff.rs`.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use stubborn_io::strategies::{ExpBackoffIter, ExpBackoffStrategy};

use crate::backoff::{Backoff, Jitter};
use crate::simulation::S;

/// A law of redials.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Law {
    /// With these delays.
    Perconn {
        min: u64,
        max: u64,
    },
    Goperconn,
    StubbornIo,
    Grpc,
    FullJitter,
}

impl Law {
    /// With the default delays.
    pub(crate) const PERCONN: Self = Self::Perconn { min: S, max: 60 * S };

    /// One client.
    pub(crate) fn client(self, seed: u64) -> Client {
        let random = || SmallRng::seed_from_u64(seed);
        match self {
            Self::Perconn { min, max } => {
                let [min, max] = [min, max].map(Duration::from_nanos);
                Client::Perconn(Backoff::new(Jitter::Full, min, max, Some(seed)))
            }
            Self::Goperconn => Client::Goperconn { pause: S },
            Self::StubbornIo => Client::StubbornIo(Box::new(ExpBackoffStrategy::default().with_seed(seed).into_iter())),
            Self::Grpc => Client::Grpc { backoff: S as f64, not_before: 0, random: random() },
            Self::FullJitter => Client::FullJitter { upper: S, random: random() },
        }
    }
}

/// A client between two dials.
pub(crate) enum Client {
    Perconn(Backoff),
    Goperconn { pause: u64 },
    StubbornIo(Box<ExpBackoffIter>),
    Grpc { backoff: f64, not_before: u64, random: SmallRng },
    FullJitter { upper: u64, random: SmallRng },
}

impl Client {
    /// The time of the first dial after a stable link was lost.
    pub(crate) fn lost(&mut self, now: u64) -> u64 {
        match self {
            Self::Perconn(backoff) => now + nanoseconds(backoff.first_delay()),
            Self::Goperconn { .. } => now + S,
            Self::Grpc { not_before, .. } => {
                *not_before = now + S;
                now
            }
            Self::StubbornIo(_) | Self::FullJitter { .. } => self.failed(now),
        }
    }

    /// The time of the next dial, after one that has failed now.
    pub(crate) fn failed(&mut self, now: u64) -> u64 {
        match self {
            Self::Perconn(backoff) => now + backoff.next().map_or(0, nanoseconds),
            Self::Goperconn { pause } => {
                let next = now + *pause;
                *pause = (*pause * 2).min(60 * S);
                next
            }
            Self::StubbornIo(delays) => now + delays.next().map_or(0, nanoseconds),
            // The deadline was set when the last dial began. Then the next dial begins, and sets the next one.
            Self::Grpc { backoff, not_before, random } => {
                let next = now.max(*not_before);
                *backoff = (*backoff * 1.6).min(120.0 * S as f64);
                *not_before = next + (*backoff * random.random_range(0.8..=1.2)) as u64;
                next
            }
            Self::FullJitter { upper, random } => {
                let next = now + random.random_range(0..=*upper);
                *upper = (*upper * 2).min(60 * S);
                next
            }
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos() as u64
}
