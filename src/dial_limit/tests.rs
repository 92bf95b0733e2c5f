//! The queue with futures that the test polls itself: who is woken, and what becomes of places that are given up.

use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, advance, timeout};
use tokio_test::task::{Spawn, spawn};

use super::*;

const S: Duration = Duration::from_secs(1);

fn limit(at_once: usize, per_second: u32) -> DialLimit {
    DialLimit::new(at_once, per_second).unwrap()
}

/// A waiter that was polled once.
macro_rules! waiter {
    ($limit:expr) => {{
        let mut waiter = spawn($limit.turn("test"));
        assert!(waiter.poll().is_pending());
        waiter
    }};
}

/// The turn of one whose turn has come.
fn turn<F: Future<Output = DialPermit>>(waiter: &mut Spawn<F>) -> DialPermit {
    let Poll::Ready(permit) = waiter.poll() else { panic!("it still waits") };
    permit
}

fn woken<F: Future>(waiters: &[Spawn<F>]) -> Vec<usize> {
    (0..waiters.len()).filter(|index| waiters[*index].is_woken()).collect()
}

#[tokio::test]
async fn of_a_thousand_waiting_only_the_one_is_woken_whose_turn_it_is() {
    let limit = limit(1, u32::MAX);
    let mut permit = limit.turn("first").await;
    let mut waiters: Vec<_> = (0..1_000).map(|_| waiter!(limit)).collect();
    assert_eq!((limit.waiting(), limit.dialing()), (1_000, 1));
    for left in (0..1_000).rev() {
        drop(permit);
        assert_eq!(woken(&waiters), [0]);
        tokio::task::yield_now().await; // a new budget
        permit = turn(&mut waiters[0]);
        drop(waiters.remove(0));
        assert_eq!((limit.waiting(), limit.dialing()), (left, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_time_is_ended_one_by_one_by_a_timer() {
    let limit = limit(usize::MAX, 10);
    let _first = limit.turn("first").await;
    let mut waiters: Vec<_> = (0..100).map(|_| waiter!(limit)).collect();
    let began = Instant::now();
    for index in 0..100 {
        while !waiters[index].is_woken() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(waiters[index + 1..].iter().all(|waiter| !waiter.is_woken()));
    }
    let took = began.elapsed();
    assert!((10 * S..10 * S + S / 2).contains(&took), "{took:?}");
    let permits: Vec<_> = waiters.iter_mut().map(turn).collect();
    assert_eq!((limit.waiting(), limit.dialing()), (0, 101));
    drop(permits);
    assert_eq!(limit.dialing(), 1);
}

#[tokio::test(start_paused = true)]
async fn future_that_is_kept_and_not_polled_keeps_nobody_waiting_for_the_time() {
    let limit = limit(2, 1);
    drop(limit.turn("first").await);
    let not_polled = waiter!(limit);
    let permit = timeout(3 * S, limit.turn("polled")).await.unwrap();
    // It has its turn, which it may use at any time.
    assert!(not_polled.is_woken());
    assert_eq!((limit.waiting(), limit.dialing()), (0, 2));
    drop(not_polled);
    assert_eq!(limit.dialing(), 1);
    drop(permit);
    assert_eq!(limit.dialing(), 0);
}

#[tokio::test]
async fn dropped_waiting_future_gives_up_its_place_before_its_turn_and_after_it() {
    let limit = limit(1, u32::MAX);
    let permit = limit.turn("first").await;
    let mut waiters: Vec<_> = (0..4).map(|_| waiter!(limit)).collect();
    drop(waiters.remove(0));
    assert_eq!(limit.waiting(), 3);
    drop(permit);
    assert_eq!(woken(&waiters), [0]);
    drop(waiters.remove(0)); // Its turn has come, and goes to the next.
    assert_eq!(woken(&waiters), [0]);
    assert_eq!((limit.waiting(), limit.dialing()), (1, 1));
    drop(waiters);
    assert_eq!((limit.waiting(), limit.dialing()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn quiet_time_adds_nothing_up() {
    let limit = limit(usize::MAX, 1);
    drop(limit.turn("first").await);
    advance(1_000 * S).await;
    drop(limit.turn("second").await);
    let _third = waiter!(limit);
}

/// A runtime of one thread, driven by the test.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn runtime_that_shuts_down_while_waiting_leaves_its_places_and_the_timer_to_others() {
    let limit = limit(usize::MAX, 4);
    let (ends, goes_on) = (runtime(), runtime());
    // The runtime that ends has the timer, and those in front.
    ends.block_on(async {
        drop(limit.turn("first").await);
        for _ in 0..3 {
            let limit = limit.clone();
            tokio::spawn(async move {
                let _permit = limit.turn("ends").await;
                std::future::pending::<()>().await;
            });
        }
        tokio::task::yield_now().await;
    });
    assert_eq!(limit.waiting(), 3);
    let mut last = {
        let _context = goes_on.enter();
        waiter!(limit)
    };
    drop(ends);
    assert_eq!(limit.waiting(), 1);
    goes_on.block_on(async { timeout(20 * S, &mut last).await.unwrap() });
    assert_eq!((limit.waiting(), limit.dialing()), (0, 0));
}

#[test]
fn place_of_a_future_that_has_outlived_its_runtime_is_passed_on() {
    let limit = limit(usize::MAX, 4);
    let (ends, goes_on) = (runtime(), runtime());
    ends.block_on(async { drop(limit.turn("first").await) });
    let outlives = {
        let _context = ends.enter();
        waiter!(limit)
    };
    drop(ends);
    let permit = goes_on.block_on(async { timeout(20 * S, limit.turn("goes on")).await.unwrap() });
    assert!(outlives.is_woken());
    drop((permit, outlives));
    assert_eq!((limit.waiting(), limit.dialing()), (0, 0));
}

#[test]
fn crowd_on_two_runtimes_shares_the_limit() {
    let limit = limit(3, 2_000);
    let (dialing, most, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let crowd = || {
        runtime().block_on(async {
            let dials = (0..100).map(|_| async {
                let permit = limit.turn("crowd").await;
                most.fetch_max(dialing.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                dialing.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
                done.fetch_add(1, Ordering::SeqCst);
            });
            futures_util::future::join_all(dials).await;
        });
    };
    std::thread::scope(|scope| {
        scope.spawn(crowd);
        scope.spawn(crowd);
    });
    assert_eq!((limit.waiting(), limit.dialing()), (0, 0));
    let (most, done) = (most.into_inner(), done.into_inner());
    assert!(most <= 3 && done == 200, "{done} dials, up to {most} at once");
}

#[tokio::test(start_paused = true)]
async fn crowd_of_dropped_and_kept_futures_leaves_nothing_behind() {
    let limit = limit(3, 500);
    for round in 0..50 {
        let mut tasks = Vec::new();
        for number in 0..20 {
            let limit = limit.clone();
            let patience = Duration::from_millis((number * 7 + round * 3) % 40);
            tasks.push(tokio::spawn(timeout(patience, async move {
                let _permit = limit.turn("crowd").await;
                tokio::time::sleep(Duration::from_millis(number % 5)).await;
            })));
        }
        for task in tasks {
            let _ = task.await.unwrap();
        }
        assert_eq!((limit.waiting(), limit.dialing()), (0, 0));
    }
}

#[test]
fn zero_is_refused_with_the_name_and_what_was_expected() {
    for (at_once, per_second, text) in [
        (0, 1, "invalid configuration: at_once 0 of a dial limit: expected at least 1"),
        (1, 0, "invalid configuration: per_second 0 of a dial limit: expected at least 1"),
        (0, 0, "invalid configuration: at_once 0 of a dial limit: expected at least 1"),
    ] {
        assert_eq!(DialLimit::new(at_once, per_second).unwrap_err().to_string(), text);
    }
    let largest = DialLimit::new(usize::MAX, u32::MAX).unwrap();
    assert!(format!("{largest:?}").ends_with("per_second: 4294967295, dialing: 0, waiting: 0 }"), "{largest:?}");
}
