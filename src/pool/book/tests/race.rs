//! Desks on threads of their own, while others wait for a slot.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::super::*;
use super::{Connection, DeskOf, waker};

type Desk = DeskOf<Connection, &'static str>;

/// One who has the entry lets somebody wait for it, and hands it over to him; says with which ticket, if the desk did that.
fn pass_on(desk: &Desk, board: &Board) -> Option<u64> {
    let Some(Answer::Wait(next)) = desk.lock().ask(board, &mut waker()) else { panic!("the entry is claimed") };
    let mut desk = desk.lock();
    let ticket = desk.first_ticket();
    if desk.hand_over(board, false).is_none() {
        assert!(matches!(desk.cancel(next), Some((None, Some(_)))));
        return None;
    }
    assert_eq!(desk.fetch(next), Some(Grant::Reuse));
    Some(ticket)
}

#[test]
fn desk_that_hands_over_overtakes_nobody_who_waits_for_a_slot() {
    let mut book = Book::<Connection, &'static str>::new(2);
    let desks = [0, 1].map(|_| book.add_entry().1);
    let (other, _) = book.add_entry();
    for entry in [0, 1] {
        assert_eq!(book.ask(entry, &mut None), Answer::Now(Grant::Slot(None)));
    }
    let board = book.board();
    let book = &Mutex::new(book);
    let (is_over, handed, waited) = (&AtomicBool::new(false), &AtomicU64::new(0), &AtomicU64::new(0));
    thread::scope(|scope| {
        for desk in desks {
            let board = Arc::clone(&board);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let Some(ticket) = pass_on(&desk, &board) else { continue };
                    handed.fetch_add(1, Ordering::Relaxed);
                    let first_elsewhere = book.lock().unwrap().for_slot.keys().next().copied();
                    assert!(
                        first_elsewhere.is_none_or(|first| ticket < first),
                        "{ticket} came after {first_elsewhere:?}"
                    );
                }
            });
        }
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let Answer::Wait(place) = book.lock().unwrap().ask(other, &mut waker()) else {
                    panic!("there is a slot")
                };
                waited.fetch_add(1, Ordering::Relaxed);
                // (With all three on one core, too.)
                thread::yield_now();
                assert!(matches!(book.lock().unwrap().cancel(other, place), (None, Some(_))));
            }
        });
        let began = Instant::now();
        let is_enough = |count: &AtomicU64| count.load(Ordering::Relaxed) >= 1_000;
        while !(is_enough(handed) && is_enough(waited)) && began.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(1));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(handed.load(Ordering::Relaxed) > 100 && waited.load(Ordering::Relaxed) > 100, "{handed:?}, {waited:?}");
}
