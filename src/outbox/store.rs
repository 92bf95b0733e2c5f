//! The rules of an outbox, pure: no socket, no clock, no waker. Every accepted message is in exactly one place here.
//!
//! ```text
//! accept -> queue -> take -> flight -> (written | answered | ..)
//!             ^                 |
//!             +---- break ------+        what goes again is put back in front, in order
//! ```
//!
//! Time is passed in, as the time since the start of the outbox. Messages that are done with are collected in
//! [`released`](Store::released), because dropping their bytes can run code of the program and the caller holds a lock.
//!
//! Next: [`flight`], the messages of the present link.

use std::time::Duration;

use bytes::Bytes;

use self::ages::Ages;
use self::counts::Counts;
use self::flight::{Flight, Leftover};
use self::pace::Pace;
use self::queue::{Message, Queue};
use super::{Fate, Tally, WhenFull};

mod ages;
mod answers;
mod counts;
mod flight;
#[cfg(test)]
mod judge;
mod pace;
mod queue;

/// How many bytes of messages are taken for one write, if there is more than one.
pub(super) const BATCH_BYTES: usize = 64 * 1024;

/// How many messages are taken for one write. Bounds what a protocol adds to short messages.
const BATCH_MESSAGES: usize = 8 * 1024;

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
pub(super) struct Store {
    /// The settings.
    rules: Rules,
    /// Not on its way on this link.
    queue: Queue,
    /// On its way on the present link.
    flight: Flight,
    /// When the messages were accepted, if they can expire.
    ages: Ages,
    /// The fates.
    counts: Counts,
    /// The number of the next message.
    next_number: u64,
    /// The highest number that a stream has ever taken whole; the one before the first at the beginning.
    highest_handed: u64,
    /// Room that is promised to senders: messages and bytes.
    reserved: (usize, usize),
    /// Limits the rate of a backlog, until it is sent.
    pace: Option<Pace>,
    /// Whether a link is up.
    is_up: bool,
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
    /// An empty store, without a link.
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            queue: Queue::default(),
            flight: Flight::new(rules.keep),
            ages: Ages::default(),
            counts: Counts::default(),
            next_number: rules.first_number,
            highest_handed: rules.first_number - 1,
            reserved: (0, 0),
            pace: None,
            is_up: false,
            rules,
        }
    }

    // ===== the senders' side =====

    /// Whether a message of this length has room beside what is promised.
    pub(super) fn has_room(&self, len: usize) -> bool {
        let messages = self.queue.len() + self.flight.len() + self.reserved.0;
        let bytes = self.queue.bytes() + self.flight.bytes() + self.reserved.1;
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
    pub(super) fn accept(&mut self, bytes: Bytes, now: Duration, watched: bool) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.counts.accept(number, watched);
        if self.rules.when_full == WhenFull::DropOldest {
            while !self.has_room(bytes.len()) {
                let Some(oldest) = self.queue.pop_front() else { break };
                self.give_up(oldest, Fate::Dropped); // rule: oldest-message-is-counted
            }
        }
        if self.rules.when_full != WhenFull::Wait && !self.has_room(bytes.len()) {
            self.counts.settle(number, Fate::Dropped); // rule: dropped-message-is-counted
            self.counts.released.push(bytes);
            return number;
        }
        if self.rules.expire_after.is_some() {
            self.ages.accept(number, now);
        }
        if let Some(pace) = &mut self.pace {
            pace.accept();
        }
        self.queue.push_back(Message { number, bytes, was_handed: false });
        number
    }

    /// Watches the fate of a message no more.
    pub(super) fn unwatch(&mut self, number: u64) {
        self.counts.unwatch(number);
    }

    // ===== a link =====

    /// A link is up. `counts`: whether it tells what the peer's kernel has acknowledged.
    pub(super) fn begin_link(&mut self, counts: bool, now: Duration) {
        debug_assert!(!self.is_up && self.flight.is_empty());
        self.is_up = true;
        self.flight.begin(counts);
        self.pace = self.rules.catch_up_rate.filter(|_| !self.queue.is_empty()).map(|rate| Pace::new(rate, now));
    }

    /// Takes the messages of the next write, in order, and appends them to `batch`. Give each of them back by
    /// [`encoded`](Self::encoded) or [`refused`](Self::refused), in this order, and the rest by
    /// [`give_back`](Self::give_back).
    pub(super) fn take(&mut self, now: Duration, batch: &mut Vec<(u64, Bytes)>) {
        self.expire(now);
        let mut taken = 0;
        while batch.len() < BATCH_MESSAGES && self.may_take(now) {
            let Some(message) = self.queue.front() else { break };
            let len = message.bytes.len();
            // rule: batch-is-bounded
            if taken > 0 && taken + len > BATCH_BYTES {
                break;
            }
            let Some(message) = self.queue.pop_front() else { break };
            taken += len;
            batch.push((message.number, self.flight.push(message)));
            if let Some(pace) = &mut self.pace {
                pace.send();
            }
        }
        if self.queue.is_empty() {
            self.pace = None;
        }
    }

    /// Whether the next message may go out, if there is one.
    #[inline]
    fn may_take(&self, now: Duration) -> bool {
        let in_window = self.rules.keep != Keep::Unanswered || self.flight.len() < self.rules.window; // rule: window
        let in_pace = self.pace.as_ref().is_none_or(|pace| pace.allows(now)); // rule: catch-up-rate
        self.is_up && in_window && in_pace
    }

    /// Whether a single message waits in the queue.
    pub(super) fn is_first_queued(&self) -> bool {
        self.queue.len() == 1
    }

    /// Whether a message can be taken.
    pub(super) fn can_take(&self, now: Duration) -> bool {
        !self.queue.is_empty() && self.may_take(now)
    }

    /// Whether a message that is accepted now could be taken at once.
    pub(super) fn wants_messages(&self, now: Duration) -> bool {
        self.queue.is_empty() && self.may_take(now)
    }

    /// The first message that was taken and not encoded has this many bytes on the wire; more than zero.
    pub(super) fn encoded(&mut self, len: usize, bytes: Bytes) {
        self.flight.encoded(len, bytes);
    }

    /// The first message that was taken and not encoded cannot be encoded.
    pub(super) fn refused(&mut self, bytes: Bytes, reason: String) {
        if let Some(message) = self.flight.refused(bytes) {
            self.counts.released.push(message.bytes);
            self.counts.reject(message.number, reason); // rule: refused-message-is-rejected
        }
    }

    /// What was taken and cannot be encoded now, as the link has to go.
    pub(super) fn give_back(&mut self, messages: impl Iterator<Item = Bytes>) {
        self.flight.give_back(messages);
    }

    /// The stream has taken this many bytes more.
    pub(super) fn wrote(&mut self, len: usize) {
        self.flight.wrote(len);
    }

    /// All that the stream has taken is with the kernel.
    pub(super) fn flushed(&mut self, now: Duration) {
        self.flight.flushed(now, &mut self.counts);
        self.highest_handed = self.highest_handed.max(self.flight.last_handed());
    }

    /// The peer's kernel has acknowledged all but this many bytes.
    pub(super) fn acknowledged(&mut self, missing: u64) {
        self.flight.acknowledged(missing, &mut self.counts);
    }

    /// Whether a fate depends on the peer's acknowledgement of bytes.
    pub(super) fn awaits_acknowledgement(&self) -> bool {
        self.flight.awaits_acknowledgement()
    }

    /// The link has broken, or is given up. `missing` is how many bytes the peer's kernel had not acknowledged, if that
    /// is known.
    pub(super) fn end_link(&mut self, missing: Option<u64>) {
        if let Some(missing) = missing {
            self.acknowledged(missing);
        }
        self.is_up = false;
        self.pace = None;
        self.highest_handed = self.highest_handed.max(self.flight.last_begun()); // rule: sent-on-an-earlier-link
        while let Some(leftover) = self.flight.pop_leftover() {
            match leftover {
                Leftover::Again(message) => self.queue.push_front(message), // rule: resend-in-order
                Leftover::InDoubt(number, bytes) => {
                    self.counts.released.push(bytes);
                    self.counts.settle(number, Fate::InDoubt); // rule: doubt-is-counted
                }
            }
        }
    }

    // ===== time and the end =====

    /// Ends the messages that are too old.
    pub(super) fn expire(&mut self, now: Duration) {
        let Some(limit) = self.rules.expire_after else { return };
        while let Some(number) = self.queue.front().map(|message| message.number) {
            // rule: expiry
            if self.ages.accepted_at(number).is_none_or(|accepted| now < accepted + limit) {
                break;
            }
            let Some(message) = self.queue.pop_front() else { break };
            self.give_up(message, Fate::Expired);
        }
        self.ages.forget_before(self.oldest_waiting().unwrap_or(self.next_number));
    }

    /// When the store wants to be called again.
    pub(super) fn deadlines(&self, now: Duration) -> Deadlines {
        let oldest = self.queue.front().and_then(|message| self.ages.accepted_at(message.number));
        let is_paced = self.is_up && !self.queue.is_empty();
        Deadlines {
            expiry: self.rules.expire_after.and_then(|limit| Some(oldest? + limit)),
            answer: self.rules.answer_timeout.and_then(|limit| Some(self.flight.oldest_unanswered()? + limit)),
            pace: self.pace.as_ref().filter(|_| is_paced).map(|pace| pace.next(now)),
        }
    }

    /// Gives everything that still waits its last fate. Call [`end_link`](Self::end_link) before.
    pub(super) fn end(&mut self) {
        debug_assert!(!self.is_up);
        while let Some(message) = self.queue.pop_front() {
            self.give_up(message, Fate::Unsent); // rule: unsent-is-counted
        }
        self.ages.forget_before(self.next_number);
    }

    /// Ends a message that is not on its way, and not answered.
    fn give_up(&mut self, message: Message, fate: Fate) {
        // rule: handed-message-is-in-doubt
        let fate = if message.was_handed { Fate::InDoubt } else { fate };
        self.counts.settle(message.number, fate);
        self.counts.released.push(message.bytes);
    }

    /// Whether most of the memory is not used.
    pub(super) fn has_excess(&self) -> bool {
        self.queue.has_excess() || self.flight.has_excess()
    }

    /// Gives the memory of a burst back.
    pub(super) fn trim(&mut self) {
        self.queue.trim();
        self.flight.trim();
    }

    // ===== what there is =====

    /// How many messages have met which fate.
    pub(super) fn tally(&self) -> Tally {
        self.counts.tally
    }

    /// The lowest number without a fate.
    pub(super) fn oldest_waiting(&self) -> Option<u64> {
        self.flight.oldest().or_else(|| self.queue.front().map(|message| message.number))
    }

    /// The number of the next message.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Whether no fate has to be reported, and no bytes are released.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.counts.settled.is_empty() && self.counts.released.is_empty()
    }

    /// The bytes of messages that are done with; drop them without a lock.
    pub(super) fn released(&mut self) -> &mut Vec<Bytes> {
        &mut self.counts.released
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
