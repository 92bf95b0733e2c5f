//! The book against users who do everything in any order.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

struct Connection {
    entry: usize,
}

impl Parked for Connection {
    type Live = usize;

    fn take(&self) -> usize {
        self.entry
    }
}

/// What a user is at.
#[derive(Debug)]
enum User {
    Waits(usize),
    /// A connection that is not its own has to be closed first.
    Closes(Option<usize>),
    Uses,
    /// Its connection has to be closed, before it gives everything back.
    Leaves(bool),
}

struct World {
    book: Book<Connection, &'static str>,
    /// The entries of the open connections. (One that is being closed, and the next, may be of the same.)
    open: Vec<usize>,
    /// By number: its entry, and what it is at.
    users: BTreeMap<u32, (usize, User)>,
    /// Closed by nobody's wish.
    closing: Vec<usize>,
    max: usize,
}

impl World {
    fn new(max: usize, entries: usize) -> Self {
        let mut book = Book::new(max);
        for _ in 0..entries {
            book.add_entry();
        }
        Self { book, open: Vec::new(), users: BTreeMap::new(), closing: Vec::new(), max }
    }

    fn accept(&mut self, grant: Grant<usize, &'static str>) -> Option<User> {
        match grant {
            Grant::Reuse => Some(User::Uses),
            Grant::Slot(evicted) => Some(User::Closes(evicted)),
            Grant::Failed(_) => None,
        }
    }

    fn ask(&mut self, user: u32, entry: usize, may_wait: bool) {
        let at = match self.book.ask(entry, &mut may_wait.then(|| Waker::noop().clone())) {
            Answer::Busy => return assert!(!may_wait),
            Answer::Wait(place) => User::Waits(place),
            Answer::Now(grant) => self.accept(grant).unwrap(),
        };
        self.users.insert(user, (entry, at));
    }

    /// One user goes one step further.
    fn step(&mut self, user: u32, way: u32) {
        let Some((entry, at)) = self.users.remove(&user) else { return };
        let next = match at {
            User::Waits(place) if way == 0 => match self.book.cancel(place).0 {
                Some(grant) => self.accept(grant),
                None => None,
            },
            User::Waits(place) => match self.book.fetch(place) {
                Some(grant) => self.accept(grant),
                None => Some(User::Waits(place)),
            },
            User::Closes(Some(evicted)) => {
                self.closed(evicted);
                self.book.evicted();
                Some(User::Closes(None))
            }
            // The dial fails.
            User::Closes(None) if way == 0 => {
                self.book.fail_waiters(entry, || "refused");
                self.book.release(entry, false);
                None
            }
            User::Closes(None) => {
                self.open.push(entry);
                Some(User::Uses)
            }
            User::Uses if way == 0 => {
                self.book.begin_release(entry);
                Some(User::Leaves(true))
            }
            User::Uses => match self.book.put(entry, Connection { entry }, None) {
                Put::Kept(_) => None,
                Put::Close(_) => Some(User::Leaves(true)),
            },
            User::Leaves(was_releasing) => {
                self.closed(entry);
                self.book.release(entry, was_releasing);
                None
            }
        };
        if let Some(next) = next {
            self.users.insert(user, (entry, next));
        }
    }

    fn closed(&mut self, entry: usize) {
        let index = self.open.iter().position(|open| *open == entry).expect("it is open");
        self.open.swap_remove(index);
    }

    fn close_one(&mut self) {
        if let Some(entry) = self.closing.pop() {
            self.closed(entry);
            self.book.released();
        }
    }

    fn check(&self) {
        let counts = self.book.counts();
        assert!(self.open.len() <= self.max, "{counts:?}");
        assert_eq!(counts.in_use + counts.idle + counts.releasing + self.book.free, self.max);
        let has_waiting = !self.book.for_slot.is_empty();
        assert!(!has_waiting || (counts.idle == 0 && self.book.free == 0), "{counts:?}");
        let idle = self.book.entries.iter().filter(|(_, entry)| matches!(entry.phase, Phase::Idle { .. })).count();
        assert_eq!(idle, counts.idle);
        for (_, entry) in &self.book.entries {
            let is_claimed = matches!(entry.phase, Phase::Claimed);
            assert!(is_claimed || entry.waiters.is_empty(), "somebody waits for an entry that nobody has");
            assert!(entry.waiters.iter().all(|(ticket, waiter)| self.book.waiters[*waiter].ticket == *ticket));
            assert!(is_claimed || !entry.is_starved);
        }
        // One user of an entry at a time.
        let having = self.users.values().filter(|(_, at)| !matches!(at, User::Waits(_)));
        let mut entries: Vec<_> = having.map(|(entry, _)| *entry).collect();
        let count = entries.len();
        entries.sort_unstable();
        entries.dedup();
        assert_eq!(entries.len(), count);
    }
}

fn play(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (max, entries) = (rng.random_range(1..6), rng.random_range(1..9));
    let mut world = World::new(max, entries);
    for _ in 0..400 {
        let user = rng.random_range(0..12);
        match rng.random_range(0..20) {
            0 => world.closing.extend(world.book.schedule_close(rng.random_range(0..entries))),
            1 => world.closing.extend(world.book.take_any_idle()),
            2 => world.close_one(),
            _ if world.users.contains_key(&user) => world.step(user, rng.random_range(0..5)),
            _ => world.ask(user, rng.random_range(0..entries), rng.random_range(0..5) > 0),
        }
        world.check();
    }
    if rng.random_range(0..4) == 0 {
        world.book.close(|| "closed");
        world.check();
    }
    // Everyone comes to an end, and everything comes back.
    for _ in 0..1000 {
        let users: Vec<_> = world.users.keys().copied().collect();
        users.into_iter().for_each(|user| world.step(user, 1));
        world.close_one();
        world.check();
    }
    assert!(world.users.is_empty(), "seed {seed}: somebody waits for ever: {:?}", world.users);
    while let Some(entry) = world.book.take_any_idle() {
        world.closing.push(entry);
        world.close_one();
    }
    assert_eq!((world.book.free, world.open.len()), (max, 0), "seed {seed}");
}

#[test]
fn slots_and_entries_are_had_by_one_at_a_time_and_all_come_back() {
    for seed in 0..400 {
        play(seed);
    }
}

fn three_entries(max: usize) -> Book<Connection, &'static str> {
    let mut book = Book::new(max);
    for _ in 0..3 {
        book.add_entry();
    }
    book
}

#[test]
fn connection_that_was_idle_for_longest_makes_room() {
    let mut book = three_entries(2);
    for entry in [0, 1] {
        assert_eq!(book.ask(entry, &mut None), Answer::Now(Grant::Slot(None)));
    }
    for entry in [1, 0] {
        assert!(matches!(book.put(entry, Connection { entry }, None), Put::Kept(None)));
    }
    assert_eq!(book.ask(2, &mut None), Answer::Now(Grant::Slot(Some(1))));
}

#[test]
fn whoever_came_first_is_served_first_across_entries() {
    let mut book = three_entries(1);
    assert_eq!(book.ask(0, &mut Some(Waker::noop().clone())), Answer::Now(Grant::Slot(None)));
    let Answer::Wait(elsewhere) = book.ask(1, &mut Some(Waker::noop().clone())) else { panic!() };
    let Answer::Wait(here) = book.ask(0, &mut Some(Waker::noop().clone())) else { panic!() };
    // Its connection would serve the second, but the first comes first.
    assert!(matches!(book.put(0, Connection { entry: 0 }, None), Put::Close(Why::Evicted)));
    book.release(0, true);
    assert_eq!(book.fetch(here), None);
    assert_eq!(book.fetch(elsewhere), Some(Grant::Slot(None)));
    book.release(1, false);
    assert_eq!(book.fetch(here), Some(Grant::Slot(None)));
}
