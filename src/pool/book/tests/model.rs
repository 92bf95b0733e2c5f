//! The book and its desks against users who do everything in any order.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::*;
use super::{Connection, Desks};

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
    desks: Desks,
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
        let desks = (0..entries).map(|_| book.add_entry().1).collect();
        Self {
            book,
            desks,
            open: Vec::new(),
            scheduled: BTreeSet::new(),
            users: BTreeMap::new(),
            closing: Vec::new(),
            max,
        }
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

    /// Whether the desk is asked before the book, hangs on hints that may be outdated.
    fn ask(&mut self, user: u32, entry: usize, may_wait: bool, defers: bool, asks_desk: bool) {
        let waker = &mut may_wait.then(|| Waker::noop().clone());
        let answer = if asks_desk { self.desks[entry].lock().ask(&self.book.board, waker) } else { None };
        let at = match answer.unwrap_or_else(|| self.book.ask(entry, waker)) {
            Answer::Busy => return assert!(!may_wait),
            Answer::Wait(place) => User::Waits(place),
            Answer::Now(grant @ (Grant::Reuse | Grant::Slot(None))) if defers => {
                User::Waits(self.desks[entry].lock().defer(grant))
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
            User::Waits(place) if way == 0 => {
                let cancelled = self.desks[entry].lock().cancel(place);
                match cancelled.unwrap_or_else(|| self.book.cancel(entry, place)).0 {
                    Some(Grant::Reuse) => Some(User::Uses),
                    Some(grant) => self.accept(entry, grant),
                    None => None,
                }
            }
            User::Waits(place) => {
                let granted = self.desks[entry].lock().fetch(place);
                granted.map_or(Some(User::Waits(place)), |grant| self.accept(entry, grant))
            }
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
                self.desks[entry].lock().begin_dial();
                Some(User::Dials)
            }
            // The dial fails.
            User::Dials if way == 0 => {
                self.scheduled.remove(&entry);
                self.desks[entry].lock().fail_waiters(|| "refused");
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
                self.book.begin_release(entry, false);
                Some(User::Leaves(true))
            }
            User::Uses if way == 2 && self.hand_over(entry) => None,
            User::Uses => match self.book.put(entry, Connection { entry }, None, false) {
                Put::Kept(_) => {
                    assert!(!self.scheduled.contains(&entry), "it was to be closed");
                    None
                }
                Put::Close(reason) => {
                    assert!(
                        reason != CloseReason::Scheduled || self.scheduled.contains(&entry),
                        "nobody wanted it to be closed"
                    );
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

    /// At the desk, if that can be done there.
    fn hand_over(&mut self, entry: usize) -> bool {
        let mut desk = self.desks[entry].lock();
        let first_here = desk.first_ticket();
        let is_handed = desk.hand_over(&self.book.board, false).is_some();
        let first_elsewhere = self.book.for_slot.keys().next().copied().unwrap_or(u64::MAX);
        assert!(!is_handed || first_here < first_elsewhere, "one who came before waits for a slot");
        assert!(!is_handed || !self.scheduled.contains(&entry), "it was to be closed");
        is_handed
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
        let idle = self.desks.iter().filter(|desk| desk.lock().phase == Phase::Idle).count();
        assert_eq!(
            (idle, idle),
            (counts.idle, self.book.entries.iter().filter(|(_, entry)| entry.rest.is_some()).count())
        );
        for desk in &self.desks {
            let desk = desk.lock();
            let is_claimed = desk.phase == Phase::Claimed;
            assert!(is_claimed || desk.waiting() == 0, "somebody waits for an entry that nobody has");
            desk.check_tickets();
        }
        assert_eq!(self.book.board.is_calm(), waiting == 0 && !self.book.board.is_closed());
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
            _ => world.ask(
                user,
                rng.random_range(0..entries),
                rng.random_range(0..5) > 0,
                rng.random_range(0..5) == 0,
                rng.random_range(0..2) == 0,
            ),
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
