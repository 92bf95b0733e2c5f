//! The slot table, rule by rule. [`model`] has random sequences of all operations, and [`race`] has threads.

use super::*;
use crate::pool::CloseReason;

mod model;
mod race;

/// A resource that stands for its connection.
#[derive(Debug, PartialEq, Eq)]
struct Connection {
    entry: EntryId,
}

type Table = SlotTable<Connection, &'static str>;
type TestEntry = Arc<Mutex<Entry<Connection, &'static str>>>;

fn table_of_three(max: usize) -> (Table, Vec<TestEntry>) {
    let mut table = SlotTable::new(max);
    let entries = (0..3).map(|_| table.add_entry().1).collect();
    (table, entries)
}

fn waker() -> Option<Waker> {
    Some(Waker::noop().clone())
}

/// The slot of a connection that has to be closed first.
fn slot_of(entry: EntryId) -> Admission<Connection, &'static str> {
    Admission::Granted(Grant::Slot(Some(evicted(entry))))
}

fn evicted(entry: EntryId) -> Evicted<Connection> {
    Evicted { resource: Connection { entry }, entry }
}

const FREE_SLOT: Admission<Connection, &str> = Admission::Granted(Grant::Slot(None));

impl Table {
    /// Gives a connection back that is then idle.
    #[track_caller]
    fn give_back_as_idle(&mut self, entry: EntryId) {
        let given_back = self.give_back(entry, Connection { entry }, Place::newest(None), false);
        assert!(matches!(given_back, GivenBack::Idle), "{given_back:?}");
    }

    /// Asks for an entry, for which the caller has to wait.
    #[track_caller]
    fn queue(&mut self, entry: EntryId) -> WaiterId {
        match self.acquire(entry, &mut waker()) {
            Admission::Queued(waiter) => waiter,
            other => panic!("expected to wait: {other:?}"),
        }
    }
}

#[test]
fn connection_that_was_idle_for_longest_makes_room() {
    let (mut table, _) = table_of_three(2);
    for entry in [0, 1] {
        assert_eq!(table.acquire(entry, &mut None), FREE_SLOT);
    }
    for entry in [1, 0] {
        table.give_back_as_idle(entry);
    }
    assert_eq!(table.acquire(2, &mut None), slot_of(1));
}

#[test]
fn waiters_are_served_in_order_across_entries() {
    let (mut table, entries) = table_of_three(1);
    assert_eq!(table.acquire(0, &mut waker()), FREE_SLOT);
    let elsewhere = table.queue(1);
    let here = table.queue(0);
    // The connection would serve the second waiter, but the first one came first.
    let given_back = table.give_back(0, Connection { entry: 0 }, Place::newest(None), false);
    assert!(matches!(given_back, GivenBack::Close(CloseReason::Evicted)), "{given_back:?}");
    table.release(0, true);
    assert_eq!(entries[0].lock().take_grant(here), None);
    assert_eq!(entries[1].lock().take_grant(elsewhere), Some(Grant::Slot(None)));
    table.release(1, false);
    assert_eq!(entries[0].lock().take_grant(here), Some(Grant::Slot(None)));
}

#[test]
fn scheduled_close_reaches_a_waiter_that_was_handed_the_connection() {
    let (mut table, entries) = table_of_three(1);
    assert_eq!(table.acquire(0, &mut None), FREE_SLOT);
    let next = table.queue(0);
    let given_back = table.give_back(0, Connection { entry: 0 }, Place::newest(None), false);
    assert!(matches!(given_back, GivenBack::HandedOver(_)), "{given_back:?}");
    assert_eq!(table.schedule_close(0), None);
    assert_eq!(entries[0].lock().take_grant(next), Some(Grant::Replace));
    // Once.
    entries[0].lock().begin_dial();
    table.give_back_as_idle(0);
}

#[test]
fn scheduled_close_does_not_concern_a_connection_that_is_not_dialed_yet() {
    let (mut table, entries) = table_of_three(1);
    assert_eq!(table.acquire(1, &mut None), FREE_SLOT);
    let next = table.queue(0);
    assert!(table.release(1, false).is_some());
    assert_eq!(table.schedule_close(0), None);
    assert_eq!(entries[0].lock().take_grant(next), Some(Grant::Slot(None)));
    entries[0].lock().begin_dial();
    table.give_back_as_idle(0);
}

#[test]
fn nobody_gets_an_entry_while_its_connection_is_being_closed() {
    let (mut table, entries) = table_of_three(2);
    assert_eq!(table.acquire(0, &mut None), FREE_SLOT);
    table.give_back_as_idle(0);
    assert_eq!(table.schedule_close(0), Some(evicted(0)));
    assert_eq!(table.acquire(0, &mut None), Admission::Busy);
    let next = table.queue(0);
    assert_eq!(entries[0].lock().take_grant(next), None);
    assert!(table.release(0, true).is_some());
    assert_eq!(entries[0].lock().take_grant(next), Some(Grant::Slot(None)));
}

#[test]
fn waiter_for_the_end_of_an_evicted_connection_then_gets_a_slot_if_there_is_one() {
    let (mut table, entries) = table_of_three(2);
    for entry in [0, 1] {
        assert_eq!(table.acquire(entry, &mut None), FREE_SLOT);
    }
    table.give_back_as_idle(0);
    assert_eq!(table.acquire(2, &mut None), slot_of(0));
    let next = table.queue(0);
    // Meanwhile another connection has become idle.
    table.give_back_as_idle(1);
    let (woken, idle) = table.finish_eviction(0);
    assert_eq!((woken.is_some(), idle), (false, Some(evicted(1))));
    assert!(table.release(1, true).is_some());
    assert_eq!(entries[0].lock().take_grant(next), Some(Grant::Slot(None)));
    assert_eq!((table.counts().in_use, table.counts().releasing), (2, 0));
    // Or a slot has become free.
    table.release(2, false);
    table.give_back_as_idle(0);
    assert_eq!(table.acquire(2, &mut None), FREE_SLOT);
    assert_eq!(table.acquire(1, &mut None), slot_of(0));
    let next = table.queue(0);
    table.release(2, false);
    let (woken, idle) = table.finish_eviction(0);
    assert_eq!((woken.is_some(), idle), (true, None));
    assert_eq!(entries[0].lock().take_grant(next), Some(Grant::Slot(None)));
}

#[test]
fn caller_that_takes_its_grant_late_keeps_its_turn() {
    let (mut table, entries) = table_of_three(1);
    assert_eq!(table.acquire(0, &mut None), FREE_SLOT);
    table.give_back_as_idle(0);
    assert_eq!(table.acquire(0, &mut None), Admission::Granted(Grant::Reuse));
    let second = table.queue(1);
    assert_eq!((table.counts().waiting, entries[1].lock().take_grant(second)), (1, None));
    assert_eq!(entries[0].lock().confirm_reuse(), Grant::Reuse);
    // A close that was scheduled since the grant holds, once.
    assert_eq!(table.schedule_close(0), None);
    assert_eq!(entries[0].lock().confirm_reuse(), Grant::Replace);
    assert_eq!(entries[0].lock().confirm_reuse(), Grant::Reuse);
}

#[test]
fn counts_of_a_removed_resource_are_kept_and_its_number_is_used_again() {
    let (mut table, _) = table_of_three(1);
    assert_eq!(table.acquire(0, &mut None), FREE_SLOT);
    assert!(matches!(table.give_back(0, Connection { entry: 0 }, Place::newest(None), true), GivenBack::Idle));
    assert_eq!(table.remove_entry(0), Some(evicted(0)));
    assert_eq!(table.add_entry().0, 3, "the entry is there until its connection is closed");
    table.release(0, true);
    assert_eq!((table.add_entry().0, table.counts().counts.reused), (0, 1));
}
