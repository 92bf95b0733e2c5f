//! The messages that are on their way on the present link, and where in its bytes each of them ends.
//!
//! Positions count the bytes of one link, from 0. Three of them say how far the link is:
//!
//! ```text
//! 0 ... acknowledged ... handed ... begun ... encoded
//!       the peer's       the        the       the batch that
//!       kernel has it    kernel     stream    is being written
//! ```
//!
//! Next: [`answers`](super::answers), what the peer says.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::Keep;
use super::counts::Counts;
use super::queue::Message;

/// The messages of the present link.
#[derive(Debug)]
pub(super) struct Flight {
    /// What is kept.
    keep: Keep,
    /// Whether the link tells what the peer's kernel has acknowledged.
    counts: bool,
    /// The messages whose bytes are kept, in order.
    pub(super) kept: VecDeque<Sent>,
    /// How many of the last of them are not encoded yet.
    unencoded: usize,
    /// How many of the first of them the kernel has whole.
    pub(super) kept_handed: usize,
    /// How many bytes the kept messages have.
    bytes: usize,
    /// The messages before those: the kernel has them, their bytes are gone, and the peer has not acknowledged them.
    handed_over: VecDeque<Handed>,
    /// Bytes that were encoded.
    encoded: u64,
    /// Bytes that the stream has taken.
    pub(super) begun: u64,
    /// Bytes that the kernel has, or a flush has confirmed.
    handed: u64,
    /// Bytes that the peer's kernel has acknowledged.
    acknowledged: u64,
    /// The highest number that the kernel has got whole on this link.
    last_handed: u64,
}

/// A message that was taken for this link, with its bytes.
#[derive(Debug)]
pub(super) struct Sent {
    /// The message.
    pub(super) message: Message,
    /// Where it begins; `u64::MAX` until it is encoded.
    start: u64,
    /// Where it ends; `u64::MAX` until it is encoded.
    pub(super) end: u64,
    /// When the kernel had it whole.
    handed_at: Duration,
}

/// A message that is not sent again.
#[derive(Debug)]
struct Handed {
    /// Its number.
    number: u64,
    /// Where it ends.
    end: u64,
}

/// Room for this many messages is kept.
const KEPT_CAPACITY: usize = 1024;

/// What becomes of a message when its link ends.
#[derive(Debug)]
pub(super) enum Leftover {
    /// It is sent on the next link.
    Again(Message),
    /// It is not sent again.
    InDoubt(u64, Bytes),
}

impl Flight {
    /// Nothing is on its way.
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            keep,
            counts: false,
            kept: VecDeque::new(),
            unencoded: 0,
            kept_handed: 0,
            bytes: 0,
            handed_over: VecDeque::new(),
            encoded: 0,
            begun: 0,
            handed: 0,
            acknowledged: 0,
            last_handed: 0,
        }
    }

    /// A new link begins.
    pub(super) fn begin(&mut self, counts: bool) {
        debug_assert!(self.is_empty());
        *self = Self { counts, ..Self::new(self.keep) };
    }

    /// How many messages are kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// How many bytes they have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no message is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.handed_over.is_empty()
    }

    /// The lowest number.
    pub(super) fn oldest(&self) -> Option<u64> {
        let kept = || self.kept.front().map(|sent| sent.message.number);
        self.handed_over.front().map(|handed| handed.number).or_else(kept)
    }

    /// The highest number that the kernel has got whole on this link; 0: none.
    pub(super) fn last_handed(&self) -> u64 {
        self.last_handed
    }

    /// The highest number among the messages that the stream has taken whole; 0: none of them is kept.
    pub(super) fn last_begun(&self) -> u64 {
        let whole = self.kept.partition_point(|sent| sent.end <= self.begun);
        whole.checked_sub(1).map_or(0, |last| self.kept[last].message.number)
    }

    /// Takes a message, and gives its bytes away to be encoded. They come back with what became of it.
    pub(super) fn push(&mut self, mut message: Message) -> Bytes {
        self.unencoded += 1;
        self.bytes += message.bytes.len();
        let bytes = std::mem::take(&mut message.bytes);
        self.kept.push_back(Sent { message, start: u64::MAX, end: u64::MAX, handed_at: Duration::ZERO });
        bytes
    }

    /// The first message that is not encoded has this many bytes on the wire.
    pub(super) fn encoded(&mut self, len: usize, bytes: Bytes) {
        debug_assert!(len > 0 && self.unencoded > 0);
        let index = self.kept.len() - self.unencoded;
        self.unencoded -= 1;
        let sent = &mut self.kept[index];
        sent.message.bytes = bytes;
        sent.start = self.encoded;
        self.encoded += len as u64;
        sent.end = self.encoded;
    }

    /// Takes the first message out that is not encoded.
    pub(super) fn refused(&mut self, bytes: Bytes) -> Option<Message> {
        let index = self.kept.len() - self.unencoded;
        self.unencoded = self.unencoded.checked_sub(1)?;
        self.kept.get_mut(index)?.message.bytes = bytes;
        self.remove(index)
    }

    /// The messages that are not encoded stay so, as the link has to go. Takes their bytes back.
    pub(super) fn give_back(&mut self, messages: impl Iterator<Item = Bytes>) {
        let first = self.kept.len() - self.unencoded;
        for (sent, bytes) in self.kept.range_mut(first..).zip(messages) {
            sent.message.bytes = bytes;
        }
    }

    /// Takes a kept message out.
    pub(super) fn remove(&mut self, index: usize) -> Option<Message> {
        // Nearly always the first.
        let sent = if index == 0 { self.kept.pop_front() } else { self.kept.remove(index) };
        let message = sent?.message;
        self.bytes -= message.bytes.len(); // rule: bytes-are-given-back
        self.kept_handed -= usize::from(index < self.kept_handed); // rule: oldest-unanswered
        Some(message)
    }

    /// The stream has taken this many bytes more.
    pub(super) fn wrote(&mut self, len: usize) {
        self.begun += len as u64;
        debug_assert!(self.begun <= self.encoded);
    }

    /// The kernel has all that the stream has taken.
    pub(super) fn flushed(&mut self, now: Duration, counts: &mut Counts) {
        self.handed = self.begun;
        if matches!(self.keep, Keep::Never | Keep::Interrupted) {
            return self.let_go(counts);
        }
        while let Some(sent) = self.kept.get_mut(self.kept_handed).filter(|sent| sent.end <= self.begun) {
            sent.handed_at = now;
            self.last_handed = sent.message.number;
            self.kept_handed += 1;
        }
    }

    /// Gives the bytes of the messages away that are with the kernel, as they are not sent again.
    fn let_go(&mut self, counts: &mut Counts) {
        while self.kept.front().is_some_and(|sent| sent.end <= self.handed) {
            let Some(Sent { message, end, .. }) = self.kept.pop_front() else { break };
            self.bytes -= message.bytes.len();
            self.last_handed = message.number;
            // rule: handed-over-is-not-written
            if self.counts {
                self.handed_over.push_back(Handed { number: message.number, end });
            } else {
                counts.settle_written(message.number);
            }
            counts.released.push(message.bytes);
        }
    }

    /// The peer's kernel has acknowledged all but this many bytes.
    pub(super) fn acknowledged(&mut self, missing: u64, counts: &mut Counts) {
        self.acknowledged = self.acknowledged.max(self.handed.saturating_sub(missing)); // rule: acknowledged-to-the-byte
        while let Some(handed) = self.handed_over.front() {
            // rule: written-is-acknowledged
            if handed.end > self.acknowledged {
                break;
            }
            counts.settle_written(handed.number);
            self.handed_over.pop_front();
        }
        if self.keep == Keep::Unacknowledged {
            while let Some(sent) = self.kept.front() {
                // rule: unacknowledged-is-kept
                if sent.end > self.acknowledged {
                    break;
                }
                let Some(message) = self.remove(0) else { break };
                counts.settle_written(message.number);
                counts.released.push(message.bytes);
            }
        }
    }

    /// Whether most of the memory for messages without bytes is not used.
    pub(super) fn has_excess(&self) -> bool {
        let capacity = self.handed_over.capacity();
        capacity > KEPT_CAPACITY && self.handed_over.len() < capacity / 4
    }

    /// Gives that memory back.
    pub(super) fn trim(&mut self) {
        self.handed_over.shrink_to((self.handed_over.len() * 2).max(KEPT_CAPACITY));
    }

    /// Whether a fate depends on the peer's acknowledgement of bytes.
    pub(super) fn awaits_acknowledgement(&self) -> bool {
        !self.handed_over.is_empty() || self.keep == Keep::Unacknowledged && self.kept_handed > 0
    }

    /// Since when the oldest message waits for an answer.
    pub(super) fn oldest_unanswered(&self) -> Option<Duration> {
        if self.keep != Keep::Unanswered || self.kept_handed == 0 {
            return None;
        }
        Some(self.kept.front()?.handed_at)
    }

    /// Takes out the newest message when the link has ended, and says what becomes of it.
    pub(super) fn pop_leftover(&mut self) -> Option<Leftover> {
        let Some(Sent { mut message, start, end, .. }) = self.kept.pop_back() else {
            let handed = self.handed_over.pop_back()?;
            return Some(Leftover::InDoubt(handed.number, Bytes::new()));
        };
        self.unencoded = self.unencoded.saturating_sub(1);
        self.kept_handed = self.kept_handed.min(self.kept.len());
        self.bytes -= message.bytes.len();
        // Even without a flush: the stream may have passed it on.
        message.was_handed |= end <= self.begun; // rule: handed-message-is-marked
        let was_begun = start < self.begun;
        Some(match self.keep {
            // rule: never-sends-again
            Keep::Never if was_begun => Leftover::InDoubt(message.number, message.bytes),
            _ => Leftover::Again(message),
        })
    }
}
