//! What all kinds of handle have in common, and the mischief that the program does with it.

use perconn::{Conn, ReadHalf, SharedConn, WriteHalf};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::play::{Phase, Play};
use crate::totals::{Count, count};

pub(crate) trait Handle: Send {
    /// Gives the link up. False if this kind of handle cannot.
    fn abandon(&mut self) -> bool;
    fn last_reported(&self) -> u64;
    /// The number of the newest link.
    fn generation(&self) -> u64;
    fn break_link(&self, generation: u64);
    fn dial_now(&self);
    /// Waits for a link.
    fn connected(&self) -> impl Future<Output = ()> + Send;
}

macro_rules! impl_handle {
    ($($handle:ty, $abandon:expr;)*) => { $(
        impl Handle for $handle {
            fn abandon(&mut self) -> bool {
                let abandon: fn(&mut Self) -> bool = $abandon;
                abandon(self)
            }

            fn last_reported(&self) -> u64 {
                self.last_reported()
            }

            fn generation(&self) -> u64 {
                self.generation()
            }

            fn break_link(&self, generation: u64) {
                self.break_link(generation);
            }

            fn dial_now(&self) {
                self.dial_now();
            }

            async fn connected(&self) {
                // If there will be no link, the next call says so, too.
                let _ = self.connected().await;
            }
        }
    )* };
}

impl_handle! {
    Conn, |conn| { conn.abandon(); true };
    ReadHalf, |half| { half.abandon(); true };
    WriteHalf, |half| { half.abandon(); true };
    SharedConn, |_| false;
}

/// Gives the link up, unless in the calm. Returns whether it did.
pub(crate) fn abandon(play: &Play, handle: &mut impl Handle) -> bool {
    let mut has_abandoned = false;
    play.break_by(|| has_abandoned = handle.abandon());
    if has_abandoned {
        count(Count::Abandons);
    }
    has_abandoned
}

/// Breaks the link now and then in the storm, or asks for a dial. Returns whether the handle has given its link up.
pub(crate) fn meddle(play: &Play, handle: &mut impl Handle, random: &mut SmallRng) -> bool {
    if play.phase() != Phase::Storm {
        return false;
    }
    match random.random_range(0..200) {
        0 => return abandon(play, handle),
        1 => {
            let generation = handle.generation();
            if play.break_by(|| handle.break_link(generation)) {
                count(Count::BreakLinks);
            }
        }
        2..=3 => {
            count(Count::DialNows);
            handle.dial_now();
        }
        _ => {}
    }
    false
}
