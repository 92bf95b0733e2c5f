//! The weather: what holds for all links at the moment. Pure.
//!
//! Next: [`pump`](super::pump), which keeps to it.

use std::time::Duration;

use super::plan::{Direction, Link};

/// What holds for all links at the moment. The default: fair weather.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    /// The delay of each byte: the least, and how much chance adds at most.
    pub(super) latency: Option<(Duration, Duration)>,
    /// How many bytes pass in a second, on each link and in each direction.
    pub(super) bandwidth: Option<u64>,
    /// Nothing passes in either direction; the kernel's buffers fill.
    pub(super) is_stalled: bool,
    /// Nothing passes to the server, and the proxy's machine does not answer.
    black_hole_to_server: bool,
    /// The same to the client.
    black_hole_to_client: bool,
    /// The port is closed.
    pub(super) refuses: bool,
}

impl Conditions {
    /// Lets nothing through in this direction.
    pub(super) fn add_black_hole(&mut self, direction: Direction) {
        match direction {
            Direction::ToServer => self.black_hole_to_server = true,
            Direction::ToClient => self.black_hole_to_client = true,
        }
    }

    /// Whether this direction is a black hole.
    pub(super) fn is_black_hole(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToServer => self.black_hole_to_server,
            Direction::ToClient => self.black_hole_to_client,
        }
    }

    /// Whether nothing passes in this direction.
    pub(super) fn holds(&self, direction: Direction) -> bool {
        self.is_stalled || self.is_black_hole(direction)
    }

    /// Whether new links have to wait.
    pub(super) fn holds_dials(&self) -> bool {
        self.is_stalled || self.black_hole_to_server
    }

    /// The delay on this link.
    pub(super) fn latency(&self, plan: &Link) -> Option<(Duration, Duration)> {
        plan.latency.or(self.latency)
    }

    /// The speed of this link.
    pub(super) fn bandwidth(&self, plan: &Link) -> Option<u64> {
        plan.bandwidth.or(self.bandwidth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Direction; 2] = [Direction::ToServer, Direction::ToClient];

    #[test]
    fn black_hole_holds_one_direction_and_a_stall_both() {
        let mut conditions = Conditions::default();
        assert!(!BOTH.iter().any(|direction| conditions.holds(*direction)));
        conditions.add_black_hole(Direction::ToClient);
        assert!(conditions.holds(Direction::ToClient) && !conditions.holds(Direction::ToServer));
        assert!(!conditions.holds_dials());
        conditions.is_stalled = true;
        assert!(BOTH.iter().all(|direction| conditions.holds(*direction)));
        assert!(conditions.holds_dials() && !conditions.is_black_hole(Direction::ToServer));
    }

    #[test]
    fn what_a_link_says_of_itself_comes_first() {
        let slow = Duration::from_millis(9);
        let conditions = Conditions { latency: Some((slow, slow)), bandwidth: Some(10), ..Conditions::default() };
        let plan = Link::pass().bandwidth(20);
        assert_eq!((conditions.bandwidth(&plan), conditions.latency(&plan)), (Some(20), Some((slow, slow))));
        assert_eq!(conditions.bandwidth(&Link::pass()), Some(10));
    }
}
