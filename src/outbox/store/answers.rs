//! What the peer's answers do to the messages of a link, and which answers cannot be.
//!
//! Next: [`Answer`], the public face.

use super::Store;
use super::log::Log;
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

impl<L: Log> Store<L> {
    /// Takes an answer.
    ///
    /// # Errors
    ///
    /// The answer cannot be. Nothing has changed.
    pub(in crate::outbox) fn answer(&mut self, answer: Answer) -> Result<(), AnswerError> {
        match answer {
            Answer::Next => {
                let number = self.next_unanswered().ok_or(AnswerError::NoneUnanswered)?;
                self.end_answered(number, None);
            }
            Answer::NextRejected(reason) => {
                let number = self.next_unanswered().ok_or(AnswerError::NoneUnanswered)?;
                self.end_answered(number, Some(reason));
            }
            Answer::One(number) => {
                self.check_unanswered(number)?;
                self.end_answered(number, None);
            }
            Answer::Rejected(number, reason) => {
                self.check_unanswered(number)?;
                self.end_answered(number, Some(reason));
            }
            Answer::UpTo(number) => self.answer_up_to(number)?,
        }
        Ok(())
    }

    /// Answers everything up to this number. What a break has brought back is answered, too.
    fn answer_up_to(&mut self, number: u64) -> Result<(), AnswerError> {
        let highest = self.highest_sent();
        // rule: answer-to-what-was-not-sent
        if number > highest {
            return Err(AnswerError::NotSent { number, highest });
        }
        self.settle_through(number, Fate::Answered); // rule: answer-of-an-earlier-link
        self.forget_positions();
        Ok(())
    }

    /// The oldest message without an answer, if this link has sent it whole.
    fn next_unanswered(&self) -> Option<u64> {
        self.oldest_waiting().filter(|number| *number <= self.flight.begun()) // rule: answer-to-a-whole-message
    }

    /// Checks that this link has sent this message whole, and that it has no fate.
    fn check_unanswered(&self, number: u64) -> Result<(), AnswerError> {
        let highest = self.highest_sent();
        // rule: answered-once
        if number <= self.flight.begun() && self.log.len_of(number).is_some() {
            Ok(())
        } else if number > highest {
            Err(AnswerError::NotSent { number, highest })
        } else {
            Err(AnswerError::NotUnanswered { number })
        }
    }

    /// The highest number that was ever sent whole.
    fn highest_sent(&self) -> u64 {
        self.highest_handed.max(self.flight.begun())
    }

    /// Ends a message of this link by an answer.
    fn end_answered(&mut self, number: u64, rejected: Option<String>) {
        self.in_flight -= usize::from(self.log.settle(number));
        match rejected {
            None => self.counts.settle(number, Fate::Answered),
            Some(reason) => self.counts.reject(number, reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Keep;
    use super::super::link::tests::{accept, store, write_batch};
    use super::*;

    #[test]
    fn error_says_whether_a_message_was_ever_sent() {
        let mut store = store(Keep::Unanswered, true);
        (0..3).for_each(|_| accept(&mut store, 10));
        write_batch(&mut store);
        accept(&mut store, 10); // In the queue.
        store.answer(Answer::One(3)).expect("it was sent");
        for answer in [Answer::One, |number| Answer::Rejected(number, "no".into())] {
            assert_eq!(store.answer(answer(3)), Err(AnswerError::NotUnanswered { number: 3 }));
            assert_eq!(store.answer(answer(4)), Err(AnswerError::NotSent { number: 4, highest: 3 }));
        }
        assert_eq!(store.answer(Answer::UpTo(4)), Err(AnswerError::NotSent { number: 4, highest: 3 }));
        assert_eq!(store.tally().waiting, 3);
    }
}
