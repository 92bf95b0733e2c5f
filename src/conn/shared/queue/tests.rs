//! The order of jobs and bytes, and the cost of a crowd.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;

mod model;

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
fn sixteen_links_are_remembered_and_older_ones_have_no_number() {
    let mut queue = Queue::new(1);
    let mut numbers = Vec::new();
    for generation in 1..=18 {
        numbers.push(admitted(&mut queue, &Payload::Borrowed(b"job")));
        queue.add_written(3);
        queue.flushed(generation, &mut Deferred::default());
    }
    for (number, expected) in numbers.into_iter().zip([0, 0].into_iter().chain(3..=18)) {
        assert!(matches!(queue.outcome(number), Outcome::Done { generation } if generation == expected), "{expected}");
    }
}

#[test]
fn bytes_of_a_large_job_are_copied_once_and_those_of_a_small_one_when_they_are_handed_over() {
    let large = [7; 16 << 10];
    let mut payload = Payload::Borrowed(&large);
    assert!(payload.is_costly_to_hand_over());
    payload.make_owned();
    assert!(!payload.is_costly_to_hand_over());
    let Rest::Large(rest) = payload.rest(1000) else { panic!("it is large") };
    assert_eq!(rest.as_ptr(), payload.as_slice()[1000..].as_ptr());
    let small = Payload::Borrowed(&large[1..]);
    assert!(!small.is_costly_to_hand_over() && matches!(small.rest(0), Rest::Small(_)));
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

/// Writes everything that is admitted.
fn write_all(queue: &mut Queue<&'static str>, batch: &mut Batch, deferred: &mut Deferred) {
    loop {
        queue.take(batch);
        if batch.rest().is_empty() {
            return;
        }
        queue.add_written(batch.rest().len());
        queue.flushed(1, deferred);
        batch.clear();
    }
}

#[test]
fn memory_of_a_crowd_is_given_back() {
    let mut queue = Queue::new(usize::MAX);
    let (mut batch, mut deferred) = (Batch::default(), Deferred::default());
    let (small, large) = ([1; 1000], [2; 16 << 10]);
    // Before a large job, the small ones are copied out of the buffer.
    for (crowd, ends_large) in [(5000, false), (5000, true), (65, false)] {
        for _ in 0..crowd {
            let number = admitted(&mut queue, &Payload::Borrowed(&small));
            queue.set_waker(number, Waker::noop().clone());
        }
        if ends_large {
            admitted(&mut queue, &Payload::Borrowed(&large));
        }
        write_all(&mut queue, &mut batch, &mut deferred);
        deferred.run();
        deferred.shrink();
        assert!(queue.bytes.capacity() <= KEPT && queue.jobs.capacity() <= KEPT_JOBS);
        assert!(batch.small.capacity() <= KEPT && deferred.wakers.capacity() <= KEPT_JOBS);
    }
}

#[test]
fn memory_of_a_few_callers_is_kept() {
    let mut queue = Queue::new(usize::MAX);
    let (mut batch, mut deferred) = (Batch::default(), Deferred::default());
    let job = [1; (4 << 10) / 64];
    // The two buffers change places.
    for round in 0..4 {
        for _ in 0..64 {
            let number = admitted(&mut queue, &Payload::Borrowed(&job));
            queue.set_waker(number, Waker::noop().clone());
        }
        write_all(&mut queue, &mut batch, &mut deferred);
        deferred.run();
        deferred.shrink();
        assert!(queue.jobs.capacity() > 0 && deferred.wakers.capacity() > 0);
        let buffers = [queue.bytes.capacity(), batch.small.capacity()];
        assert_eq!(buffers.iter().filter(|capacity| **capacity > 0).count(), (round + 1).min(2));
    }
}

#[test]
fn crowd_that_waits_stays_in_the_queue_while_there_is_nothing_to_write() {
    let mut queue = Queue::<&str>::new(1);
    let numbers: Vec<_> = (0..100).map(|_| queue.push(1)).collect();
    let mut batch = Batch::default();
    queue.take(&mut batch);
    assert!(batch.rest().is_empty());
    assert!(numbers.into_iter().all(|number| matches!(queue.outcome(number), Outcome::Pending)));
}
