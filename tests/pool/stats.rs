//! What errors and figures say about waits.

use std::time::Duration;

use perconn::Error;
use perconn::pool::{GetError, Pool, Resource, Timeouts, WaitingFor, Waits};
use tokio::time::sleep;
use tokio_test::task::spawn;

use crate::fixtures::assert_all_given_back;

const MS: Duration = Duration::from_millis(1);

fn number(pool: &Pool, name: &str) -> Resource<u8> {
    pool.resource_fn(name, || std::future::ready(Ok(1)))
}

/// What a call was, or would have been, waiting for.
fn waiting_for(error: GetError) -> WaitingFor {
    match error {
        GetError::Busy { waiting_for, .. } | GetError::Timeout { waiting_for, .. } => waiting_for,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn error_of_a_caller_that_does_not_wait_or_not_longer_says_what_for() {
    let pool = Pool::new(2).unwrap();
    let (used, other) = (number(&pool, "used"), number(&pool, "other"));
    let hung = pool.resource_fn::<_, _, u8>("hung", std::future::pending);
    let _conn = used.get().await.unwrap();
    let mut dials = spawn(hung.get());
    assert!(dials.poll().is_pending());
    for (resource, expected) in [(&used, WaitingFor::User), (&other, WaitingFor::Slot), (&hung, WaitingFor::Dial)] {
        assert_eq!(waiting_for(resource.try_get().await.unwrap_err()), expected);
        assert_eq!(waiting_for(resource.get_timeout(MS).await.unwrap_err()), expected);
    }
    assert_eq!(waiting_for(pool.try_slot().unwrap_err()), WaitingFor::Slot);
    // A caller behind one that waits for a slot waits for that slot, too.
    let mut first = spawn(other.get());
    assert!(first.poll().is_pending());
    assert_eq!(waiting_for(other.try_get().await.unwrap_err()), WaitingFor::Slot);
    assert_eq!(waiting_for(other.get_timeout(MS).await.unwrap_err()), WaitingFor::Slot);
    // The dial goes on when its caller leaves.
    drop(dials);
    assert_eq!(waiting_for(hung.get_timeout(MS).await.unwrap_err()), WaitingFor::Dial);
}

#[tokio::test(start_paused = true)]
async fn timeouts_are_counted_by_what_the_callers_waited_for() {
    let pool = Pool::new(2).unwrap();
    let (used, other) = (number(&pool, "used"), number(&pool, "other"));
    let hung = pool.resource_fn::<_, _, u8>("hung", std::future::pending);
    let _conn = used.get().await.unwrap();
    assert!(used.get_timeout(MS).await.is_err());
    // The first one dials, the second one waits for that dial.
    for resource in [&hung, &hung, &other] {
        assert!(resource.get_timeout(MS).await.is_err());
    }
    let counts = |timeouts: Timeouts| [timeouts.user, timeouts.slot, timeouts.dial];
    assert_eq!(counts(pool.stats().timeouts), [1, 1, 2]);
    let each = [&used, &other, &hung].map(|resource| counts(resource.stats().timeouts));
    assert_eq!(each, [[1, 0, 0], [0, 1, 0], [0, 0, 2]]);
    // A call that does not wait has no time limit.
    assert!(used.try_get().await.is_err());
    // The figures of a resource outlive it.
    drop(other);
    assert_eq!(counts(pool.stats().timeouts), [1, 1, 2]);
}

/// Whether a time was measured of a wait that lasted for `time`, in which other tests may have had the processor.
#[track_caller]
fn assert_waited(measured: Duration, time: Duration) {
    // The clock has ticks of up to 10 ms.
    assert!(measured + 10 * MS >= time && measured < 50 * time, "{measured:?} instead of {time:?}");
}

#[tokio::test]
async fn waits_are_counted_with_their_total_and_longest_time() {
    let pool = Pool::new(1).unwrap();
    let (a, b) = (number(&pool, "a"), number(&pool, "b"));
    // A dial and a reuse are no waits.
    for _ in 0..2 {
        drop(a.get().await.unwrap());
    }
    assert_eq!((pool.stats().waits, a.stats().opened, a.stats().reused), (Waits::default(), 1, 1));
    let conn = a.get().await.unwrap();
    let (mut same, mut other) = (spawn(a.get()), spawn(b.get()));
    assert!(same.poll().is_pending() && other.poll().is_pending());
    assert_eq!((a.stats().waiting, b.stats().waiting, pool.stats().waits.count), (1, 1, 0));
    sleep(100 * MS).await;
    drop(conn);
    drop(same.await.unwrap());
    sleep(50 * MS).await;
    drop(other.await.unwrap());
    let (of_a, of_b, of_all) = (a.stats().waits, b.stats().waits, pool.stats().waits);
    assert_eq!((of_a.count, of_b.count, of_all.count), (1, 1, 2));
    assert_waited(of_a.total, 100 * MS);
    assert_waited(of_b.total, 150 * MS);
    assert_eq!((of_a.longest, of_b.longest), (of_a.total, of_b.total));
    assert_eq!((of_all.total, of_all.longest), (of_a.total + of_b.total, of_b.longest));
    // A caller that gives up has waited as well.
    let conn = b.get().await.unwrap();
    assert!(b.get_timeout(40 * MS).await.is_err());
    drop(conn);
    drop((a, b));
    let waits = pool.stats().waits;
    assert_eq!(waits.count, 3);
    assert_waited(waits.total - of_all.total, 40 * MS);
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn figures_of_a_resource_are_its_own() {
    let pool = Pool::new(4).unwrap();
    let (good, clone) = (number(&pool, "good"), number(&pool, "another of that name"));
    let bad = pool.resource_fn::<_, _, u8>("bad", || async { Err(std::io::ErrorKind::Other.into()) });
    for _ in 0..3 {
        drop(good.get().await.unwrap());
    }
    drop(good.clone().get().await.unwrap());
    drop(clone.get().await.unwrap());
    assert!(bad.get().await.is_err());
    // During the delay there is no dial.
    assert!(bad.get().await.is_err());
    let figures = [&good, &clone, &bad].map(Resource::stats);
    let figures = figures.map(|stats| (stats.opened, stats.reused, stats.dials_failed));
    assert_eq!(figures, [(1, 3, 0), (1, 0, 0), (0, 0, 1)]);
    let all = pool.stats();
    assert_eq!((all.opened, all.reused, all.dials_failed), (2, 3, 1));
}

#[test]
fn settings_of_the_global_pool_are_refused_after_its_first_use() {
    let max = Pool::global().stats().max;
    let refused = Pool::global_builder().idle_timeout(MS).build_global();
    let Err(Error::InvalidConfig(text)) = refused else { panic!("{refused:?}") };
    assert_eq!(text, "the pool of this process exists already: set it before its first use");
    assert_eq!(Pool::global().stats().max, max);
}
