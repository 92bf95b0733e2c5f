//! The judge: random schedules over the store, beside a [model] that is written in the simplest way.
//!
//! After each step, both have to agree on the fate of every message, on the tally, on the room and on the deadlines. And
//! whatever the two say, the [peer](Peer)'s own record must not contradict a fate: what it has got whole was not dropped.
//!
//! ```text
//! cargo test --features outbox --lib outbox::store::judge                       # 10,000 schedules
//! PERCONN_OUTBOX_SEED=4711 cargo test --features outbox --lib outbox::store::judge  # one of them
//! ```
//!
//! `tests/mutants/outbox.rs` breaks each rule of the store; the judge has to notice. Next: [`model`].

use std::collections::BTreeMap;
use std::time::Duration;

use self::choices::Choices;
use self::model::{Item, Model, Place};
use self::peer::Peer;
use self::simple_log::SimpleLog;
use super::log::Log;
use super::memory::MemoryLog;
use super::{Keep, Rules, Store};
use crate::outbox::{Answer, Fate, WhenFull};

mod answering;
mod choices;
mod model;
mod peer;
mod simple_log;

const MS: Duration = Duration::from_millis(1);

/// One schedule.
struct Judge<L> {
    choices: Choices,
    store: Store<L>,
    model: Model,
    peer: BTreeMap<u64, Peer>,
    reserved: Vec<usize>,
}

fn rules(choices: &mut Choices) -> Rules {
    let keep =
        choices.pick(&[Keep::Never, Keep::Interrupted, Keep::Unacknowledged, Keep::Unanswered, Keep::Unanswered]);
    let capacity = 1 + choices.upto(30) as usize;
    Rules {
        capacity,
        capacity_bytes: if choices.once_in(3) { 60 + choices.upto(200) as usize } else { 200_000 },
        when_full: choices.pick(&[WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest]),
        expire_after: if choices.once_in(2) { Some(MS * (1 + choices.upto(30) as u32)) } else { None },
        catch_up_rate: if choices.once_in(4) { Some(1 + choices.upto(400) as u32) } else { None },
        keep,
        window: 1 + choices.upto(8) as usize,
        answer_timeout: if choices.once_in(2) { Some(MS * 20) } else { None },
        first_number: 1 + choices.upto(1) * 1_000_000,
    }
}

impl<L: Log + Default> Judge<L> {
    fn new(seed: u64) -> Self {
        let mut choices = Choices(seed);
        let rules = rules(&mut choices);
        Self {
            store: Store::with_log(rules.clone(), L::default()),
            model: Model::new(rules),
            choices,
            peer: BTreeMap::new(),
            reserved: Vec::new(),
        }
    }

    /// One random step.
    fn step(&mut self) {
        let is_up = self.model.link.is_some();
        match self.choices.upto(19) {
            0..=5 => self.accept(),
            6 => self.reserve(),
            7..=8 if !is_up => self.begin_link(),
            7..=10 if is_up => self.batch(),
            11..=12 if is_up => self.write(),
            13 if is_up => self.flush(),
            14 if is_up => self.acknowledge(),
            15..=16 if is_up => self.answer(),
            17 if is_up && self.choices.once_in(3) => self.end_link(),
            18 => self.pass_time(),
            _ => {}
        }
    }

    fn accept(&mut self) {
        for _ in 0..=self.choices.upto(3) {
            let len = if self.choices.once_in(20) { 30_000 } else { 1 + self.choices.upto(40) as usize };
            let len = len.min(self.model.rules.capacity_bytes);
            assert_eq!(self.store.has_room(len), self.model.has_room(len), "room for {len}");
            if self.model.rules.when_full == WhenFull::Wait && !self.model.has_room(len) {
                return;
            }
            let message = message(self.model.next_number(), len);
            let number = self.store.accept(&message, self.model.now, true);
            self.model.accept(number, len);
            self.peer.insert(number, Peer::default());
            self.check();
        }
    }

    /// A sender that waits gets room, and takes it later or never.
    fn reserve(&mut self) {
        let len = 1 + self.choices.upto(40) as usize;
        if self.model.rules.when_full != WhenFull::Wait {
            return;
        }
        if self.model.has_room(len) {
            self.store.reserve(len);
            self.model.reserved.push(len);
            self.reserved.push(len);
        } else if let Some(len) = self.reserved.pop() {
            self.store.unreserve(len);
            self.model.reserved.pop();
        }
    }

    fn begin_link(&mut self) {
        let counts = self.model.rules.keep == Keep::Unacknowledged || self.choices.once_in(2);
        self.store.begin_link(counts, self.model.now);
        self.model.begin_link(counts, self.choices.once_in(2));
    }

    /// Takes a batch and encodes it.
    fn batch(&mut self) {
        let link = self.model.link.as_ref().expect("up");
        if link.begun < link.encoded {
            return; // The task writes one batch before it takes the next.
        }
        let mut batch = Vec::new();
        self.store.take(self.model.now, &mut batch);
        let mut expected = self.model.take().into_iter();
        for mut run in batch {
            let Self { choices, model, store, .. } = self;
            let mut end = 0;
            let mut refused = Vec::new();
            run.encode(|number, bytes| {
                assert_eq!(Some(number), expected.next(), "what is taken, in order");
                assert_eq!(bytes, message(number, bytes.len()), "the bytes of {number}");
                if choices.once_in(40) {
                    refused.push(number);
                } else {
                    let len = bytes.len() + choices.upto(3) as usize;
                    model.encoded(number, len as u64);
                    end += len as u32;
                }
                Some(end)
            });
            store.encoded(run);
            for number in refused {
                store.refused(number, "no".into());
                model.settle(number, Fate::Rejected("no".into()));
            }
        }
        assert_eq!(expected.next(), None, "more is taken");
    }

    fn write(&mut self) {
        let link = self.model.link.as_ref().expect("up");
        let rest = link.encoded - link.begun;
        let len = if self.choices.once_in(3) { rest } else { self.choices.upto(rest) };
        self.store.wrote(len as usize);
        let link = self.model.link.as_mut().expect("up");
        let before = link.begun;
        link.begun += len;
        let (after, is_socket) = (link.begun, link.is_socket);
        for item in &self.model.items {
            if let Some((start, end)) = item.position {
                let peer = self.peer.get_mut(&item.number).expect("accepted");
                peer.begun += u32::from(before <= start && start < after);
                peer.whole += u32::from(before < end && end <= after);
            }
        }
        if is_socket {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.store.flushed(self.model.now);
        self.model.flushed();
    }

    /// The peer's kernel has acknowledged a part of what it was sent.
    fn acknowledge(&mut self) {
        if self.model.link.as_ref().is_some_and(|link| link.counts) {
            let missing = self.missing();
            self.store.acknowledged(missing);
            self.model.acknowledged(missing);
        }
    }

    /// A truthful count of unacknowledged bytes.
    fn missing(&mut self) -> u64 {
        let link = self.model.link.as_mut().expect("up");
        let most = link.handed - link.truly_acknowledged;
        let missing = if self.choices.once_in(2) { 0 } else { self.choices.upto(most) };
        link.truly_acknowledged = link.handed - missing;
        let upto = link.truly_acknowledged;
        for item in &self.model.items {
            if item.position.is_some_and(|(_, end)| end <= upto) {
                self.peer.get_mut(&item.number).expect("accepted").acknowledged = true;
            }
        }
        missing
    }

    fn end_link(&mut self) {
        let link = self.model.link.as_ref().expect("up");
        let missing = (link.counts && !self.choices.once_in(4)).then(|| self.missing());
        self.store.end_link(missing);
        self.model.end_link(missing);
    }

    fn pass_time(&mut self) {
        self.model.now += MS * (1 + self.choices.upto(12) as u32);
        self.store.expire(self.model.now);
        self.model.expire();
    }

    /// Compares the store with the model, and both with the peer.
    fn check(&mut self) {
        let settled = self.store.take_settled();
        let expected = std::mem::take(&mut self.model.settled);
        let fates = |mut fates: Vec<(u64, Fate)>| {
            fates.sort_by_key(|(number, _)| *number);
            fates
        };
        assert_eq!(fates(settled.clone()), fates(expected), "the fates of this step");
        for (number, fate) in &settled {
            self.check_with_peer(*number, fate);
        }
        let rejections = self.store.take_rejections();
        let rejected = settled.iter().filter(|(_, fate)| matches!(fate, Fate::Rejected(_))).count();
        assert_eq!(rejections.len(), rejected);
        let tally = self.store.tally();
        assert_eq!(tally, self.model.tally());
        assert_eq!(tally.accepted, tally.settled() + tally.waiting, "the identity");
        assert_eq!(self.store.oldest_waiting(), self.model.waiting().map(|item| item.number).next());
        let (messages, bytes) = self.model.used();
        let (kept, kept_bytes) = self.store.log.kept();
        let used = (kept + self.reserved.len(), kept_bytes + self.reserved.iter().sum::<usize>());
        assert_eq!(used, (messages, bytes), "what is kept");
        assert!(
            messages <= self.model.rules.capacity && bytes <= self.model.rules.capacity_bytes,
            "{messages} {bytes}"
        );
        assert_eq!(self.store.awaits_acknowledgement(), self.model.awaits_acknowledgement());
        let deadlines = self.store.deadlines(self.model.now);
        assert_eq!(deadlines.expiry, self.model.expiry_deadline());
        assert_eq!(deadlines.answer, self.model.answer_deadline());
        self.check_pace(deadlines.pace);
        if self.choices.once_in(8) {
            self.check_what_can_be_taken();
        }
    }

    /// The task is woken for what it can take, and for nothing else.
    fn check_what_can_be_taken(&self) {
        let now = self.model.now;
        let queued = self.model.queued().count();
        assert_eq!(self.store.is_first_queued(), queued == 1);
        assert_eq!(self.store.can_take(now), !self.model.clone_and_take(None).is_empty());
        if queued > 0 || self.model.has_room(1) {
            let next = (queued == 0).then_some(1);
            assert_eq!(self.store.wants_messages(), next.is_some() && !self.model.clone_and_take(next).is_empty());
        }
    }

    /// A backlog goes out at its rate, and does go out.
    fn check_pace(&self, next: Option<Duration>) {
        let Some(link) = &self.model.link else { return assert_eq!(next, None) };
        let is_paced = link.pace.is_some() && self.model.queued().next().is_some();
        assert_eq!(next.is_some(), is_paced);
        if let (Some(next), Some(pace)) = (next, &link.pace) {
            let allows = |now| pace.allowance(now) > 0;
            assert_eq!(next == self.model.now, allows(self.model.now));
            assert!(allows(next) && next <= self.model.now + Duration::from_secs(1) + MS, "{next:?}");
        }
    }
}

/// The bytes of a message: they say which one it is.
fn message(number: u64, len: usize) -> Vec<u8> {
    vec![number as u8; len]
}

/// Plays one schedule.
fn play<L: Log + Default>(seed: u64) {
    let mut judge = Judge::<L>::new(seed);
    for _ in 0..20 + judge.choices.upto(60) {
        judge.step();
        judge.check();
    }
    let is_kept = judge.model.rules.expire_after.is_none() && judge.model.rules.catch_up_rate.is_none();
    if is_kept && judge.choices.once_in(2) {
        // The peer is well again: all that waits arrives.
        if judge.model.link.is_some() {
            judge.end_link();
            judge.check();
        }
        let waiting: Vec<u64> = judge.model.waiting().map(|item| item.number).collect();
        judge.store.begin_link(true, judge.model.now);
        judge.model.begin_link(true, true);
        for _ in 0..=waiting.len() {
            judge.batch();
            while link_rest(&judge.model) > 0 {
                judge.write();
                judge.check();
            }
            judge.store.acknowledged(0);
            judge.model.link.as_mut().expect("up").truly_acknowledged = judge.model.link.as_ref().expect("up").handed;
            for item in &judge.model.items {
                if item.position.is_some() {
                    judge.peer.get_mut(&item.number).expect("accepted").acknowledged = true;
                }
            }
            judge.model.acknowledged(0);
            judge.check();
            for number in judge.model.sent() {
                judge.store.answer(Answer::One(number)).expect("it was sent");
                judge.peer.get_mut(&number).expect("accepted").answered += 1;
                judge.model.settle(number, Fate::Answered);
                judge.check();
            }
        }
        assert_eq!(judge.store.tally().waiting, 0, "all that waits arrives at a peer that is well");
        for number in waiting {
            assert!(judge.peer[&number].whole > 0 || judge.fate(number) == Some(Fate::Rejected("no".into())));
        }
    }
    if judge.model.link.is_some() {
        judge.end_link();
        judge.check();
    }
    judge.store.end();
    judge.model.end();
    judge.check();
    assert_eq!(judge.store.tally().waiting, 0);
}

/// How many encoded bytes were not written.
fn link_rest(model: &Model) -> u64 {
    model.link.as_ref().map_or(0, |link| link.encoded - link.begun)
}

impl<L: Log + Default> Judge<L> {
    fn fate(&self, number: u64) -> Option<Fate> {
        let item: &Item = self.model.items.iter().find(|item| item.number == number)?;
        match &item.place {
            Place::Gone(fate) => Some(fate.clone()),
            _ => None,
        }
    }
}

#[test]
fn every_rule_holds() {
    if let Some(seed) = std::env::var("PERCONN_OUTBOX_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return play::<MemoryLog>(seed);
    }
    for seed in 0..10_000 {
        if let Err(panic) = std::panic::catch_unwind(|| play::<MemoryLog>(seed)) {
            eprintln!("schedule {seed} broke a rule");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn rules_hold_over_any_log() {
    (0..1_000).for_each(play::<SimpleLog>);
}
