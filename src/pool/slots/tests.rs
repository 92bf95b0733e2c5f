//! The slot table, rule by rule. [`model`] has random sequences of all operations, and [`race`] has threads.

use std::task::Wake;
use std::time::Duration;

use super::*;
use crate::pool::CloseReason;

mod model;
mod race;

/// A resource that stands for its connection.
#[derive(Debug, PartialEq, Eq)]
struct Connection {
    entry: EntryId,
}

/// What the entries count, apart from waits.
fn reused(reused: u64) -> EntryCounts {
    EntryCounts { reused, ..EntryCounts::default() }
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
    assert!(entries[0].lock().hand_over(&table.summary(), false).is_none());
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

#[test]
fn removed_resource_is_forgotten_when_no_caller_has_it() {
    let (mut table, _) = table_of_three(1);
    assert_eq!(table.remove_entry(2), None);
    assert_eq!(table.add_entry().0, 2);
    assert_eq!(table.acquire(0, &mut None), FREE_SLOT);
    assert_eq!(table.remove_entry(0), None);
    assert_eq!(table.add_entry().0, 3);
    let given_back = table.give_back(0, Connection { entry: 0 }, Place::newest(None), false);
    assert!(matches!(given_back, GivenBack::Close(CloseReason::Gone)), "{given_back:?}");
    table.release(0, true);
    assert_eq!(table.add_entry().0, 0);
}

#[test]
fn connections_that_were_idle_for_long_enough_are_taken_out_the_oldest_first() {
    let (mut table, _) = table_of_three(3);
    let began = Instant::now();
    let at = |seconds| began + Duration::from_secs(seconds);
    assert_eq!((table.oldest_idle_since(), table.evict_idle_since(at(9))), (None, None));
    for (entry, seconds) in [(0, 3), (1, 5), (2, 4)] {
        assert_eq!(table.acquire(entry, &mut None), FREE_SLOT);
        let given_back = table.give_back(entry, Connection { entry }, Place::newest(Some(at(seconds))), false);
        assert!(matches!(given_back, GivenBack::Idle), "{given_back:?}");
    }
    assert_eq!((table.idle_count(), table.oldest_idle_since()), (3, Some(at(3))));
    assert_eq!(table.evict_idle_since(at(2)), None);
    assert_eq!(table.evict_idle_since(at(3)), Some(evicted(0)));
    // They are in the order in which they came back.
    assert_eq!(table.evict_idle_since(at(4)), None);
    assert_eq!(table.evict_idle_since(at(9)), Some(evicted(1)));
    let counts = SlotCounts { max: 3, in_use: 0, idle: 1, releasing: 2, waiting: 0, counts: reused(0) };
    assert_eq!((table.counts(), table.idle_count()), (counts, 1));
}

#[test]
fn counts_say_what_each_slot_and_caller_does() {
    let (mut table, entries) = table_of_three(2);
    assert_eq!(table.acquire(0, &mut None), FREE_SLOT);
    assert_eq!(table.acquire(1, &mut None), FREE_SLOT);
    table.queue(2);
    table.queue(0);
    let mut counts = SlotCounts { max: 2, in_use: 2, idle: 0, releasing: 0, waiting: 2, counts: reused(0) };
    assert_eq!(table.counts(), counts);
    table.begin_release(1, true);
    counts = SlotCounts { in_use: 1, releasing: 1, counts: reused(1), ..counts };
    assert_eq!(table.counts(), counts);
    assert!(table.release(1, true).is_some());
    counts = SlotCounts { in_use: 2, releasing: 0, waiting: 1, ..counts };
    assert_eq!(table.counts(), counts);
    assert!(entries[0].lock().hand_over(&table.summary(), true).is_some());
    assert_eq!(table.counts(), SlotCounts { waiting: 0, counts: reused(2), ..counts });
}

#[test]
fn failed_dial_fails_all_that_wait_for_the_entry_and_nobody_else() {
    let (mut table, entries) = table_of_three(1);
    assert_eq!(table.acquire(0, &mut None), FREE_SLOT);
    let (elsewhere, here) = (table.queue(1), [table.queue(0), table.queue(0)]);
    assert!(entries[0].lock().has_waiters() && !entries[1].lock().has_waiters());
    assert_eq!(entries[0].lock().fail_waiters(|| "refused").len(), 2);
    assert!(!entries[0].lock().has_waiters());
    for waiter in here {
        assert_eq!(entries[0].lock().take_grant(waiter), Some(Grant::Failed("refused")));
    }
    assert_eq!(entries[1].lock().take_grant(elsewhere), None);
}

#[test]
fn closed_table_fails_all_waiters_and_lends_no_connection_again() {
    let (mut table, entries) = table_of_three(1);
    assert_eq!(table.acquire(0, &mut None), FREE_SLOT);
    let waiters = [0, 1, 0].map(|entry| (entry, table.queue(entry)));
    assert_eq!(table.close(|| "closed").len(), 3);
    for (entry, waiter) in waiters {
        assert_eq!(entries[entry].lock().take_grant(waiter), Some(Grant::Failed("closed")));
    }
    let given_back = table.give_back(0, Connection { entry: 0 }, Place::newest(None), false);
    assert!(matches!(given_back, GivenBack::Close(CloseReason::Gone)), "{given_back:?}");
}

#[test]
fn waiter_is_woken_by_the_waker_of_its_last_poll() {
    struct Task;
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let [first, second] = [(); 2].map(|()| Waker::from(Arc::new(Task)));
    let (mut table, entries) = table_of_three(1);
    assert_eq!(table.acquire(0, &mut None), FREE_SLOT);
    let Admission::Queued(waiter) = table.acquire(1, &mut Some(first.clone())) else { panic!("it has to wait") };
    let entry = &entries[1];
    assert!(entry.lock().will_wake(waiter, &first) && !entry.lock().will_wake(waiter, &second));
    assert!(entry.lock().set_waker(waiter, second.clone()).will_wake(&first));
    assert!(entry.lock().will_wake(waiter, &second) && !entry.lock().will_wake(waiter, &first));
    assert!(table.release(0, false).is_some_and(|waker| waker.will_wake(&second)));
    // It was granted a slot, and needs no waker any more.
    assert!(entry.lock().set_waker(waiter, first.clone()).will_wake(&first));
    assert!(!entry.lock().will_wake(waiter, &first) && !entry.lock().will_wake(waiter, &second));
}
