//! A model of the order among the waiters: entries hand connections over without the table's lock.

use super::*;
use crate::sync::modelled::{check, thread};

type Table = SlotTable<(), ()>;

fn waker() -> Option<Waker> {
    Some(Waker::noop().clone())
}

/// One entry hands its connection over to a waiter, while a caller of another entry begins to wait for a slot. If the
/// entry decides alone, its waiter has come first.
#[test]
fn hand_over_overtakes_no_waiter_for_a_slot() {
    check(|| {
        let mut table = Table::new(1);
        let ((here, entry), (other, _)) = (table.add_entry(), table.add_entry());
        let Admission::Granted(Grant::Slot(None)) = table.acquire(here, &mut None) else { panic!("a slot is free") };
        let summary = table.summary();
        let table = Arc::new(Mutex::new(table));

        let waits_for_a_slot = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                let Admission::Queued(_) = table.lock().acquire(other, &mut waker()) else { panic!("no slot is free") };
            }
        });
        let waits_here = thread::spawn({
            let (entry, summary) = (Arc::clone(&entry), Arc::clone(&summary));
            move || {
                let Some(Admission::Queued(_)) = entry.lock().enqueue(&summary, &mut waker()) else {
                    panic!("the entry is acquired")
                };
            }
        });
        let handed_over = {
            let mut entry = entry.lock();
            let seq = entry.first_seq();
            entry.hand_over(&summary, false).map(|_| seq)
        };
        waits_here.join().unwrap();
        waits_for_a_slot.join().unwrap();

        let table = table.lock();
        let (first, _) = table.slot_waiters.first_key_value().expect("nobody has left");
        assert!(handed_over.is_none_or(|seq| seq < *first), "{handed_over:?} overtook {first}");
    });
}
