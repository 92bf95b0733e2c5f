//! The answers of the peer, and what each has to do.

use super::super::Keep;
use super::super::log::Log;
use super::Judge;
use crate::outbox::{Answer, Fate};

impl<L: Log> Judge<L> {
    /// The peer answers something; one answer in five cannot be.
    pub(super) fn answer(&mut self) {
        if self.model.rules.keep != Keep::Unanswered {
            return;
        }
        let sent: Vec<u64> = self.model.sent();
        let all: Vec<u64> = self.model.items.iter().map(|item| item.number).collect();
        let any = all.get(self.choices.upto(all.len() as u64) as usize).copied();
        let any = any.unwrap_or_else(|| self.model.next_number() + self.choices.upto(2));
        let highest = sent.last().copied().unwrap_or(0);
        let (lowest, mid) = (sent.first().copied(), sent.get(self.choices.upto(5) as usize).copied());
        let answer = match self.choices.upto(6) {
            0 => Answer::Next,
            1 => mid.map_or(Answer::Next, Answer::One),
            2 => Answer::One(any),
            3 => Answer::UpTo(any),
            4 => mid.map_or(Answer::UpTo(0), Answer::UpTo),
            5 => Answer::Rejected(mid.unwrap_or(any), "no".into()),
            _ => Answer::NextRejected("no".into()),
        };
        let expected: Option<Vec<(u64, Fate)>> = match &answer {
            Answer::Next => lowest.map(|number| vec![(number, Fate::Answered)]),
            Answer::NextRejected(reason) => lowest.map(|number| vec![(number, Fate::Rejected(reason.clone()))]),
            Answer::One(number) => sent.contains(number).then(|| vec![(*number, Fate::Answered)]),
            Answer::Rejected(number, reason) => {
                sent.contains(number).then(|| vec![(*number, Fate::Rejected(reason.clone()))])
            }
            Answer::UpTo(number) => (*number <= self.model.highest_whole.max(highest)).then(|| {
                let waiting = self.model.waiting().filter(|item| item.number <= *number);
                waiting.map(|item| (item.number, Fate::Answered)).collect()
            }),
        };
        let outcome = self.store.answer(answer.clone());
        assert_eq!(outcome.is_ok(), expected.is_some(), "{answer:?} with {sent:?} unanswered: {outcome:?}");
        for (number, fate) in expected.unwrap_or_default() {
            self.peer.get_mut(&number).expect("accepted").answered += 1;
            self.model.highest_whole = self.model.highest_whole.max(number);
            self.model.settle(number, fate);
        }
    }
}
