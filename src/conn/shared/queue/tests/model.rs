//! The queue under random sequences of everything that callers and a writer can do, beside a plain list of the jobs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Wake;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// From this length on, a job is a batch of its own.
const LARGE: usize = 16 << 10;

/// What jobs are made of.
static PATTERN: LazyLock<Vec<u8>> =
    LazyLock::new(|| SmallRng::seed_from_u64(0).random_iter().take(2 * LARGE).collect());

/// Whether a caller was woken since its last poll.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A call whose outcome was not fetched.
struct Caller {
    bytes: Vec<u8>,
    flag: Arc<Flag>,
}

/// A job that is not done.
struct Expected {
    bytes: Vec<u8>,
    is_admitted: bool,
    has_caller: bool,
}

/// The queue, its callers, a writer, and what the queue has to contain.
struct Model {
    queue: Queue<&'static str>,
    batch: Batch,
    capacity: usize,
    /// How many callers there are at most.
    crowd: usize,
    /// One job of this number is large.
    small_per_large: u32,
    /// Whether the kernel has every byte that the stream has taken.
    is_socket: bool,
    is_unflushed: bool,
    generation: u64,
    random: SmallRng,
    callers: BTreeMap<u64, Caller>,
    jobs: BTreeMap<u64, Expected>,
    /// How many bytes of the first jobs are on the link.
    written: usize,
    /// How many jobs are in the batch.
    taken: usize,
    /// The outcomes that were not fetched: the link, or the failure.
    outcomes: BTreeMap<u64, Result<u64, &'static str>>,
    /// The links that were used.
    links: Vec<u64>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let capacity = random.random_range(1..5);
        Self {
            queue: Queue::new(capacity),
            batch: Batch::default(),
            capacity,
            crowd: random.random_range(1..8),
            small_per_large: [2, 4, 20][random.random_range(0..3)],
            is_socket: random.random(),
            is_unflushed: false,
            generation: 1,
            random,
            callers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            written: 0,
            taken: 0,
            outcomes: BTreeMap::new(),
            links: Vec::new(),
        }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_range(0..n) == 0
    }

    /// The bytes of a new job. Only lengths beside the limit of a large one count.
    fn payload(&mut self) -> Vec<u8> {
        let length = if self.one_in(self.small_per_large) { LARGE - 1 + self.random.random_range(0..3) } else { 0 };
        let length = if length == 0 { self.random.random_range(1..6) } else { length };
        let start = self.random.random_range(0..1000);
        PATTERN[start..start + length].to_vec()
    }

    fn admitted(&self) -> impl Iterator<Item = &Expected> {
        self.jobs.values().filter(|job| job.is_admitted)
    }

    /// Runs what a change has left to do. It must not wake more callers than there is room for.
    fn run(&self, mut deferred: Deferred) {
        let waits = |number: &u64| self.jobs.get(number).is_some_and(|job| !job.is_admitted);
        let waiting = || self.callers.iter().filter(|(number, _)| waits(number));
        let woken = || waiting().filter(|(_, caller)| caller.flag.0.load(Ordering::Relaxed)).count();
        let before = woken();
        deferred.run();
        let free = self.capacity.saturating_sub(self.admitted().count());
        assert!(woken() <= before + free, "{} callers were woken for {free} places", woken() - before);
    }

    // ===== callers =====

    fn add_caller(&mut self, number: u64, bytes: Vec<u8>) {
        let expected = Expected { bytes: bytes.clone(), is_admitted: false, has_caller: true };
        self.jobs.insert(number, expected);
        // A first poll follows, as if it had been woken.
        self.callers.insert(number, Caller { bytes, flag: Arc::new(Flag(AtomicBool::new(true))) });
    }

    fn push(&mut self) -> u64 {
        let bytes = self.payload();
        let number = self.queue.push(bytes.len());
        self.add_caller(number, bytes);
        number
    }

    /// A caller fetches its outcome, or hands its bytes over, or waits.
    fn poll(&mut self, number: u64) {
        let Some(caller) = self.callers.get(&number) else { return };
        caller.flag.0.store(false, Ordering::Relaxed);
        match self.queue.outcome(number) {
            Outcome::Pending => {
                assert!(self.jobs.contains_key(&number), "job {number} is done, and its caller does not learn it");
                let mut deferred = Deferred::default();
                if self.queue.can_admit(number) {
                    self.queue.admit(number, Payload::Borrowed(&caller.bytes).rest(0), &mut deferred);
                    self.jobs.get_mut(&number).unwrap().is_admitted = true;
                }
                self.queue.set_waker(number, Waker::from(Arc::clone(&caller.flag)));
                self.run(deferred);
            }
            outcome => {
                self.callers.remove(&number);
                self.check_outcome(number, &outcome);
            }
        }
    }

    fn check_outcome(&mut self, number: u64, outcome: &Outcome<&'static str>) {
        match (outcome, self.outcomes.remove(&number)) {
            (Outcome::Done { generation }, Some(Ok(link))) => {
                let is_remembered = self.links.iter().rev().take(16).any(|used| *used == link);
                assert_eq!(*generation, if is_remembered { link } else { 0 }, "the link of job {number}");
            }
            (Outcome::Failed(failure), Some(Err(expected))) => assert_eq!(*failure, expected),
            (outcome, expected) => panic!("job {number}: {outcome:?} instead of {expected:?}"),
        }
    }

    fn cancel(&mut self, number: u64) {
        if self.callers.remove(&number).is_none() {
            return;
        }
        let can_cancel = self.queue.can_cancel(number);
        let mut deferred = Deferred::default();
        match self.queue.cancel(number, &mut deferred) {
            Outcome::Pending if can_cancel => drop(self.jobs.remove(&number)),
            Outcome::Pending => self.jobs.get_mut(&number).expect("it is queued").has_caller = false,
            outcome => self.check_outcome(number, &outcome),
        }
        self.run(deferred);
    }

    /// A caller that is alone writes its bytes past the queue, until the stream takes no more.
    fn write_directly(&mut self) {
        if !self.jobs.is_empty() {
            return;
        }
        let bytes = self.payload();
        self.queue.begin_direct_write();
        // Another caller may come meanwhile.
        if self.one_in(2) {
            let number = self.push();
            self.poll(number);
        }
        let written = match self.random.random_range(0..3) {
            0 => 0,
            1 => self.random.random_range(0..bytes.len()),
            _ if self.is_socket => return,
            _ => bytes.len(),
        };
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let (payload, waker) = (Payload::Borrowed(&bytes), Waker::from(Arc::clone(&flag)));
        let number = self.queue.push_direct_write(bytes.len(), written, payload.rest(written), waker);
        let number = number.expect("the queue is open");
        self.add_caller(number, bytes);
        self.jobs.get_mut(&number).unwrap().is_admitted = true;
        self.callers.get_mut(&number).unwrap().flag = flag;
        self.written = written;
        self.is_unflushed = !self.is_socket && written > 0;
    }

    // ===== the writer =====

    /// Writes a part of the batch, and takes the next batch if the last one is done.
    fn write(&mut self) {
        if self.is_unflushed {
            return self.flush();
        }
        if self.batch.rest().is_empty() {
            self.batch.clear();
            self.queue.take(&mut self.batch);
            let is_large = |job: &Expected| job.bytes.len() >= LARGE;
            let jobs: Vec<_> = match self.admitted().next() {
                Some(first) if is_large(first) => vec![first],
                _ => self.admitted().take_while(|job| !is_large(job)).collect(),
            };
            let bytes = jobs.iter().map(|job| &job.bytes[..]).collect::<Vec<_>>().concat();
            assert!(
                self.batch.rest() == bytes.get(self.written..).unwrap_or_default(),
                "the batch is not the rest of {} jobs",
                jobs.len()
            );
            self.taken = jobs.len();
        }
        let left = self.batch.rest().len();
        if left == 0 {
            return;
        }
        let n = if self.one_in(2) { left } else { self.random.random_range(1..=left) };
        self.batch.advance(n);
        self.queue.add_written(n);
        self.written += n;
        self.is_unflushed = true;
        if self.is_socket {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.is_unflushed = false;
        if self.links.last() != Some(&self.generation) {
            self.links.push(self.generation);
        }
        let mut deferred = Deferred::default();
        let done = self.queue.flushed(self.generation, &mut deferred);
        let mut expected = 0;
        while let Some(first) = self.jobs.first_entry().filter(|first| first.get().bytes.len() <= self.written) {
            let (number, job) = first.remove_entry();
            self.written -= job.bytes.len();
            self.taken = self.taken.saturating_sub(1);
            if job.has_caller {
                self.outcomes.insert(number, Ok(self.generation));
            }
            expected += 1;
        }
        assert_eq!(done, expected);
        self.run(deferred);
    }

    fn put_back(&mut self) {
        if !self.is_unflushed {
            self.queue.put_back(&mut self.batch);
            self.taken = 0;
        }
    }

    fn break_link(&mut self) {
        let mut deferred = Deferred::default();
        self.queue.fail_partly_written(&mut self.batch, || "cut", &mut deferred);
        while self.written > 0 {
            let (number, job) = self.jobs.pop_first().unwrap();
            self.written = self.written.saturating_sub(job.bytes.len());
            if job.has_caller {
                self.outcomes.insert(number, Err("cut"));
            }
        }
        (self.is_unflushed, self.taken) = (false, 0);
        self.generation += 1;
        self.run(deferred);
    }

    /// There is no link, and no job may wait for one.
    fn fail_all(&mut self) {
        if self.written > 0 {
            return;
        }
        self.put_back();
        let mut deferred = Deferred::default();
        self.queue.fail_all(|| "down", &mut deferred);
        let failed = std::mem::take(&mut self.jobs).into_iter().filter(|(_, job)| job.has_caller);
        self.outcomes.extend(failed.map(|(number, _)| (number, Err("down"))));
        self.run(deferred);
    }

    fn wake_all(&self) {
        let mut deferred = Deferred::default();
        self.queue.wake_all(&mut deferred);
        deferred.run();
        assert!(self.callers.values().all(|caller| caller.flag.0.load(Ordering::Relaxed)));
    }

    // ===== what has to hold =====

    fn check(&self) {
        let queue = &self.queue;
        assert_eq!(queue.is_empty(), self.jobs.is_empty());
        assert_eq!(queue.has_admitted(), self.admitted().next().is_some());
        assert_eq!(queue.is_any_partly_written(), self.written > 0);
        assert_eq!(queue.failed.len(), self.outcomes.values().filter(|outcome| outcome.is_err()).count());
        let admitted = self.admitted().count();
        assert!(admitted <= self.capacity + 1, "{admitted} jobs are admitted");
        for (index, (number, job)) in self.jobs.iter().enumerate() {
            assert_eq!(job.is_admitted, index < admitted, "job {number} overtakes another one");
            let is_first_cut = index == 0 && self.written > 0;
            assert_eq!(queue.is_partly_written(*number), is_first_cut);
            assert_eq!(queue.can_cancel(*number), !is_first_cut && index >= self.taken, "job {number}");
            assert_eq!(queue.can_admit(*number), index == admitted && admitted < self.capacity, "job {number}");
            let is_awake = |caller: &Caller| caller.flag.0.load(Ordering::Relaxed);
            let can_sleep = !queue.can_admit(*number) || self.callers.get(number).is_none_or(is_awake);
            assert!(can_sleep, "there is room for job {number}, and its caller was not woken");
        }
        for number in self.outcomes.keys() {
            assert!(self.callers[number].flag.0.load(Ordering::Relaxed), "job {number} is done, its caller asleep");
        }
    }

    fn step(&mut self) {
        let caller = self.callers.keys().copied().nth(self.random.random_range(0..8));
        match self.random.random_range(0..100) {
            0..20 if self.callers.len() < self.crowd => drop(self.push()),
            20..30 => caller.into_iter().for_each(|number| self.cancel(number)),
            30..60 => caller.into_iter().for_each(|number| self.poll(number)),
            60..80 => self.write(),
            80..90 => self.put_back(),
            90..92 => self.break_link(),
            92..93 => self.fail_all(),
            93..95 => self.wake_all(),
            _ => self.write_directly(),
        }
        self.check();
    }

    /// Writes until nothing is left. Each caller is polled only when it was woken.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            if self.jobs.is_empty() && self.callers.is_empty() {
                return;
            }
            let is_awake = |caller: &Caller| caller.flag.0.load(Ordering::Relaxed);
            let awake = self.callers.iter().filter(|(_, caller)| is_awake(caller)).map(|(number, _)| *number);
            awake.collect::<Vec<_>>().into_iter().for_each(|number| self.poll(number));
            self.write();
            self.check();
        }
        panic!("{} callers sleep for ever", self.callers.len());
    }

    /// Every caller is woken and learns what became of its job.
    fn close(&mut self) {
        self.queue.begin_direct_write();
        let mut deferred = Deferred::default();
        for _ in 0..2 {
            self.batch.clear();
            self.queue.close(&mut deferred);
        }
        deferred.run();
        assert!(self.queue.is_empty() && !self.queue.has_admitted() && !self.queue.is_any_partly_written());
        let payload = Payload::Borrowed(b"late");
        assert_eq!(self.queue.push_direct_write(4, 0, payload.rest(0), Waker::noop().clone()), None);
        for (number, caller) in std::mem::take(&mut self.callers) {
            assert!(caller.flag.0.load(Ordering::Relaxed), "the queue is closed, the caller of job {number} asleep");
            match self.queue.outcome(number) {
                Outcome::Closed => assert!(self.jobs.contains_key(&number), "job {number} was done"),
                outcome => self.check_outcome(number, &outcome),
            }
        }
    }
}

#[test]
fn jobs_are_written_whole_and_in_order_and_each_caller_learns_the_outcome() {
    for seed in 0..150 {
        let mut model = Model::new(seed);
        for _ in 0..300 {
            model.step();
        }
        if model.one_in(3) { model.close() } else { model.drain() }
    }
}
