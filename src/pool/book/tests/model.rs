//! The book against users who do everything in any order.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::*;
use super::Connection;

/// What a user is at.
#[derive(Debug)]
enum User {
    Waits(usize),
    /// The idle connection of another entry has to be closed first.
    Closes(usize),
    /// It has a connection that has to be closed first.
    Replaces,
    /// It has its slot.
    Begins,
    Dials,
    Uses,
    /// Its connection has to be closed, before it gives everything back.
    Leaves(bool),
}

struct World {
    book: Book<Connection, &'static str>,
    /// The entries of the open connections.
    open: Vec<usize>,
    /// Those whose connection nobody may get any more.
    scheduled: BTreeSet<usize>,
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
        Self { book, open: Vec::new(), scheduled: BTreeSet::new(), users: BTreeMap::new(), closing: Vec::new(), max }
    }

    fn accept(&mut self, entry: usize, grant: Grant<usize, &'static str>) -> Option<User> {
        match grant {
            Grant::Reuse => {
                assert!(!self.scheduled.contains(&entry), "it was to be closed");
                Some(User::Uses)
            }
            Grant::Replace => {
                assert!(self.scheduled.contains(&entry), "nobody wanted it to be closed");
                Some(User::Replaces)
            }
            Grant::Slot(None) => Some(User::Begins),
            Grant::Slot(Some(evicted)) => Some(User::Closes(evicted.entry)),
            Grant::Failed(_) => None,
        }
    }

    fn ask(&mut self, user: u32, entry: usize, may_wait: bool, defers: bool) {
        let at = match self.book.ask(entry, &mut may_wait.then(|| Waker::noop().clone())) {
            Answer::Busy => return assert!(!may_wait),
            Answer::Wait(place) => User::Waits(place),
            Answer::Now(grant @ (Grant::Reuse | Grant::Slot(None))) if defers => {
                User::Waits(self.book.defer(entry, grant))
            }
            Answer::Now(grant) => self.accept(entry, grant).unwrap(),
        };
        self.users.insert(user, (entry, at));
    }

    /// One user goes one step further.
    fn step(&mut self, user: u32, way: u32) {
        let Some((entry, at)) = self.users.remove(&user) else { return };
        let next = match at {
            // One who was granted something and goes gives a connection back as it is.
            User::Waits(place) if way == 0 => match self.book.cancel(place).0 {
                Some(Grant::Reuse) => Some(User::Uses),
                Some(grant) => self.accept(entry, grant),
                None => None,
            },
            User::Waits(place) => match self.book.fetch(place) {
                Some(grant) => self.accept(entry, grant),
                None => Some(User::Waits(place)),
            },
            User::Closes(evicted) => {
                self.closed(evicted);
                let (_, idle) = self.book.evicted(evicted);
                self.closing.extend(idle.map(|idle| idle.entry));
                Some(User::Begins)
            }
            User::Replaces => {
                self.closed(entry);
                Some(User::Begins)
            }
            User::Begins if way == 0 => {
                self.book.release(entry, false);
                None
            }
            User::Begins => {
                self.book.begin_dial(entry);
                Some(User::Dials)
            }
            // The dial fails.
            User::Dials if way == 0 => {
                self.scheduled.remove(&entry);
                self.book.fail_waiters(entry, || "refused");
                self.book.release(entry, false);
                None
            }
            User::Dials => {
                self.open.push(entry);
                Some(User::Uses)
            }
            // It was found dead.
            User::Uses if way == 1 => {
                self.closed(entry);
                Some(User::Begins)
            }
            User::Uses if way == 0 => {
                self.book.begin_release(entry);
                Some(User::Leaves(true))
            }
            User::Uses => match self.book.put(entry, Connection { entry }, None) {
                Put::Kept(_) => {
                    assert!(!self.scheduled.contains(&entry), "it was to be closed");
                    None
                }
                Put::Close(why) => {
                    assert!(why != Why::Scheduled || self.scheduled.contains(&entry), "nobody wanted it to be closed");
                    Some(User::Leaves(true))
                }
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
        self.scheduled.remove(&entry);
    }

    /// What is open, or being opened, shall have no other user.
    fn schedule_close(&mut self, entry: usize) {
        let dials = |(of, at): &(usize, User)| *of == entry && matches!(at, User::Dials);
        if self.open.contains(&entry) || self.users.values().any(dials) {
            self.scheduled.insert(entry);
        }
        let idle = self.book.schedule_close(entry);
        self.closing.extend(idle.map(|idle| idle.entry));
    }

    fn close_any(&mut self) {
        let idle = self.book.take_any_idle();
        self.closing.extend(idle.map(|idle| idle.entry));
    }

    fn close_one(&mut self) {
        if let Some(entry) = self.closing.pop() {
            self.closed(entry);
            self.book.release(entry, true);
        }
    }

    fn check(&self) {
        let counts = self.book.counts();
        assert!(self.open.len() <= self.max, "{counts:?}");
        assert_eq!(counts.in_use + counts.idle + counts.releasing + self.book.free, self.max);
        let waiting = self.book.for_slot.len();
        assert!(waiting == 0 || self.book.free == 0, "{counts:?}");
        assert!(waiting <= self.closing.len() || counts.idle == 0, "{counts:?}");
        let idle = self.book.entries.iter().filter(|(_, entry)| matches!(entry.phase, Phase::Idle { .. })).count();
        assert_eq!(idle, counts.idle);
        for (_, entry) in &self.book.entries {
            let is_claimed = matches!(entry.phase, Phase::Claimed);
            assert!(is_claimed || entry.waiters.is_empty(), "somebody waits for an entry that nobody has");
            assert!(entry.waiters.iter().all(|(ticket, waiter)| self.book.waiters[*waiter].ticket == *ticket));
        }
        // One user of an entry at a time, or one who closes what was idle; and never two connections.
        let having = self.users.values().filter(|(_, at)| !matches!(at, User::Waits(_)));
        let evicted =
            self.users.values().filter_map(|(_, at)| if let User::Closes(entry) = at { Some(*entry) } else { None });
        assert_each_once(having.map(|(entry, _)| *entry).chain(evicted).chain(self.closing.iter().copied()));
        assert_each_once(self.open.iter().copied());
    }
}

fn assert_each_once(entries: impl Iterator<Item = usize>) {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_unstable();
    assert!(entries.windows(2).all(|pair| pair[0] != pair[1]), "{entries:?}");
}

fn play(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (max, entries) = (rng.random_range(1..6), rng.random_range(1..9));
    let mut world = World::new(max, entries);
    for _ in 0..400 {
        let user = rng.random_range(0..12);
        match rng.random_range(0..20) {
            0 => world.schedule_close(rng.random_range(0..entries)),
            1 => world.close_any(),
            2 => world.close_one(),
            _ if world.users.contains_key(&user) => world.step(user, rng.random_range(0..5)),
            _ => world.ask(user, rng.random_range(0..entries), rng.random_range(0..5) > 0, rng.random_range(0..5) == 0),
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
        users.into_iter().for_each(|user| world.step(user, 2));
        world.close_one();
        world.check();
    }
    assert!(world.users.is_empty(), "seed {seed}: somebody waits for ever: {:?}", world.users);
    while world.book.counts().idle > 0 {
        world.close_any();
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
