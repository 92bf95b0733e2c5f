//! The rules against a server that does what it is told, in order.

use std::collections::{BTreeSet, VecDeque};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// What waits: a number, so that it is known who was told.
type Number = u32;

struct World {
    channels: Channels<Number>,
    /// What the server does, once it is its turn.
    sent: VecDeque<Statement<Number>>,
    server: BTreeSet<String>,
    is_up: bool,
    told: Vec<Number>,
}

impl World {
    fn up() -> Self {
        let mut world = Self {
            channels: Channels::default(),
            sent: VecDeque::new(),
            server: BTreeSet::new(),
            is_up: false,
            told: Vec::new(),
        };
        world.come_up();
        world
    }

    fn come_up(&mut self) {
        let batch = self.channels.acknowledged();
        self.come_up_with(batch);
    }

    fn come_up_with(&mut self, batch: Vec<(Arc<str>, u64)>) {
        self.server = batch.iter().map(|(name, _)| name.to_string()).collect();
        self.channels.link_up(batch);
        self.is_up = true;
    }

    fn go_down(&mut self) {
        self.told.extend(self.channels.link_down());
        for statement in self.sent.drain(..) {
            let (Statement::Listen { leavers, .. } | Statement::Unlisten { leavers, .. }) = statement;
            self.told.extend(leavers);
        }
        self.is_up = false;
    }

    fn send(&mut self) {
        let (statements, done) = self.channels.statements();
        self.sent.extend(statements);
        self.told.extend(done);
    }

    /// The server does one thing. False if there is nothing to do.
    fn serve(&mut self, refuses: bool) -> bool {
        match self.sent.pop_front() {
            None => return false,
            Some(Statement::Listen { channel, ticket, leavers }) => {
                self.told.extend(leavers);
                if refuses {
                    self.told.extend(self.channels.refused(&channel, ticket));
                } else {
                    self.server.insert(channel.to_string());
                    self.told.extend(self.channels.listened(&channel, ticket));
                }
            }
            Some(Statement::Unlisten { channels, leavers }) => {
                self.server.retain(|name| !channels.iter().any(|channel| **channel == **name));
                self.told.extend(leavers);
                self.channels.unlistened(&channels);
            }
        }
        true
    }

    fn settle(&mut self) {
        loop {
            self.send();
            if !self.serve(false) {
                return;
            }
        }
    }

    fn assert_agreed(&self) {
        let wanted: BTreeSet<String> = self.channels.names().into_iter().collect();
        assert_eq!(self.server, wanted);
        assert_eq!(self.channels.entries.len(), wanted.len(), "something is kept that nobody wants");
        assert!(self.channels.entries.values().all(|entry| entry.leavers.is_empty() && entry.under_way == 0));
    }
}

#[test]
fn listen_is_told_when_the_server_has_acknowledged() {
    let mut world = World::up();
    assert_eq!(world.channels.listen("a", 1), Some(1));
    assert_eq!(world.channels.listen("a", 2), None);
    world.send();
    assert_eq!(world.told, []);
    assert!(world.channels.acknowledged().is_empty());
    world.settle();
    assert_eq!(world.told, [1]);
    assert_eq!(world.channels.acknowledged().len(), 1);
    world.assert_agreed();
}

#[test]
fn cancelled_listen_is_taken_back_wherever_it_was() {
    // Not sent, sent, answered, lost with the link, about to be sent anew.
    for at in 0..5 {
        let mut world = World::up();
        let ticket = world.channels.listen("a", 1).unwrap();
        if at > 0 {
            world.send();
        }
        if at == 2 {
            world.serve(false);
        }
        if at > 2 {
            world.go_down();
        }
        if at > 3 {
            world.come_up();
        }
        world.channels.cancel("a", ticket);
        if !world.is_up {
            world.come_up();
        }
        world.settle();
        assert_eq!(world.server.len(), 0, "at {at}");
        world.assert_agreed();
    }
}

#[test]
fn cancelled_listen_leaves_a_newer_one_alone() {
    let mut world = World::up();
    let old = world.channels.listen("a", 1).unwrap();
    world.send();
    assert!(matches!(world.channels.unlisten("a", 2), Unlistened::Waits { ousted: Some(1) }));
    world.channels.listen("a", 3).unwrap();
    world.channels.cancel("a", old);
    world.settle();
    assert_eq!(world.told, [2, 3]);
    assert_eq!(world.channels.names(), ["a"]);
    world.assert_agreed();
}

#[test]
fn refused_listen_is_forgotten_and_not_sent_again() {
    let mut world = World::up();
    world.channels.listen("a", 1).unwrap();
    world.send();
    world.serve(true);
    assert_eq!(world.told, [1]);
    world.settle();
    world.go_down();
    world.come_up();
    world.send();
    assert!(world.sent.is_empty());
    world.assert_agreed();
}

#[test]
fn listen_that_was_not_acknowledged_is_not_part_of_the_next_links_beginning_but_sent_on_it() {
    let mut world = World::up();
    world.channels.listen("a", 1).unwrap();
    world.send();
    world.go_down();
    assert!(world.channels.acknowledged().is_empty());
    world.come_up();
    world.settle();
    assert_eq!(world.told, [1]);
    world.assert_agreed();
}

#[test]
fn unlisten_in_an_outage_is_done_at_once() {
    let mut world = World::up();
    world.channels.listen("a", 1).unwrap();
    world.settle();
    world.go_down();
    assert!(matches!(world.channels.unlisten("a", 2), Unlistened::Done { leaver: 2, ousted: None }));
    assert!(matches!(world.channels.unlisten("a", 3), Unlistened::NotListening));
    world.come_up();
    world.send();
    assert!(world.sent.is_empty());
    world.assert_agreed();
}

#[test]
fn unlisten_while_the_next_link_begins_is_made_good() {
    let mut world = World::up();
    world.channels.listen("a", 1).unwrap();
    world.channels.listen("b", 2).unwrap();
    world.settle();
    world.go_down();
    let batch = world.channels.acknowledged();
    world.channels.unlisten("a", 3);
    world.channels.unlisten("b", 4);
    world.channels.listen("b", 5).unwrap();
    world.come_up_with(batch);
    assert!(world.channels.is_forgotten("a") && !world.channels.is_forgotten("b"));
    world.settle();
    assert!(world.told.contains(&5));
    assert_eq!(world.channels.names(), ["b"]);
    world.assert_agreed();
}

#[test]
fn all_are_forgotten_in_one_statement() {
    let mut world = World::up();
    for number in 0..100 {
        world.channels.listen(&number.to_string(), number).unwrap();
    }
    world.settle();
    assert_eq!(world.channels.unlisten_all(100), (vec![], None));
    world.send();
    assert_eq!(world.sent.len(), 1);
    assert!(!world.told.contains(&100));
    world.settle();
    assert!(world.told.contains(&100));
    assert_eq!(world.channels.unlisten_all(101), (vec![], Some(101)));
    world.assert_agreed();
}

#[test]
fn server_and_wishes_agree_after_any_course_of_things_and_everyone_is_told_once() {
    for seed in 0..3_000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::up();
        let (mut number, mut tickets, mut asked, mut cancelled) = (0, Vec::new(), Vec::new(), BTreeSet::new());
        let mut batch = None;
        for _ in 0..random.random_range(1..60) {
            let name = ["a", "b", "c"][random.random_range(0..3)];
            match random.random_range(0..12) {
                0..3 => {
                    number += 1;
                    if let Some(ticket) = world.channels.listen(name, number) {
                        asked.push(number);
                        tickets.push((name, ticket, number));
                    }
                }
                3 if !tickets.is_empty() => {
                    let (name, ticket, waiter) = tickets.swap_remove(random.random_range(0..tickets.len()));
                    // (Once told, a caller does not cancel any more, unless it never looks.)
                    cancelled.insert(waiter);
                    world.channels.cancel(name, ticket);
                }
                4 | 5 => {
                    number += 1;
                    match world.channels.unlisten(name, number) {
                        Unlistened::NotListening => {}
                        Unlistened::Waits { ousted } => {
                            asked.push(number);
                            world.told.extend(ousted);
                        }
                        Unlistened::Done { leaver, ousted } => {
                            asked.push(number);
                            world.told.push(leaver);
                            world.told.extend(ousted);
                        }
                    }
                }
                6 if random.random_range(0..4) == 0 => {
                    number += 1;
                    asked.push(number);
                    let (ousted, leaver) = world.channels.unlisten_all(number);
                    world.told.extend(ousted.into_iter().map(|(_, waiter)| waiter));
                    world.told.extend(leaver);
                }
                7 if world.is_up => world.go_down(),
                8 if !world.is_up => match batch.take() {
                    // The LISTENs of a link's beginning are on their way for a while.
                    None => batch = Some(world.channels.acknowledged()),
                    Some(batch) => world.come_up_with(batch),
                },
                9 => world.send(),
                _ => drop(world.serve(random.random_range(0..5) == 0)),
            }
            if world.is_up {
                batch = None;
            }
        }
        if !world.is_up {
            world.come_up();
        }
        world.settle();
        world.assert_agreed();
        let mut told = world.told.clone();
        told.sort_unstable();
        let once: BTreeSet<_> = told.iter().copied().collect();
        assert_eq!(once.len(), told.len(), "seed {seed}: somebody was told twice: {told:?}");
        for waiter in asked {
            assert!(once.contains(&waiter) || cancelled.contains(&waiter), "seed {seed}: {waiter} was not told");
        }
    }
}

#[test]
fn what_is_cancelled_leaves_nothing_behind_whether_or_not_there_is_a_link() {
    for is_up in [true, false] {
        let mut world = World::up();
        if !is_up {
            world.go_down();
        }
        for number in 0..1000 {
            let channel = format!("channel {}", number % 7);
            let ticket = world.channels.listen(&channel, number).unwrap();
            world.channels.cancel(&channel, ticket);
        }
        assert_eq!((world.channels.entries.len(), world.channels.marked.len()), (0, 0));
    }
}
