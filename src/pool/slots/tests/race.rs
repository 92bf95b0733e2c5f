//! Entries that hand connections over on threads of their own, while another thread waits for a slot.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// A caller that has the entry lets another one wait, and hands the connection over to it. Returns the sequence number
/// of that waiter, if the entry decided alone.
fn pass_on(entry: &TestEntry, summary: &Summary) -> Option<u64> {
    let Some(Admission::Queued(next)) = entry.lock().enqueue(summary, &mut waker()) else {
        panic!("the entry is acquired")
    };
    let mut entry = entry.lock();
    let seq = entry.first_seq();
    if entry.hand_over(summary, false).is_none() {
        assert!(matches!(entry.cancel(next), Some(Waiter::Waiting { .. })));
        return None;
    }
    assert_eq!(entry.take_grant(next), Some(Grant::Reuse));
    Some(seq)
}

#[test]
fn hand_over_at_an_entry_overtakes_no_waiter_for_a_slot() {
    let mut table = Table::new(2);
    let entries = [0, 1].map(|_| table.add_entry().1);
    let (other, _) = table.add_entry();
    for entry in [0, 1] {
        assert_eq!(table.acquire(entry, &mut None), FREE_SLOT);
    }
    let summary = table.summary();
    let table = &Mutex::new(table);
    let (is_over, handed_over, waited) = (&AtomicBool::new(false), &AtomicU64::new(0), &AtomicU64::new(0));
    thread::scope(|scope| {
        for entry in entries {
            let summary = Arc::clone(&summary);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let Some(seq) = pass_on(&entry, &summary) else { continue };
                    handed_over.fetch_add(1, Ordering::Relaxed);
                    let first_slot_waiter = table.lock().slot_waiters.keys().next().copied();
                    assert!(first_slot_waiter.is_none_or(|first| seq < first), "{seq} overtook {first_slot_waiter:?}");
                }
            });
        }
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let waiter = table.lock().queue(other);
                waited.fetch_add(1, Ordering::Relaxed);
                // For the case that all three threads are on one core.
                thread::yield_now();
                assert!(matches!(table.lock().cancel(other, waiter), Waiter::Waiting { .. }));
            }
        });
        let began = Instant::now();
        let is_enough = |count: &AtomicU64| count.load(Ordering::Relaxed) >= 1_000;
        while !(is_enough(handed_over) && is_enough(waited)) && began.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(1));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let (handed_over, waited) = (handed_over.load(Ordering::Relaxed), waited.load(Ordering::Relaxed));
    assert!(handed_over > 100 && waited > 100, "{handed_over} handed over, {waited} waited");
}
