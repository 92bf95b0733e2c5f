//! What the peer's answers do to the messages of a link, and which answers cannot be.
//!
//! Next: [`Answer`], the public face.

use super::Store;
use crate::outbox::{Answer, Fate};

/// An answer that no honest peer gives: the link has to go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::outbox) enum AnswerError {
    /// There is no message that waits for an answer.
    #[error("the peer answered a message, but none is unanswered")]
    NoneUnanswered,
    /// A number that was not sent.
    #[error("the peer answered message {number}, which was not sent: expected at most {highest}")]
    NotSent {
        /// The number in the answer.
        number: u64,
        /// The highest number that was sent.
        highest: u64,
    },
    /// A number that is not unanswered on this link.
    #[error("the peer answered message {number}, which is not unanswered on this link")]
    NotUnanswered {
        /// The number in the answer.
        number: u64,
    },
}

impl Store {
    /// Takes an answer.
    ///
    /// # Errors
    ///
    /// The answer cannot be. Nothing has changed.
    pub(in crate::outbox) fn answer(&mut self, answer: Answer) -> Result<(), AnswerError> {
        match answer {
            Answer::Next => {
                self.check_sent(0).ok_or(AnswerError::NoneUnanswered)?;
                self.end_answered(0, None);
            }
            Answer::NextRejected(reason) => {
                self.check_sent(0).ok_or(AnswerError::NoneUnanswered)?;
                self.end_answered(0, Some(reason));
            }
            Answer::One(number) => {
                let index = self.find_sent(number)?;
                self.end_answered(index, None);
            }
            Answer::Rejected(number, reason) => {
                let index = self.find_sent(number)?;
                self.end_answered(index, Some(reason));
            }
            Answer::UpTo(number) => self.answer_up_to(number)?,
        }
        Ok(())
    }

    /// Answers everything up to this number. What a break has brought back is answered, too.
    fn answer_up_to(&mut self, number: u64) -> Result<(), AnswerError> {
        let highest = self.flight.last_begun().max(self.highest_handed);
        // rule: answer-to-what-was-not-sent
        if number > highest {
            return Err(AnswerError::NotSent { number, highest });
        }
        while self.flight.kept.front().is_some_and(|sent| sent.message.number <= number) {
            self.end_answered(0, None);
        }
        while self.queue.front().is_some_and(|message| message.number <= number) {
            let Some(message) = self.queue.pop_front() else { break };
            self.counts.settle(message.number, Fate::Answered); // rule: answer-of-an-earlier-link
            self.counts.released.push(message.bytes);
        }
        Ok(())
    }

    /// The place of a message that this link has sent whole and that is unanswered.
    fn find_sent(&self, number: u64) -> Result<usize, AnswerError> {
        let found = self.flight.kept.binary_search_by_key(&number, |sent| sent.message.number);
        // rule: answered-once
        let index = found.ok().and_then(|index| self.check_sent(index));
        index.ok_or(match number > self.highest_handed {
            true => AnswerError::NotSent { number, highest: self.highest_handed },
            false => AnswerError::NotUnanswered { number },
        })
    }

    /// This index, if the stream has taken that message whole.
    fn check_sent(&self, index: usize) -> Option<usize> {
        let sent = self.flight.kept.get(index)?;
        (sent.end <= self.flight.begun).then_some(index) // rule: answer-to-a-whole-message
    }

    /// Ends a message of this link by an answer.
    fn end_answered(&mut self, index: usize, rejected: Option<String>) {
        let Some(message) = self.flight.remove(index) else { return };
        // It has arrived, whatever a flush says.
        self.highest_handed = self.highest_handed.max(message.number);
        match rejected {
            None => self.counts.settle(message.number, Fate::Answered),
            Some(reason) => self.counts.reject(message.number, reason),
        }
        self.counts.released.push(message.bytes);
    }
}
