//! The order of jobs and bytes, and the cost of a crowd.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;

/// Admits a job of these bytes.
fn admitted(queue: &mut Queue<&'static str>, payload: &Payload<'_>) -> u64 {
    let number = queue.push(payload.as_slice().len());
    queue.admit(number, payload.rest(0), &mut Deferred::default());
    number
}

#[test]
fn batches_are_runs_of_small_jobs_or_one_large_job() {
    let mut queue = Queue::new(100);
    let large = vec![7; 20_000];
    for payload in [b"one", b"two"].map(|bytes| Payload::Borrowed(bytes)) {
        admitted(&mut queue, &payload);
    }
    admitted(&mut queue, &Payload::Borrowed(&large));
    admitted(&mut queue, &Payload::Owned(Bytes::from_static(b"last")));
    let mut batch = Batch::default();
    for expected in [b"onetwo".as_slice(), &large, b"last"] {
        queue.take(&mut batch);
        assert!(batch.rest() == expected, "{} bytes", batch.rest().len());
        queue.add_written(expected.len());
        batch.advance(expected.len());
        queue.flushed(1, &mut Deferred::default());
        batch.clear();
    }
    queue.take(&mut batch);
    assert!(batch.rest().is_empty() && queue.is_empty());
}

#[test]
fn large_job_goes_on_where_the_link_has_stopped() {
    let mut queue = Queue::new(100);
    let large: Vec<u8> = (0..20_000_u32).map(|n| n as u8).collect();
    let number = admitted(&mut queue, &Payload::Borrowed(&large));
    let mut batch = Batch::default();
    queue.take(&mut batch);
    batch.advance(12_345);
    queue.add_written(12_345);
    queue.put_back(&mut batch);
    assert!(batch.rest().is_empty() && queue.is_partly_written(number) && !queue.can_cancel(number));
    queue.take(&mut batch);
    assert!(batch.rest() == &large[12_345..]);
}

#[test]
fn done_job_names_the_link_that_carried_it_however_late_it_is_asked() {
    let mut queue = Queue::new(100);
    let mut batch = Batch::default();
    let mut numbers = Vec::new();
    for generation in 1..=3 {
        for _ in 0..2 {
            numbers.push(admitted(&mut queue, &Payload::Borrowed(b"job")));
        }
        queue.take(&mut batch);
        queue.add_written(6);
        queue.flushed(generation, &mut Deferred::default());
        batch.clear();
    }
    let links: Vec<_> = numbers.into_iter().map(|number| queue.outcome(number)).collect();
    let links = links.iter().map(|outcome| match outcome {
        Outcome::Done { generation } => *generation,
        other => panic!("{other:?}"),
    });
    assert_eq!(links.collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3]);
}

#[test]
fn failures_of_a_crowd_are_fetched_in_a_time_that_grows_with_the_crowd_only() {
    const CROWD: usize = 200_000;
    let mut queue = Queue::new(1);
    let numbers: Vec<_> = (0..CROWD).map(|_| queue.push(1)).collect();
    queue.fail_all(|| "down", &mut Deferred::default());
    let began = Instant::now();
    // The oldest last: the worst order for a search from the front, and for one from the back the other half is.
    for number in numbers.into_iter().rev() {
        assert!(matches!(queue.outcome(number), Outcome::Failed("down")));
    }
    // A search through all of them takes minutes.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn memory_of_a_crowd_is_given_back() {
    let mut queue = Queue::new(usize::MAX);
    let mut batch = Batch::default();
    let job = [1; 1000];
    for _ in 0..5000 {
        admitted(&mut queue, &Payload::Borrowed(&job));
    }
    while {
        queue.take(&mut batch);
        !batch.rest().is_empty()
    } {
        queue.add_written(batch.rest().len());
        queue.flushed(1, &mut Deferred::default());
        batch.clear();
    }
    assert!(queue.bytes.capacity() <= KEPT && queue.jobs.capacity() <= KEPT_JOBS);
    assert!(batch.small.capacity() <= KEPT);
}
