//! The rules of an outbox, pure: no socket, no clock, no waker. Every accepted message is in exactly one place here.
//!
//! All messages without a fate are in a [`Log`], in the order of their numbers. Two numbers divide it:
//!
//! ```text
//! oldest ......... next_to_take ......... next_number
//!   on their way on      |    in the queue    |
//!   the present link     |                    |
//! ```
//!
//! To send all of it again after a break, `next_to_take` goes back to the oldest. Time is passed in, as the time since the
//! start of the outbox.
//!
//! Next: [`link`], what a link does to them; then [`flight`], where on the link each of them ends.

use std::time::Duration;

use self::ages::Ages;
use self::counts::Counts;
use self::flight::Flight;
use self::log::Log;
use self::memory::MemoryLog;
use self::pace::Pace;
pub(super) use self::run::Run;
use super::{Fate, Tally, WhenFull};

mod ages;
mod answers;
mod chunk;
mod counts;
mod flight;
#[cfg(test)]
mod judge;
mod link;
mod log;
mod memory;
mod pace;
mod run;
mod shrink;

/// How many bytes of messages are taken for one write, if there is more than one.
pub(super) const BATCH_BYTES: usize = 64 * 1024;

/// The settings that the rules need; checked.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// How many messages are kept.
    pub(super) capacity: usize,
    /// How many bytes they have together.
    pub(super) capacity_bytes: usize,
    /// What happens without room.
    pub(super) when_full: WhenFull,
    /// How old a message may be when it is sent.
    pub(super) expire_after: Option<Duration>,
    /// Messages of a backlog a second.
    pub(super) catch_up_rate: Option<u32>,
    /// What is kept for another sending.
    pub(super) keep: Keep,
    /// How many messages may be unanswered.
    pub(super) window: usize,
    /// How long a message may be unanswered.
    pub(super) answer_timeout: Option<Duration>,
    /// The number of the first message.
    pub(super) first_number: u64,
}

/// What is kept for another sending: [`Resend`](super::Resend) without its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Only what was not begun.
    Never,
    /// Until the kernel has the whole message.
    Interrupted,
    /// Until the peer's kernel has acknowledged it.
    Unacknowledged,
    /// Until the peer has answered it.
    Unanswered,
}

/// All messages of an outbox that have no fate yet, and the count of those that have one.
#[derive(Debug)]
pub(super) struct Store<L = MemoryLog> {
    /// The settings.
    rules: Rules,
    /// The messages.
    log: L,
    /// The first message that is not on its way on this link; the next number if all are.
    next_to_take: u64,
    /// How many messages without a fate there are before that one.
    in_flight: usize,
    /// The present link, or the last one.
    flight: Flight,
    /// Whether a link is up.
    is_up: bool,
    /// Whether it tells what the peer's kernel has acknowledged.
    counts_bytes: bool,
    /// When the messages were accepted, if they can expire.
    ages: Ages,
    /// The fates.
    counts: Counts,
    /// The number of the next message.
    next_number: u64,
    /// The highest number that the peer may have got whole. All before it, too, as messages go out in order.
    highest_handed: u64,
    /// Room that is promised to senders: messages and bytes.
    reserved: (usize, usize),
    /// Limits the rate of a backlog, until it is sent.
    pace: Option<Pace>,
}

/// When the store wants to be called again; `None`: not because of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deadlines {
    /// Call [`expire`](Store::expire).
    pub(super) expiry: Option<Duration>,
    /// The oldest unanswered message has waited too long then.
    pub(super) answer: Option<Duration>,
    /// The next message of a backlog may be [taken](Store::take).
    pub(super) pace: Option<Duration>,
}

impl Store {
    /// An empty store in memory, without a link.
    pub(super) fn new(rules: Rules) -> Self {
        Self::with_log(rules, MemoryLog::default())
    }
}

impl<L: Log> Store<L> {
    /// A store over an empty log, without a link.
    fn with_log(rules: Rules, log: L) -> Self {
        Self {
            log,
            next_to_take: rules.first_number,
            in_flight: 0,
            flight: Flight::default(),
            is_up: false,
            counts_bytes: false,
            ages: Ages::default(),
            counts: Counts::default(),
            next_number: rules.first_number,
            highest_handed: rules.first_number - 1,
            reserved: (0, 0),
            pace: None,
            rules,
        }
    }

    // ===== the senders' side =====

    /// Whether a message of this length has room beside what is promised.
    #[inline]
    pub(super) fn has_room(&self, len: usize) -> bool {
        let (messages, bytes) = self.log.kept();
        let (messages, bytes) = (messages + self.reserved.0, bytes + self.reserved.1);
        messages < self.rules.capacity && bytes + len <= self.rules.capacity_bytes // rule: outbox-is-bounded
    }

    /// Promises room to a sender; check [`has_room`](Self::has_room) before.
    pub(super) fn reserve(&mut self, len: usize) {
        self.reserved.0 += 1;
        self.reserved.1 += len;
    }

    /// Takes a promise back, or gives way to its message.
    pub(super) fn unreserve(&mut self, len: usize) {
        self.reserved.0 -= 1;
        self.reserved.1 -= len;
    }

    /// What a send does without room.
    pub(super) fn when_full(&self) -> WhenFull {
        self.rules.when_full
    }

    /// Accepts a message and returns its number. With [`WhenFull::Wait`], check for room before.
    ///
    /// `watched`: its fate is to be among the [settled](Self::take_settled) ones.
    #[inline]
    pub(super) fn accept(&mut self, message: &[u8], now: Duration, watched: bool) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        if watched {
            self.counts.watch(number);
        }
        if self.rules.when_full != WhenFull::Wait && !self.make_room(number, message.len()) {
            return number;
        }
        if self.rules.expire_after.is_some() {
            self.ages.accept(number, now);
        }
        if self.queued() == 0 {
            self.next_to_take = number;
            self.pace = None;
        }
        if let Some(pace) = &mut self.pace {
            pace.accept();
        }
        self.log.push(number, message);
        number
    }

    /// Drops messages so that a new one has room. Returns whether it has; otherwise it has its fate.
    fn make_room(&mut self, number: u64, len: usize) -> bool {
        while self.rules.when_full == WhenFull::DropOldest && self.queued() > 0 && !self.has_room(len) {
            self.give_up_first(Fate::Dropped); // rule: oldest-message-is-counted
        }
        let has_room = self.has_room(len);
        if !has_room {
            self.counts.settle(number, Fate::Dropped); // rule: dropped-message-is-counted
            self.skip_to_queue(); // `number` may have been the next to take.
        }
        has_room
    }

    /// Watches the fate of a message no more.
    pub(super) fn unwatch(&mut self, number: u64) {
        self.counts.unwatch(number);
    }

    // ===== time and the end =====

    /// Ends the messages that are too old.
    pub(super) fn expire(&mut self, now: Duration) {
        let Some(limit) = self.rules.expire_after else { return };
        while self.queued() > 0 {
            // rule: expiry
            if self.ages.accepted_at(self.next_to_take).is_none_or(|accepted| now < accepted.saturating_add(limit)) {
                break;
            }
            self.give_up_first(Fate::Expired);
        }
        self.ages.forget_before(self.oldest_waiting().unwrap_or(self.next_number));
    }

    /// When the store wants to be called again.
    pub(super) fn deadlines(&self, now: Duration) -> Deadlines {
        let has_queue = self.queued() > 0;
        let oldest = if has_queue { self.ages.accepted_at(self.next_to_take) } else { None };
        Deadlines {
            expiry: self.rules.expire_after.and_then(|limit| Some(oldest?.saturating_add(limit))),
            answer: self.rules.answer_timeout.and_then(|limit| Some(self.oldest_unanswered()?.saturating_add(limit))),
            pace: self.pace.as_ref().filter(|_| self.is_up && has_queue).map(|pace| pace.next(now)),
        }
    }

    /// Since when the oldest message waits for an answer.
    fn oldest_unanswered(&self) -> Option<Duration> {
        if !self.is_up || self.rules.keep != Keep::Unanswered {
            return None;
        }
        self.flight.handed_at(self.oldest_waiting()?) // rule: oldest-unanswered
    }

    /// Gives everything that still waits its last fate. Call [`end_link`](Self::end_link) before.
    pub(super) fn end(&mut self) {
        debug_assert!(!self.is_up);
        self.settle_through(self.highest_handed, Fate::InDoubt);
        self.settle_through(self.next_number - 1, Fate::Unsent); // rule: unsent-is-counted
        self.ages.forget_before(self.next_number);
    }

    // ===== fates =====

    /// Gives all messages up to this number their fate.
    fn settle_through(&mut self, number: u64, fate: Fate) {
        let settled = self.log.settle_through(number);
        self.counts.settle_through(number, settled, fate);
        if self.next_to_take <= number {
            self.in_flight = 0;
            self.skip_to_queue();
        } else {
            self.in_flight -= settled;
        }
    }

    /// Ends the first message of the queue, which is not on its way, and not answered.
    fn give_up_first(&mut self, fate: Fate) {
        let number = self.next_to_take;
        // rule: handed-message-is-in-doubt
        let fate = if number <= self.highest_handed { Fate::InDoubt } else { fate };
        if self.log.settle(number) {
            self.counts.settle(number, fate);
        }
        self.skip_to_queue();
    }

    /// Steps over the messages that have their fate.
    fn skip_to_queue(&mut self) {
        self.next_to_take = self.log.oldest_from(self.next_to_take).unwrap_or(self.next_number);
    }

    // ===== what there is =====

    /// How many messages have met which fate.
    pub(super) fn tally(&self) -> Tally {
        let accepted = self.next_number - self.rules.first_number;
        Tally { accepted, waiting: self.log.waiting() as u64, ..self.counts.tally }
    }

    /// The lowest number without a fate.
    pub(super) fn oldest_waiting(&self) -> Option<u64> {
        self.log.oldest()
    }

    /// How many messages are not on their way.
    #[inline]
    fn queued(&self) -> usize {
        self.log.waiting() - self.in_flight
    }

    /// The number of the next message.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Whether no fate has to be reported.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.counts.settled.is_empty()
    }

    /// The fates of watched messages since the last call.
    pub(super) fn take_settled(&mut self) -> Vec<(u64, Fate)> {
        std::mem::take(&mut self.counts.settled)
    }

    /// The rejections since the last call.
    pub(super) fn take_rejections(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.counts.rejections)
    }
}
