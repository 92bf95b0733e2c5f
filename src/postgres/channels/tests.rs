//! The rules, against a simulated server that executes commands in order.

use std::collections::{BTreeSet, VecDeque};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

mod shared;

/// A waiter: a number, so that the tests can see which calls were answered.
type Number = u32;

struct Simulation {
    channels: Channels<Number>,
    /// The commands on their way to the server.
    sent: VecDeque<ChannelCommand<Number>>,
    server: BTreeSet<String>,
    is_connected: bool,
    notified: Vec<Number>,
}

impl Simulation {
    fn connected() -> Self {
        let mut sim = Self {
            channels: Channels::default(),
            sent: VecDeque::new(),
            server: BTreeSet::new(),
            is_connected: false,
            notified: Vec::new(),
        };
        sim.connect();
        sim
    }

    fn connect(&mut self) {
        let batch = self.channels.in_login();
        self.connect_with(batch);
    }

    fn connect_with(&mut self, batch: Vec<(Arc<str>, u64)>) {
        self.server = batch.iter().map(|(name, _)| name.to_string()).collect();
        self.channels.link_up(batch);
        self.is_connected = true;
        assert!(self.channels.is_connected());
    }

    fn disconnect(&mut self) {
        self.notified.extend(self.channels.link_down());
        assert!(!self.channels.is_connected());
        for command in self.sent.drain(..) {
            let (ChannelCommand::Listen { waiters, .. } | ChannelCommand::Unlisten { waiters, .. }) = command;
            self.notified.extend(waiters);
        }
        self.is_connected = false;
    }

    fn send(&mut self) {
        let (commands, done) = self.channels.take_commands();
        self.sent.extend(commands);
        self.notified.extend(done);
    }

    /// The server executes one command. False if there is none.
    fn serve(&mut self, refuses: bool) -> bool {
        match self.sent.pop_front() {
            None => return false,
            Some(ChannelCommand::Listen { channel, id, waiters }) => {
                self.notified.extend(waiters);
                if refuses {
                    self.notified.extend(self.channels.listen_refused(&channel, id));
                } else {
                    self.server.insert(channel.to_string());
                    self.notified.extend(self.channels.listen_acknowledged(&channel, id));
                }
            }
            Some(ChannelCommand::Unlisten { channels, waiters }) => {
                self.server.retain(|name| !channels.iter().any(|channel| **channel == **name));
                self.notified.extend(waiters);
                self.channels.unlisten_acknowledged(&channels);
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

    fn assert_consistent(&self) {
        let wanted: BTreeSet<String> = self.channels.names().into_iter().collect();
        assert_eq!(self.server, wanted);
        assert_eq!(self.channels.entries.len(), wanted.len(), "an entry is left that the program does not want");
        assert!(self.channels.entries.values().all(|entry| entry.unlisten_waiters.is_empty() && entry.unanswered == 0));
    }
}

#[test]
fn listen_returns_when_the_server_has_acknowledged() {
    let mut sim = Simulation::connected();
    assert_eq!(sim.channels.listen("a", 1), Some(1));
    assert_eq!(sim.channels.listen("a", 2), None);
    sim.send();
    assert_eq!(sim.notified, []);
    assert!(sim.channels.in_login().is_empty());
    sim.settle();
    assert_eq!(sim.notified, [1]);
    assert_eq!(sim.channels.in_login().len(), 1);
    sim.assert_consistent();
}

#[test]
fn cancelled_listen_is_taken_back_at_every_stage() {
    // Not sent, sent, answered, lost with the connection, about to be sent again.
    for stage in 0..5 {
        let mut sim = Simulation::connected();
        let id = sim.channels.listen("a", 1).unwrap();
        if stage > 0 {
            sim.send();
        }
        if stage == 2 {
            sim.serve(false);
        }
        if stage > 2 {
            sim.disconnect();
        }
        if stage > 3 {
            sim.connect();
        }
        let waiting = sim.channels.cancel("a", id);
        assert!(waiting == Some(1) || stage == 2, "stage {stage}");
        if !sim.is_connected {
            sim.connect();
        }
        sim.settle();
        assert_eq!(sim.server.len(), 0, "stage {stage}");
        sim.assert_consistent();
    }
}

#[test]
fn cancelled_listen_leaves_a_newer_one_alone() {
    let mut sim = Simulation::connected();
    let old = sim.channels.listen("a", 1).unwrap();
    sim.send();
    assert!(matches!(sim.channels.unlisten("a", 2), UnlistenOutcome::Pending { cancelled: Some(1) }));
    sim.channels.listen("a", 3).unwrap();
    sim.channels.cancel("a", old);
    sim.settle();
    assert_eq!(sim.notified, [2, 3]);
    assert_eq!(sim.channels.names(), ["a"]);
    sim.assert_consistent();
}

#[test]
fn refused_listen_is_dropped_and_not_sent_again() {
    let mut sim = Simulation::connected();
    sim.channels.listen("a", 1).unwrap();
    sim.send();
    sim.serve(true);
    assert_eq!(sim.notified, [1]);
    sim.send();
    assert!(sim.sent.is_empty());
    sim.disconnect();
    sim.connect();
    sim.send();
    assert!(sim.sent.is_empty());
    sim.assert_consistent();
}

#[test]
fn listen_without_acknowledgement_is_not_part_of_the_next_login_but_sent_after_it() {
    let mut sim = Simulation::connected();
    sim.channels.listen("a", 1).unwrap();
    sim.send();
    sim.disconnect();
    assert!(sim.channels.in_login().is_empty());
    sim.connect();
    sim.settle();
    assert_eq!(sim.notified, [1]);
    sim.assert_consistent();
}

#[test]
fn nothing_is_sent_that_the_server_knows() {
    let mut sim = Simulation::connected();
    sim.channels.listen("a", 1).unwrap();
    sim.settle();
    sim.disconnect();
    sim.connect();
    // The login has listened to it.
    sim.send();
    assert!(sim.sent.is_empty());
    let id = sim.channels.listen("b", 2).unwrap();
    sim.channels.cancel("b", id);
    sim.channels.unlisten("a", 3);
    sim.channels.listen("a", 4).unwrap();
    sim.send();
    assert_eq!(sim.sent.iter().map(|command| command.sql(true)).collect::<Vec<_>>(), [r#"LISTEN "a""#]);
    sim.settle();
    sim.assert_consistent();
}

#[test]
fn unlisten_in_an_outage_is_done_at_once() {
    let mut sim = Simulation::connected();
    sim.channels.listen("a", 1).unwrap();
    sim.settle();
    sim.disconnect();
    assert!(matches!(sim.channels.unlisten("a", 2), UnlistenOutcome::Done { waiter: 2, cancelled: None }));
    assert!(matches!(sim.channels.unlisten("a", 3), UnlistenOutcome::NotListening));
    sim.connect();
    sim.send();
    assert!(sim.sent.is_empty());
    sim.assert_consistent();
}

#[test]
fn unlisten_during_the_next_login_is_sent_after_it() {
    let mut sim = Simulation::connected();
    sim.channels.listen("a", 1).unwrap();
    sim.channels.listen("b", 2).unwrap();
    sim.settle();
    sim.disconnect();
    let batch = sim.channels.in_login();
    sim.channels.unlisten("a", 3);
    sim.channels.unlisten("b", 4);
    sim.channels.listen("b", 5).unwrap();
    sim.connect_with(batch);
    assert!(sim.channels.is_unwanted("a") && !sim.channels.is_unwanted("b"));
    sim.settle();
    assert!(sim.notified.contains(&5));
    assert_eq!(sim.channels.names(), ["b"]);
    sim.assert_consistent();
}

#[test]
fn unlisten_all_is_one_command() {
    let mut sim = Simulation::connected();
    for number in 0..100 {
        sim.channels.listen(&number.to_string(), number).unwrap();
    }
    sim.settle();
    assert_eq!(sim.channels.unlisten_all(100), (vec![], None));
    sim.send();
    let sql: String = sim.sent.iter().map(|command| command.sql(true)).collect();
    assert_eq!((sim.sent.len(), sql.matches(r#"UNLISTEN "7";"#).count(), sql.matches(';').count()), (1, 1, 100));
    assert!(!sim.notified.contains(&100));
    sim.settle();
    assert!(sim.notified.contains(&100));
    assert_eq!(sim.channels.unlisten_all(101), (vec![], Some(101)));
    sim.assert_consistent();
}

#[test]
fn end_of_a_listener_answers_every_call_that_waits() {
    let mut sim = Simulation::connected();
    sim.channels.listen("a", 1).unwrap();
    sim.channels.listen("b", 2).unwrap();
    sim.settle();
    sim.channels.unlisten("a", 3);
    assert_eq!(sim.channels.unlisten_all(4), (vec![], None));
    assert_eq!(sim.channels.len(), 0);
    sim.channels.listen("c", 5).unwrap();
    assert_eq!((sim.channels.len(), sim.channels.names()), (1, vec!["c".to_owned()]));
    let mut waiters = sim.channels.into_waiters();
    waiters.sort_unstable();
    assert_eq!(waiters, [3, 4, 5]);
}

#[test]
fn server_has_the_wanted_channels_after_any_history_and_each_call_is_answered_once() {
    for seed in 0..3_000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut sim = Simulation::connected();
        let (mut number, mut listens, mut called, mut cancelled) = (0, Vec::new(), Vec::new(), BTreeSet::new());
        let mut batch = None;
        for _ in 0..random.random_range(1..60) {
            let name = ["a", "b", "c"][random.random_range(0..3)];
            match random.random_range(0..13) {
                0..3 => {
                    number += 1;
                    if let Some(id) = sim.channels.listen(name, number) {
                        called.push(number);
                        listens.push((name, id, number));
                    }
                }
                10 => {
                    number += 1;
                    called.push(number);
                    listens.push((name, sim.channels.share(name, number), number));
                }
                3 if !listens.is_empty() => {
                    let (name, id, waiter) = listens.swap_remove(random.random_range(0..listens.len()));
                    // The call may have been answered already: a caller that is dropped before it looks cancels, too.
                    cancelled.insert(waiter);
                    sim.channels.cancel(name, id);
                }
                4 | 5 => {
                    number += 1;
                    match sim.channels.unlisten(name, number) {
                        UnlistenOutcome::NotListening => {}
                        UnlistenOutcome::Pending { cancelled: listen } => {
                            called.push(number);
                            sim.notified.extend(listen);
                        }
                        UnlistenOutcome::Done { waiter, cancelled: listen } => {
                            called.push(number);
                            sim.notified.push(waiter);
                            sim.notified.extend(listen);
                        }
                    }
                }
                6 if random.random_range(0..4) == 0 => {
                    number += 1;
                    called.push(number);
                    let (listens, done) = sim.channels.unlisten_all(number);
                    sim.notified.extend(listens.into_iter().map(|(_, waiter)| waiter));
                    sim.notified.extend(done);
                }
                7 if sim.is_connected => sim.disconnect(),
                8 if !sim.is_connected => match batch.take() {
                    // The LISTENs of a login are on their way for a while.
                    None => batch = Some(sim.channels.in_login()),
                    Some(batch) => sim.connect_with(batch),
                },
                9 => sim.send(),
                _ => drop(sim.serve(random.random_range(0..5) == 0)),
            }
            if sim.is_connected {
                batch = None;
            }
        }
        if !sim.is_connected {
            sim.connect();
        }
        sim.settle();
        sim.assert_consistent();
        let mut notified = sim.notified.clone();
        notified.sort_unstable();
        let once: BTreeSet<_> = notified.iter().copied().collect();
        assert_eq!(once.len(), notified.len(), "seed {seed}: a call was answered twice: {notified:?}");
        for waiter in called {
            assert!(
                once.contains(&waiter) || cancelled.contains(&waiter),
                "seed {seed}: call {waiter} was not answered"
            );
        }
    }
}

#[test]
fn cancelled_listens_leave_nothing_behind_with_or_without_a_connection() {
    for is_connected in [true, false] {
        let mut sim = Simulation::connected();
        if !is_connected {
            sim.disconnect();
        }
        for number in 0..1000 {
            let channel = format!("channel {}", number % 7);
            let id = sim.channels.listen(&channel, number).unwrap();
            sim.channels.cancel(&channel, id);
        }
        assert_eq!((sim.channels.entries.len(), sim.channels.dirty.len()), (0, 0));
    }
}
