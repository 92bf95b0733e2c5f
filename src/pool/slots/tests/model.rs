//! The slot table and its entries under random sequences of everything that callers can do.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// The state of a caller.
#[derive(Debug)]
enum Caller {
    Waits(WaiterId),
    /// It was granted a connection, or else a slot, and yields before it goes on.
    Yields {
        has_connection: bool,
    },
    /// It has to close the idle connection of another entry first.
    Evicts(EntryId),
    /// It has a connection that has to be closed first.
    Replaces,
    /// It has its slot.
    Begins,
    Dials,
    Uses,
    /// It has to close its connection before it gives everything back.
    Leaves {
        was_releasing: bool,
    },
}

/// A slot table with the callers and the connections around it.
struct Model {
    table: Table,
    entries: Vec<TestEntry>,
    /// The entries of the open connections.
    open: Vec<EntryId>,
    /// The entries whose connection must not be lent any more.
    scheduled: BTreeSet<EntryId>,
    /// Each caller with its entry and its state, by number.
    callers: BTreeMap<u32, (EntryId, Caller)>,
    /// The entries whose connection is being closed for no caller.
    closing: Vec<EntryId>,
    max: usize,
}

impl Model {
    fn new(max: usize, entries: usize) -> Self {
        let mut table = Table::new(max);
        let entries = (0..entries).map(|_| table.add_entry().1).collect();
        Self {
            table,
            entries,
            open: Vec::new(),
            scheduled: BTreeSet::new(),
            callers: BTreeMap::new(),
            closing: Vec::new(),
            max,
        }
    }

    /// The state of a caller after a grant.
    fn accept(&mut self, entry: EntryId, grant: Grant<Connection, &'static str>) -> Option<Caller> {
        match grant {
            Grant::Reuse => {
                assert!(!self.scheduled.contains(&entry), "the connection was scheduled to close");
                Some(Caller::Uses)
            }
            Grant::Replace => {
                assert!(self.scheduled.contains(&entry), "no close was scheduled");
                Some(Caller::Replaces)
            }
            Grant::Slot(None) => Some(Caller::Begins),
            Grant::Slot(Some(evicted)) => Some(Caller::Evicts(evicted.entry)),
            Grant::Failed(_) => None,
        }
    }

    /// A new caller asks for an entry. The entry may be asked before the table or not, as the hint for that may be out
    /// of date.
    fn acquire(&mut self, caller: u32, entry: EntryId, may_wait: bool, yields: bool, asks_entry: bool) {
        let waker = &mut may_wait.then(|| Waker::noop().clone());
        let admission = if asks_entry { self.entries[entry].lock().enqueue(&self.table.summary, waker) } else { None };
        let state = match admission.unwrap_or_else(|| self.table.acquire(entry, waker)) {
            Admission::Busy => return assert!(!may_wait),
            Admission::Queued(waiter) => Caller::Waits(waiter),
            Admission::Granted(Grant::Reuse) if yields => Caller::Yields { has_connection: true },
            Admission::Granted(Grant::Slot(None)) if yields => Caller::Yields { has_connection: false },
            Admission::Granted(grant) => self.accept(entry, grant).unwrap(),
        };
        self.callers.insert(caller, (entry, state));
    }

    /// One caller goes one step further. `choice` selects among the steps that are possible.
    fn step(&mut self, caller: u32, choice: u32) {
        let Some((entry, state)) = self.callers.remove(&caller) else { return };
        let next = match state {
            // A caller that gives up after a grant gives the connection back as it is.
            Caller::Waits(waiter) if choice == 0 => {
                let cancelled = self.entries[entry].lock().cancel(waiter);
                match cancelled.unwrap_or_else(|| self.table.cancel(entry, waiter)) {
                    Waiter::Granted(Grant::Reuse) => Some(Caller::Uses),
                    Waiter::Granted(grant) => self.accept(entry, grant),
                    Waiter::Waiting { .. } => None,
                }
            }
            Caller::Waits(waiter) => {
                let grant = self.entries[entry].lock().take_grant(waiter);
                grant.map_or(Some(Caller::Waits(waiter)), |grant| self.accept(entry, grant))
            }
            Caller::Yields { has_connection: true } if choice == 0 => Some(Caller::Uses),
            Caller::Yields { has_connection: true } => {
                let grant = self.entries[entry].lock().confirm_reuse();
                self.accept(entry, grant)
            }
            Caller::Yields { has_connection: false } => Some(Caller::Begins),
            Caller::Evicts(evicted) => {
                self.close(evicted);
                let (_, idle) = self.table.finish_eviction(evicted);
                self.closing.extend(idle.map(|idle| idle.entry));
                Some(Caller::Begins)
            }
            Caller::Replaces => {
                self.close(entry);
                Some(Caller::Begins)
            }
            Caller::Begins if choice == 0 => {
                self.table.release(entry, false);
                None
            }
            Caller::Begins => {
                self.entries[entry].lock().begin_dial();
                Some(Caller::Dials)
            }
            // The dial fails.
            Caller::Dials if choice == 0 => {
                self.scheduled.remove(&entry);
                self.entries[entry].lock().fail_waiters(|| "refused");
                self.table.release(entry, false);
                None
            }
            Caller::Dials => {
                self.open.push(entry);
                Some(Caller::Uses)
            }
            // The health check finds it dead.
            Caller::Uses if choice == 1 => {
                self.close(entry);
                Some(Caller::Begins)
            }
            Caller::Uses if choice == 0 => {
                self.table.begin_release(entry, false);
                Some(Caller::Leaves { was_releasing: true })
            }
            Caller::Uses if choice == 2 && self.hand_over(entry) => None,
            Caller::Uses => match self.table.give_back(entry, Connection { entry }, Place::newest(None), false) {
                GivenBack::HandedOver(_) | GivenBack::Idle => {
                    assert!(!self.scheduled.contains(&entry), "the connection was scheduled to close");
                    None
                }
                GivenBack::Close(reason) => {
                    assert!(
                        reason != CloseReason::Scheduled || self.scheduled.contains(&entry),
                        "no close was scheduled"
                    );
                    Some(Caller::Leaves { was_releasing: true })
                }
            },
            Caller::Leaves { was_releasing } => {
                self.close(entry);
                self.table.release(entry, was_releasing);
                None
            }
        };
        if let Some(next) = next {
            self.callers.insert(caller, (entry, next));
        }
    }

    /// Hands a connection over at the entry, if the entry decides alone.
    fn hand_over(&mut self, entry: EntryId) -> bool {
        let mut locked = self.entries[entry].lock();
        let first_here = locked.first_seq();
        let is_handed_over = locked.hand_over(&self.table.summary, false).is_some();
        let first_slot_waiter = self.table.slot_waiters.keys().next().copied().unwrap_or(u64::MAX);
        assert!(!is_handed_over || first_here < first_slot_waiter, "a waiter for a slot was overtaken");
        assert!(!is_handed_over || !self.scheduled.contains(&entry), "the connection was scheduled to close");
        is_handed_over
    }

    fn close(&mut self, entry: EntryId) {
        let index = self.open.iter().position(|open| *open == entry).expect("it is open");
        self.open.swap_remove(index);
        self.scheduled.remove(&entry);
    }

    /// A connection that is open or being dialed must not be lent again.
    fn schedule_close(&mut self, entry: EntryId) {
        let dials = |(of, state): &(EntryId, Caller)| *of == entry && matches!(state, Caller::Dials);
        if self.open.contains(&entry) || self.callers.values().any(dials) {
            self.scheduled.insert(entry);
        }
        let idle = self.table.schedule_close(entry);
        self.closing.extend(idle.map(|idle| idle.entry));
    }

    fn evict_oldest(&mut self) {
        let idle = self.table.evict_oldest();
        self.closing.extend(idle.map(|idle| idle.entry));
    }

    fn finish_one_close(&mut self) {
        if let Some(entry) = self.closing.pop() {
            self.close(entry);
            self.table.release(entry, true);
        }
    }

    /// What has to hold after each step.
    fn check(&self) {
        let counts = self.table.counts();
        assert!(self.open.len() <= self.max, "{counts:?}");
        assert_eq!(counts.in_use + counts.idle + counts.releasing + self.table.free, self.max);
        let waiting = self.table.slot_waiters.len();
        assert!(waiting == 0 || self.table.free == 0, "{counts:?}");
        assert!(waiting <= self.closing.len() || counts.idle == 0, "{counts:?}");
        let idle: Vec<_> = self.table.idle.iter().collect();
        assert_eq!(idle.len(), counts.idle);
        for entry in idle {
            assert!(!self.entries[entry].lock().is_acquired, "an idle entry is acquired");
            assert!(self.open.contains(&entry), "an idle entry has no connection");
        }
        for entry in &self.entries {
            let entry = entry.lock();
            assert!(entry.is_acquired || entry.waiting() == 0, "a caller waits for an entry that nobody has");
            entry.check();
        }
        let summary = &self.table.summary;
        assert_eq!(summary.allows_hand_over(), waiting == 0 && !summary.is_closed());
        // One caller has an entry, or closes what was idle there; and there are never two connections.
        let having = self.callers.values().filter(|(_, state)| !matches!(state, Caller::Waits(_)));
        let evicted = self.callers.values().filter_map(|(_, state)| match state {
            Caller::Evicts(entry) => Some(*entry),
            _ => None,
        });
        let acquired = having.map(|(entry, _)| *entry).chain(evicted).chain(self.closing.iter().copied());
        assert_distinct(acquired);
        assert_distinct(self.open.iter().copied());
    }
}

fn assert_distinct(entries: impl Iterator<Item = EntryId>) {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_unstable();
    assert!(entries.windows(2).all(|pair| pair[0] != pair[1]), "{entries:?}");
}

fn run(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (max, entries) = (rng.random_range(1..6), rng.random_range(1..9));
    let mut model = Model::new(max, entries);
    for _ in 0..400 {
        let caller = rng.random_range(0..12);
        match rng.random_range(0..20) {
            0 => model.schedule_close(rng.random_range(0..entries)),
            1 => model.evict_oldest(),
            2 => model.finish_one_close(),
            _ if model.callers.contains_key(&caller) => model.step(caller, rng.random_range(0..5)),
            _ => model.acquire(
                caller,
                rng.random_range(0..entries),
                rng.random_range(0..5) > 0,
                rng.random_range(0..5) == 0,
                rng.random_range(0..2) == 0,
            ),
        }
        model.check();
    }
    if rng.random_range(0..4) == 0 {
        model.table.close(|| "closed");
        model.check();
    }
    // All callers reach their end, and all slots come back.
    for _ in 0..1000 {
        let callers: Vec<_> = model.callers.keys().copied().collect();
        callers.into_iter().for_each(|caller| model.step(caller, 2));
        model.finish_one_close();
        model.check();
    }
    assert!(model.callers.is_empty(), "seed {seed}: a caller waits forever: {:?}", model.callers);
    while model.table.counts().idle > 0 {
        model.evict_oldest();
        model.finish_one_close();
    }
    assert_eq!((model.table.free, model.open.len()), (max, 0), "seed {seed}");
}

#[test]
fn slots_and_entries_have_one_owner_at_a_time_and_all_come_back() {
    for seed in 0..400 {
        run(seed);
    }
}
