//! The simulation: clients, their processes and a server, and a queue of events.
//!
//! The server is gone from the time 0, and back after the outage. Each client notices the loss within 50 ms. A dial that is refused
//! takes 1 ms, one that is accepted 50 ms, for TLS and a login. A server with a limit serves a fixed number in a second, one after the
//! other. Up to 1,024 wait in its backlog, and it refuses the others.
//!
//! Next: `laws.rs`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::laws::{Client, Law};
use crate::rules::{Rules, Turn};

/// A second, in nanoseconds.
pub(crate) const S: u64 = 1_000_000_000;
const MS: u64 = S / 1_000;

/// How long a dial takes that the server refuses, or accepts.
const REFUSED: u64 = MS;
const ACCEPTED: u64 = 50 * MS;

/// How many wait for a server that is busy.
const BACKLOG: u64 = 1_024;

/// How many clients share a process, and its limit.
const PROCESS: usize = 1_000;

/// The limit of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) at_once: usize,
    pub(crate) per_second: u32,
}

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fleet {
    pub(crate) clients: usize,
    pub(crate) law: Law,
    pub(crate) limit: Option<Limit>,
    pub(crate) outage: u64,
    /// How many dials the server serves in a second. `None`: all.
    pub(crate) server: Option<u32>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Dials in each second of the outage.
    during: Vec<u32>,
    /// Dials in each tenth of a second after it.
    after: Vec<u32>,
    /// When each client was back, in nanoseconds after the server, in order.
    pub(crate) back: Vec<u64>,
}

impl Outcome {
    /// Dials a second during the outage, on average.
    pub(crate) fn average_during(&self) -> f64 {
        f64::from(self.during.iter().sum::<u32>()) / self.during.len() as f64
    }

    /// The most in a second of the outage.
    pub(crate) fn busiest_during(&self) -> u32 {
        self.during.iter().copied().max().unwrap_or(0)
    }

    /// The most in a second after the return, which may begin at each tenth.
    pub(crate) fn busiest_second(&self) -> u32 {
        self.after.windows(10.min(self.after.len().max(1))).map(|tenths| tenths.iter().sum()).max().unwrap_or(0)
    }

    /// The most in a tenth of a second after the return.
    pub(crate) fn busiest_tenth(&self) -> u32 {
        self.after.iter().copied().max().unwrap_or(0)
    }

    /// How many dials it took until all were back, for each client.
    pub(crate) fn dials_a_client(&self) -> f64 {
        f64::from(self.after.iter().sum::<u32>()) / self.back.len() as f64
    }

    /// The seconds until this part of the clients was back.
    pub(crate) fn back_after(&self, part: f64) -> f64 {
        let index = ((self.back.len() as f64 * part).ceil() as usize).clamp(1, self.back.len());
        self.back[index - 1] as f64 / S as f64
    }
}

/// Something that happens. In the order of time, and then of the rest, so that each run is the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    time: u64,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The dial of this client ends.
    Ends { client: usize, is_accepted: bool },
    /// The next turn of this process may have come.
    Timer { process: usize },
    /// The delay of this client is over.
    Wants { client: usize },
}

type Events = BinaryHeap<Reverse<Event>>;

/// The limit of a process, and who waits for it.
struct Process {
    rules: Rules,
    waiting: VecDeque<usize>,
    is_timed: bool,
}

struct World {
    clients: Vec<Client>,
    /// None, if there is no limit.
    processes: Vec<Process>,
    outage: u64,
    server: Option<u32>,
    /// When the server has served all that it has accepted.
    free_at: u64,
    outcome: Outcome,
}

/// Simulates a fleet until all its clients are back.
pub(crate) fn run(fleet: &Fleet) -> Outcome {
    let mut random = SmallRng::seed_from_u64(1);
    let mut world = World {
        clients: (0..fleet.clients).map(|client| fleet.law.client(client as u64)).collect(),
        processes: (0..fleet.limit.map_or(0, |_| fleet.clients.div_ceil(PROCESS)))
            .filter_map(|_| fleet.limit)
            .map(|Limit { at_once, per_second }| Process {
                rules: Rules::new(at_once, per_second, random.random_range(0.0..1.0)),
                waiting: VecDeque::new(),
                is_timed: false,
            })
            .collect(),
        outage: fleet.outage,
        server: fleet.server,
        free_at: 0,
        outcome: Outcome { during: vec![0; (fleet.outage / S) as usize], after: Vec::new(), back: Vec::new() },
    };
    let mut left = Vec::new();
    // Until the server is back, no client depends on another, or only on those of its process.
    for first in (0..fleet.clients).step_by(PROCESS) {
        let mut events = Events::new();
        for client in first..fleet.clients.min(first + PROCESS) {
            let mut time = world.clients[client].lost(random.random_range(0..50 * MS));
            while world.processes.is_empty() && time < fleet.outage {
                world.outcome.during[(time / S) as usize] += 1;
                time = world.clients[client].failed(time + REFUSED);
            }
            events.push(Reverse(Event { time, what: What::Wants { client } }));
        }
        world.run(&mut events, fleet.outage);
        left.append(&mut events.into_vec());
    }
    world.run(&mut Events::from(left), u64::MAX);
    assert_eq!(world.outcome.back.len(), fleet.clients, "all come back");
    world.outcome
}

impl World {
    /// Lets everything happen that happens before this time.
    fn run(&mut self, events: &mut Events, until: u64) {
        while events.peek().is_some_and(|Reverse(event)| event.time < until) {
            let Some(Reverse(Event { time, what })) = events.pop() else { return };
            match what {
                What::Wants { client } => match self.processes.get_mut(client / PROCESS) {
                    Some(process) => {
                        process.waiting.push_back(client);
                        self.give_turns(client / PROCESS, time, events);
                    }
                    None => self.dial(client, time, events),
                },
                What::Ends { client, is_accepted } => {
                    if let Some(process) = self.processes.get_mut(client / PROCESS) {
                        process.rules.end();
                        self.give_turns(client / PROCESS, time, events);
                    }
                    if is_accepted {
                        self.outcome.back.push(time - self.outage);
                    } else {
                        let time = self.clients[client].failed(time);
                        events.push(Reverse(Event { time, what: What::Wants { client } }));
                    }
                }
                What::Timer { process } => {
                    self.processes[process].is_timed = false;
                    self.give_turns(process, time, events);
                }
            }
        }
    }

    /// Lets those of a process dial whose turn has come.
    fn give_turns(&mut self, index: usize, now: u64, events: &mut Events) {
        loop {
            let process = &mut self.processes[index];
            let Some(client) = process.waiting.front().copied() else { return };
            match process.rules.begin(Duration::from_nanos(now)) {
                Turn::Now => {
                    process.waiting.pop_front();
                    self.dial(client, now, events);
                }
                Turn::After(wait) if !process.is_timed => {
                    process.is_timed = true;
                    let time = now + wait.as_nanos() as u64;
                    return events.push(Reverse(Event { time, what: What::Timer { process: index } }));
                }
                Turn::After(_) | Turn::AfterADial => return,
            }
        }
    }

    /// Counts a dial, and plans its end.
    fn dial(&mut self, client: usize, now: u64, events: &mut Events) {
        match now.checked_sub(self.outage) {
            None => self.outcome.during[(now / S) as usize] += 1,
            Some(after) => {
                let tenth = (after / (S / 10)) as usize;
                if self.outcome.after.len() <= tenth {
                    self.outcome.after.resize(tenth + 1, 0);
                }
                self.outcome.after[tenth] += 1;
            }
        }
        let accepted = self.accept(now);
        let time = accepted.unwrap_or(now + REFUSED);
        events.push(Reverse(Event { time, what: What::Ends { client, is_accepted: accepted.is_some() } }));
    }

    /// When the server has served a dial that comes now. `None`: it refuses it.
    fn accept(&mut self, now: u64) -> Option<u64> {
        if now < self.outage {
            return None;
        }
        let Some(per_second) = self.server else { return Some(now + ACCEPTED) };
        let each = S / u64::from(per_second);
        if self.free_at.saturating_sub(now) >= BACKLOG * each {
            return None;
        }
        self.free_at = self.free_at.max(now) + each;
        Some(self.free_at + ACCEPTED)
    }
}
