//! Unit tests of the record of a connection.

use std::time::Duration;

use super::*;

fn record() -> ConnRecord {
    ConnRecord::new(1, Peer::Tcp(([127, 0, 0, 1], 1).into()), StopState::Open, None)
}

#[tokio::test]
async fn stop_state_only_moves_on() {
    let steps = [|record: &ConnRecord| record.drain(LastCall::new(Duration::ZERO)), ConnRecord::end, ConnRecord::cut];
    let states = [StopState::Draining, StopState::Ended, StopState::Cut];
    for first in 0..3 {
        for second in 0..3 {
            let record = record();
            steps[first](&record);
            steps[second](&record);
            assert_eq!(record.stop_state(), states[first.max(second)]);
        }
    }
}

#[tokio::test]
async fn stop_notes_whether_something_was_under_way() {
    type Act = fn(&ConnRecord);
    let cases: [(Act, bool); 6] = [
        (|_| {}, true),
        (|record| record.busy.store(1, Ordering::SeqCst), false),
        (ConnRecord::request_received, false),
        (ConnRecord::write_blocked, false),
        (|record| (record.request_received(), record.message_done()).1, true),
        (|record| (record.write_blocked(), record.write_ended(false)).0, true),
    ];
    for (at, (act, was_idle)) in cases.into_iter().enumerate() {
        let record = record();
        act(&record);
        record.drain(LastCall::new(Duration::ZERO));
        assert_eq!(record.was_idle(), was_idle, "case {at}");
        // It had arrived, and was not read yet.
        record.request_received();
        assert!(!record.was_idle());
    }
}

#[tokio::test]
async fn answer_ends_a_request_and_any_other_write_does_not() {
    let record = record();
    record.request_received();
    record.write_blocked();
    assert_eq!(record.activity(), Activity::RequestAndWrite);
    assert!(record.write_ended(false));
    assert_eq!(record.activity(), Activity::Request);
    assert!(!record.write_ended(true));
    assert_eq!(record.activity(), Activity::Idle);
}

#[tokio::test]
async fn waker_is_replaced_without_the_lock() {
    /// Takes the lock of the wakers when it is dropped.
    struct WakesOnDrop(Arc<ConnRecord>);

    impl Wake for WakesOnDrop {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for WakesOnDrop {
        fn drop(&mut self) {
            self.0.wake_all();
        }
    }

    let (sender, is_done) = std::sync::mpsc::channel();
    let record = Arc::new(record());
    std::thread::spawn(move || {
        let waker = Waker::from(Arc::new(WakesOnDrop(Arc::clone(&record))));
        record.set_waker(Waiter::Reader, &Context::from_waker(&waker));
        drop(waker);
        record.set_waker(Waiter::Reader, &Context::from_waker(Waker::noop()));
        sender.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(20)).expect("the drop of a waker hangs");
}

#[tokio::test]
async fn waker_that_panics_does_not_keep_the_others_asleep() {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }

    let (record, woken) = (record(), Arc::new(record()));
    record.set_waker(Waiter::Reader, &Context::from_waker(&Arc::new(Panics).into()));
    // A record is a waker as well: it wakes those that wait on it.
    record.set_waker(Waiter::Writer, &Context::from_waker(&Arc::clone(&woken).into()));
    woken.set_waker(Waiter::Reader, &Context::from_waker(Waker::noop()));
    record.cut();
    assert!(woken.wakers.lock().iter().all(Option::is_none));
}
