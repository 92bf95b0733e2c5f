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
//! Next: [`flight`], which knows where on the link each message ends.

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
mod log;
mod memory;
mod pace;
mod run;

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
        if let Some(pace) = &mut self.pace {
            pace.accept();
        }
        if self.queued() == 0 {
            self.next_to_take = number;
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

    // ===== a link =====

    /// A link is up. `counts_bytes`: whether it tells what the peer's kernel has acknowledged.
    pub(super) fn begin_link(&mut self, counts_bytes: bool, now: Duration) {
        debug_assert!(!self.is_up && self.in_flight == 0);
        self.is_up = true;
        self.counts_bytes = counts_bytes;
        self.flight = Flight::default();
        self.pace = self.rules.catch_up_rate.filter(|_| self.queued() > 0).map(|rate| Pace::new(rate, now));
    }

    /// Takes the messages of the next write, in order, and appends them to `batch`. Give them back by
    /// [`encoded`](Self::encoded), all or those before a failure, and name those that cannot be encoded by
    /// [`refused`](Self::refused).
    pub(super) fn take(&mut self, now: Duration, batch: &mut Vec<Run>) {
        self.expire(now);
        let (mut messages, mut bytes) = (BATCH_MESSAGES, BATCH_BYTES);
        while self.queued() > 0 && messages > 0 {
            let most = messages.min(self.may_take(now));
            // rule: batch-is-bounded
            if most == 0 || !batch.is_empty() && self.log.len_of(self.next_to_take).is_some_and(|len| len > bytes) {
                break;
            }
            let Some(run) = self.log.run(self.next_to_take, most, bytes) else { break };
            messages -= run.len();
            bytes = bytes.saturating_sub(run.bytes().len());
            self.in_flight += run.len();
            self.next_to_take = run.first() + run.len() as u64;
            self.skip_to_queue();
            if let Some(pace) = &mut self.pace {
                pace.send(run.len() as u64);
            }
            batch.push(run);
        }
        if self.queued() == 0 {
            self.pace = None;
        }
    }

    /// How many of the next messages may go out, if there are so many.
    #[inline]
    fn may_take(&self, now: Duration) -> usize {
        if !self.is_up {
            return 0;
        }
        let in_window = match self.rules.keep {
            Keep::Unanswered => self.rules.window.saturating_sub(self.in_flight), // rule: window
            _ => usize::MAX,
        };
        let in_pace = self.pace.as_ref().map_or(usize::MAX, |pace| pace.allowance(now)); // rule: catch-up-rate
        in_window.min(in_pace)
    }

    /// Whether a single message waits in the queue.
    pub(super) fn is_first_queued(&self) -> bool {
        self.queued() == 1
    }

    /// Whether a message can be taken.
    pub(super) fn can_take(&self, now: Duration) -> bool {
        self.queued() > 0 && self.may_take(now) > 0
    }

    /// Whether a message that is accepted now could be taken at once.
    pub(super) fn wants_messages(&self, now: Duration) -> bool {
        self.queued() == 0 && self.may_take(now) > 0
    }

    /// These messages were taken, and are on the wire now.
    pub(super) fn encoded(&mut self, run: Run) {
        self.flight.encoded(run);
    }

    /// A message that was taken cannot be encoded.
    pub(super) fn refused(&mut self, number: u64, reason: String) {
        if self.log.settle(number) {
            self.in_flight -= 1;
            self.counts.reject(number, reason); // rule: refused-message-is-rejected
        }
    }

    /// The stream has taken this many bytes more.
    pub(super) fn wrote(&mut self, len: usize) {
        if len > 0 {
            self.flight.wrote(len);
        }
    }

    /// All that the stream has taken is with the kernel.
    pub(super) fn flushed(&mut self, now: Duration) {
        let before = self.flight.handed();
        self.flight.flushed(now);
        let handed = self.flight.handed();
        if handed == before {
            return;
        }
        self.highest_handed = self.highest_handed.max(handed);
        if matches!(self.rules.keep, Keep::Never | Keep::Interrupted) {
            self.log.let_go(handed);
            // rule: handed-over-is-not-written
            if !self.counts_bytes {
                self.settle_through(handed, Fate::Written);
            }
        }
        self.forget_positions();
    }

    /// The peer's kernel has acknowledged all but this many bytes.
    pub(super) fn acknowledged(&mut self, missing: u64) {
        let before = self.flight.acknowledged_number();
        self.flight.acknowledged(missing);
        let acknowledged = self.flight.acknowledged_number();
        if acknowledged == before {
            return;
        }
        if self.rules.keep != Keep::Unanswered {
            self.settle_through(acknowledged, Fate::Written); // rule: written-is-acknowledged
        }
        self.forget_positions();
    }

    /// Forgets what nobody asks for any more.
    fn forget_positions(&mut self) {
        let until_acknowledged = self.counts_bytes && self.rules.keep != Keep::Unanswered;
        let oldest = self.oldest_waiting().unwrap_or(u64::MAX);
        self.flight.forget(until_acknowledged, oldest);
    }

    /// Whether a fate depends on the peer's acknowledgement of bytes.
    pub(super) fn awaits_acknowledgement(&self) -> bool {
        self.is_up
            && self.rules.keep != Keep::Unanswered
            && self.oldest_waiting().is_some_and(|oldest| oldest <= self.flight.handed())
    }

    /// The link has broken, or is given up. `missing` is how many bytes the peer's kernel had not acknowledged, if that
    /// is known.
    pub(super) fn end_link(&mut self, missing: Option<u64>) {
        if !self.is_up {
            return;
        }
        if let Some(missing) = missing {
            self.acknowledged(missing);
        }
        self.is_up = false;
        self.pace = None;
        self.highest_handed = self.highest_handed.max(self.flight.begun()); // rule: sent-on-an-earlier-link
        let not_again = match self.rules.keep {
            Keep::Never => self.flight.cut().unwrap_or_else(|| self.flight.begun()), // rule: never-sends-again
            Keep::Interrupted => self.flight.handed(),                               // rule: interrupted-is-sent-again
            Keep::Unacknowledged | Keep::Unanswered => 0,
        };
        self.settle_through(not_again, Fate::InDoubt); // rule: doubt-is-counted
        self.in_flight = 0;
        self.next_to_take = self.log.oldest().unwrap_or(self.next_number); // rule: resend-in-order
    }

    // ===== time and the end =====

    /// Ends the messages that are too old.
    pub(super) fn expire(&mut self, now: Duration) {
        let Some(limit) = self.rules.expire_after else { return };
        while self.queued() > 0 {
            // rule: expiry
            if self.ages.accepted_at(self.next_to_take).is_none_or(|accepted| now < accepted + limit) {
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
            expiry: self.rules.expire_after.and_then(|limit| Some(oldest? + limit)),
            answer: self.rules.answer_timeout.and_then(|limit| Some(self.oldest_unanswered()? + limit)),
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
