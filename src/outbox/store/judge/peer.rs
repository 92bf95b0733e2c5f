//! What the peer knows, and what a fate must not contradict.

use super::super::Keep;
use super::Judge;
use crate::outbox::Fate;

/// What the peer has seen of one message, on all links.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peer {
    /// On how many links it got a first byte.
    pub(super) begun: u32,
    /// On how many links it got all bytes.
    pub(super) whole: u32,
    /// Whether its kernel has acknowledged all bytes on some link.
    pub(super) acknowledged: bool,
    /// How often it has answered.
    pub(super) answered: u32,
}

impl<L> Judge<L> {
    /// What a fate promises about the peer.
    pub(super) fn check_with_peer(&self, number: u64, fate: &Fate) {
        let (peer, keep) = (self.peer[&number], self.model.rules.keep);
        match fate {
            Fate::Answered => assert_eq!((peer.answered, keep), (1, Keep::Unanswered), "{number}"),
            // By an answer, or by the encoder, and that at any time.
            Fate::Rejected(_) => {}
            Fate::Written if self.model.has_counted => assert!(peer.whole > 0, "{number}"),
            Fate::Written => assert!(peer.whole > 0 && peer.acknowledged, "{number}"),
            Fate::InDoubt => assert!(peer.begun > 0 && peer.answered == 0, "{number}"),
            Fate::Dropped | Fate::Expired | Fate::Unsent => assert_eq!(peer.whole, 0, "{number} {fate}"),
        }
        match keep {
            Keep::Never => assert!(peer.begun <= 1, "{number} was begun {} times", peer.begun),
            Keep::Interrupted => {
                assert!(peer.whole <= 1 || self.model.has_streams, "{number} came {} times", peer.whole);
            }
            Keep::Unacknowledged | Keep::Unanswered => {}
        }
    }
}
