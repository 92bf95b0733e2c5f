//! Random links that replay exactly.
//!
//! Next: [`trigger`](super::trigger), where a link is cut.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};

use super::plan::{Cut, Link};

/// How long the port is closed for a random refusal.
const REFUSAL: Duration = Duration::from_millis(10);

/// A random link is cut after fewer bytes than 2 to the power of this.
const MOST_BYTES_LOG2: u32 = 16;

impl Link {
    /// Random links without end, by the seed: the same seed gives the same links on every platform.
    ///
    /// | of 16 links | |
    /// |---|---|
    /// | 2 | are refused, for 10 ms |
    /// | 1 | is accepted and closed |
    /// | 1 | is accepted and reset |
    /// | 12 | pass, and are cut after 0 to 65,535 bytes in one of the two directions, small numbers as likely as large ones: half of them closed, half of them reset |
    ///
    /// None is stalled, as a client without a timeout would hang. Take as many as the test is to survive; after a script
    /// every link passes:
    ///
    /// ```
    /// use perconn::testing::{FaultProxy, Link};
    ///
    /// # let proxy = FaultProxy::start_blocking("127.0.0.1:1")?;
    /// let seed = 42; // print it, so that a failure can be played again
    /// proxy.script(Link::random_weather(seed).take(100));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn random_weather(seed: u64) -> impl Iterator<Item = Self> + Clone + Send + 'static {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        std::iter::repeat_with(move || Self::random(&mut random))
    }

    /// One random link.
    fn random(random: &mut impl Rng) -> Self {
        match random.random_range(0..16_u32) {
            0..2 => Self::refuse().lasting(REFUSAL),
            2 => Self::accept_and_close(),
            3 => Self::accept_and_reset(),
            _ => {
                let below = 1_u64 << random.random_range(0..=MOST_BYTES_LOG2);
                let bytes = random.random_range(0..below);
                let cut = if random.random_bool(0.5) { Cut::Close } else { Cut::Reset };
                if random.random_bool(0.5) {
                    Self::pass().cut_after(bytes, cut)
                } else {
                    Self::pass().cut_after_from_server(bytes, cut)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::proxy::plan::{Direction, Entry};
    use crate::testing::proxy::trigger::Place;

    #[test]
    fn same_seed_gives_the_same_links() {
        let text = |seed| format!("{:?}", Link::random_weather(seed).take(20).collect::<Vec<_>>());
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn links_are_the_same_on_every_platform() {
        let triggers: Vec<_> = Link::random_weather(42).take(3).map(|link| format!("{:?}", link.triggers)).collect();
        let expected = [
            "[(ToClient, Trigger { place: After(31), cut: Reset })]",
            "[(ToClient, Trigger { place: After(2), cut: Close })]",
            "[(ToServer, Trigger { place: After(11141), cut: Close })]",
        ];
        assert_eq!(triggers, expected);
    }

    #[test]
    fn shares_of_the_links_are_those_of_the_table() {
        let mut counts = [0; 7];
        for link in Link::random_weather(7).take(16_000) {
            let kind = match link.entry {
                Entry::Refuse(time) => usize::from(time != Duration::from_millis(10)),
                Entry::AcceptAnd(Cut::Close) => 2,
                Entry::AcceptAnd(Cut::Reset) => 3,
                Entry::AcceptAnd(_) => panic!("no client gets out of that: {link:?}"),
                Entry::Pass => {
                    let [(direction, trigger)] = &link.triggers[..] else { panic!("it is cut once: {link:?}") };
                    let Place::After(bytes) = trigger.place else { panic!("{link:?}") };
                    assert!(bytes < 65_536 && matches!(trigger.cut, Cut::Close | Cut::Reset));
                    counts[5] += usize::from(*direction == Direction::ToServer);
                    counts[6] += usize::from(trigger.cut == Cut::Reset);
                    4
                }
            };
            counts[kind] += 1;
        }
        for (count, expected) in counts.into_iter().zip([2000, 0, 1000, 1000, 12_000, 6000, 6000]) {
            assert!((expected * 9 / 10..=expected * 11 / 10).contains(&count), "{counts:?}");
        }
    }
}
