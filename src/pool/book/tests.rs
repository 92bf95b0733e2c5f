//! The book, rule by rule.

use super::*;

mod model;
mod race;

struct Connection {
    entry: usize,
}

impl Parked for Connection {
    type Live = usize;

    fn take(&self) -> usize {
        self.entry
    }
}

type Desks = Vec<Arc<DeskOf<Connection, &'static str>>>;

fn three_entries(max: usize) -> (Book<Connection, &'static str>, Desks) {
    let mut book = Book::new(max);
    let desks = (0..3).map(|_| book.add_entry().1).collect();
    (book, desks)
}

#[test]
fn connection_that_was_idle_for_longest_makes_room() {
    let (mut book, _) = three_entries(2);
    for entry in [0, 1] {
        assert_eq!(book.ask(entry, &mut None), Answer::Now(Grant::Slot(None)));
    }
    for entry in [1, 0] {
        assert!(matches!(book.put(entry, Connection { entry }, None, false), Put::Kept(None)));
    }
    assert_eq!(book.ask(2, &mut None), Answer::Now(Grant::Slot(Some(Taken { live: 1, entry: 1 }))));
}

#[test]
fn whoever_came_first_is_served_first_across_entries() {
    let (mut book, desks) = three_entries(1);
    assert_eq!(book.ask(0, &mut Some(Waker::noop().clone())), Answer::Now(Grant::Slot(None)));
    let Answer::Wait(elsewhere) = book.ask(1, &mut Some(Waker::noop().clone())) else { panic!() };
    let Answer::Wait(here) = book.ask(0, &mut Some(Waker::noop().clone())) else { panic!() };
    // Its connection would serve the second, but the first comes first.
    assert!(matches!(book.put(0, Connection { entry: 0 }, None, false), Put::Close(CloseReason::Evicted)));
    book.release(0, true);
    assert_eq!(desks[0].lock().fetch(here), None);
    assert_eq!(desks[1].lock().fetch(elsewhere), Some(Grant::Slot(None)));
    book.release(1, false);
    assert_eq!(desks[0].lock().fetch(here), Some(Grant::Slot(None)));
}

fn waker() -> Option<Waker> {
    Some(Waker::noop().clone())
}

#[test]
fn scheduled_close_is_seen_by_one_who_was_handed_the_connection() {
    let (mut book, desks) = three_entries(1);
    assert_eq!(book.ask(0, &mut None), Answer::Now(Grant::Slot(None)));
    let Answer::Wait(next) = book.ask(0, &mut waker()) else { panic!() };
    assert!(matches!(book.put(0, Connection { entry: 0 }, None, false), Put::Kept(Some(_))));
    assert_eq!(book.schedule_close(0), None);
    assert_eq!(desks[0].lock().fetch(next), Some(Grant::Replace));
    // Once.
    desks[0].lock().begin_dial();
    assert!(matches!(book.put(0, Connection { entry: 0 }, None, false), Put::Kept(None)));
}

#[test]
fn scheduled_close_is_nothing_to_one_who_has_not_begun_to_dial() {
    let (mut book, desks) = three_entries(1);
    assert_eq!(book.ask(1, &mut None), Answer::Now(Grant::Slot(None)));
    let Answer::Wait(next) = book.ask(0, &mut waker()) else { panic!() };
    assert!(book.release(1, false).is_some());
    assert_eq!(book.schedule_close(0), None);
    assert_eq!(desks[0].lock().fetch(next), Some(Grant::Slot(None)));
    desks[0].lock().begin_dial();
    assert!(matches!(book.put(0, Connection { entry: 0 }, None, false), Put::Kept(None)));
}

#[test]
fn entry_whose_connection_is_being_closed_is_had_by_nobody() {
    let (mut book, desks) = three_entries(2);
    assert_eq!(book.ask(0, &mut None), Answer::Now(Grant::Slot(None)));
    assert!(matches!(book.put(0, Connection { entry: 0 }, None, false), Put::Kept(None)));
    assert_eq!(book.schedule_close(0), Some(Taken { live: 0, entry: 0 }));
    assert_eq!(book.ask(0, &mut None), Answer::Busy);
    let Answer::Wait(next) = book.ask(0, &mut waker()) else { panic!() };
    assert_eq!(desks[0].lock().fetch(next), None);
    assert!(book.release(0, true).is_some());
    assert_eq!(desks[0].lock().fetch(next), Some(Grant::Slot(None)));
}

#[test]
fn one_who_waits_for_the_end_of_an_evicted_connection_then_has_a_slot_if_one_can_be_had() {
    let (mut book, desks) = three_entries(2);
    for entry in [0, 1] {
        assert_eq!(book.ask(entry, &mut None), Answer::Now(Grant::Slot(None)));
    }
    assert!(matches!(book.put(0, Connection { entry: 0 }, None, false), Put::Kept(None)));
    assert_eq!(book.ask(2, &mut None), Answer::Now(Grant::Slot(Some(Taken { live: 0, entry: 0 }))));
    let Answer::Wait(next) = book.ask(0, &mut waker()) else { panic!() };
    // Meanwhile another one has become idle.
    assert!(matches!(book.put(1, Connection { entry: 1 }, None, false), Put::Kept(None)));
    let (woken, idle) = book.evicted(0);
    assert_eq!((woken.is_some(), idle), (false, Some(Taken { live: 1, entry: 1 })));
    assert!(book.release(1, true).is_some());
    assert_eq!(desks[0].lock().fetch(next), Some(Grant::Slot(None)));
    assert_eq!((book.counts().in_use, book.counts().releasing), (2, 0));
    // Or one is free.
    book.release(2, false);
    assert!(matches!(book.put(0, Connection { entry: 0 }, None, false), Put::Kept(None)));
    assert_eq!(book.ask(2, &mut None), Answer::Now(Grant::Slot(None)));
    assert_eq!(book.ask(1, &mut None), Answer::Now(Grant::Slot(Some(Taken { live: 0, entry: 0 }))));
    let Answer::Wait(next) = book.ask(0, &mut waker()) else { panic!() };
    book.release(2, false);
    let (woken, idle) = book.evicted(0);
    assert_eq!((woken.is_some(), idle), (true, None));
    assert_eq!(desks[0].lock().fetch(next), Some(Grant::Slot(None)));
}

#[test]
fn one_who_fetches_later_has_had_his_turn() {
    let (mut book, desks) = three_entries(1);
    let Answer::Now(grant) = book.ask(0, &mut None) else { panic!() };
    let first = desks[0].lock().defer(grant);
    let Answer::Wait(second) = book.ask(1, &mut waker()) else { panic!() };
    assert_eq!((book.counts().waiting, desks[1].lock().fetch(second)), (1, None));
    assert_eq!(desks[0].lock().fetch(first), Some(Grant::Slot(None)));
}
