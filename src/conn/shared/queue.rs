//! The queue of jobs: the order of their bytes, and the outcome of each. It does no I/O.
//!
//! Jobs are queued in the order in which their callers came. The first ones, up to the queue's capacity, are
//! *admitted*: the queue has their bytes. Those of small jobs are in its buffer, one job after the other; a large job
//! has its own. The other jobs wait to be admitted.
//!
//! A writer *takes* a batch: all small jobs up to the next large one, or one large job. It reports how many bytes the
//! stream has taken and, later, that the kernel has them. A job is done when that includes its last byte. When a link
//! breaks, the job that the break cut in two fails, and so does a job that was taken and not flushed. The jobs after it
//! go back into the buffer, to be sent whole on the next link.
//!
//! A job's number never changes, so its caller finds the outcome by it. The bytes in the buffer always belong to a
//! run of admitted jobs in order; all positions follow from the jobs' lengths.
//!
//! Next: [`deferred`], what a change leaves to do.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

pub(super) use self::batch::Batch;
use self::batch::KEPT;
pub(super) use self::deferred::Deferred;
use self::job::{Job, Storage};
pub(super) use self::job::{Outcome, Payload, Rest};

mod batch;
mod deferred;
mod job;
#[cfg(test)]
mod tests;

/// How many links are remembered with the jobs that they carried, for callers that fetch their outcomes late.
const REMEMBERED_LINKS: usize = 16;

/// The memory of up to this many jobs is kept.
const KEPT_JOBS: usize = 64;

/// The jobs of one connection. `F` says why a job has failed.
pub(super) struct Queue<F> {
    /// How many jobs may be admitted at once.
    capacity: usize,
    /// In ascending order of their numbers. A number that is missing was cancelled.
    jobs: VecDeque<Job>,
    /// The number of the next job.
    next_number: u64,
    /// The number of the newest direct write, which is not in the queue.
    direct_number: u64,
    /// How many jobs, from the front on, are admitted.
    admitted: usize,
    /// How many of these a writer has taken.
    taken: usize,
    /// How many bytes, from the beginning of the first job on, the stream has taken and no flush has confirmed. On a
    /// socket they need no flush and belong to the first job. On another stream they may belong to several jobs.
    written: usize,
    /// The bytes of small admitted jobs that no writer has taken.
    bytes: Vec<u8>,
    /// Failures that their callers have not fetched yet, by the numbers of the jobs.
    failed: BTreeMap<u64, F>,
    /// The first job that was done on a link, and that link's generation; the newest is the last.
    links: VecDeque<(u64, u64)>,
    /// Jobs from this number on are not sent, because the queue was closed. `u64::MAX` while it is open.
    closed_from: u64,
}

impl<F> Queue<F> {
    /// An open queue that admits `capacity` jobs at once.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            jobs: VecDeque::new(),
            next_number: 0,
            direct_number: 0,
            admitted: 0,
            taken: 0,
            written: 0,
            bytes: Vec::new(),
            failed: BTreeMap::new(),
            links: VecDeque::new(),
            closed_from: u64::MAX,
        }
    }

    // ===== questions =====

    /// Whether no job is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether there is something to write.
    pub(super) fn has_admitted(&self) -> bool {
        self.admitted > 0
    }

    /// The number of the first job that is not done.
    fn first_number(&self) -> u64 {
        self.jobs.front().map_or(self.next_number, |job| job.number)
    }

    /// Whether a part of this job is on the link.
    pub(super) fn is_partly_written(&self, number: u64) -> bool {
        self.is_any_partly_written() && number == self.first_number()
    }

    /// Whether a part of some job is on the link, and its rest or a flush is still to come.
    pub(super) fn is_any_partly_written(&self) -> bool {
        self.written > 0
    }

    /// Whether this job waits to be admitted, and is the next.
    ///
    /// That stays so until it is admitted, cancelled or the queue is closed: no other job goes before it.
    pub(super) fn can_admit(&self, number: u64) -> bool {
        self.is_queued(number) && self.has_room() && self.index(number) == self.admitted
    }

    /// Whether this job can still be kept from being sent.
    pub(super) fn can_cancel(&self, number: u64) -> bool {
        self.is_queued(number) && !self.is_partly_written(number) && self.index(number) >= self.taken
    }

    /// Whether this job is still in the queue. It must have been queued before.
    #[inline]
    fn is_queued(&self, number: u64) -> bool {
        self.jobs.front().is_some_and(|job| job.number <= number)
    }

    /// Whether another job can be admitted.
    fn has_room(&self) -> bool {
        self.admitted < self.capacity
    }

    /// The index of a queued job.
    fn index(&self, number: u64) -> usize {
        // The numbers are consecutive unless jobs were cancelled.
        let guess = (number - self.first_number()) as usize;
        match self.jobs.get(guess) {
            Some(job) if job.number == number => guess,
            _ => self.jobs.partition_point(|job| job.number < number),
        }
    }

    // ===== for callers =====

    /// Gives a number to a direct write, which bypasses the queue: every later caller comes after it.
    #[inline]
    pub(super) fn begin_direct_write(&mut self) {
        self.direct_number = self.next_number;
        self.next_number += 1;
    }

    /// Queues a direct write at the front, because the stream has taken only its first `written` bytes. Returns the
    /// job's number, or `None` if the queue was closed.
    pub(super) fn push_direct_write(
        &mut self,
        length: usize,
        written: usize,
        rest: Rest<'_>,
        waker: Waker,
    ) -> Option<u64> {
        if self.closed_from < u64::MAX {
            return None;
        }
        let storage = match rest {
            Rest::Small(bytes) => {
                self.bytes.splice(..0, bytes.iter().copied());
                Storage::Buffer
            }
            Rest::Large(bytes) => Storage::Apart(bytes, written),
        };
        let number = self.direct_number;
        self.jobs.push_front(Job { number, length, storage, has_caller: true, waker: Some(waker) });
        self.admitted += 1;
        self.written = written;
        Some(number)
    }

    /// Queues a caller's job at the back. It is not empty. Returns the job's number.
    pub(super) fn push(&mut self, length: usize) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.jobs.push_back(Job { number, length, storage: Storage::Waiting, has_caller: true, waker: None });
        number
    }

    /// Admits a job, which must be [the next](Self::can_admit).
    pub(super) fn admit(&mut self, number: u64, bytes: Rest<'_>, deferred: &mut Deferred) {
        let index = self.index(number);
        debug_assert!(index == self.admitted && self.has_room(), "job {number} is not the next");
        self.jobs[index].storage = match bytes {
            Rest::Small(bytes) => {
                self.bytes.extend_from_slice(bytes);
                Storage::Buffer
            }
            Rest::Large(bytes) => Storage::Apart(bytes, 0),
        };
        self.admitted += 1;
        // The next job may have been polled too early.
        if self.has_room() {
            deferred.wakers.extend(self.jobs.get_mut(self.admitted).and_then(|job| job.waker.take()));
        }
    }

    /// Sets the waker for when this job is done, fails or can be admitted. Returns the waker that it
    /// replaces, to be dropped without the lock.
    pub(super) fn set_waker(&mut self, number: u64, waker: Waker) -> Option<Waker> {
        let index = self.index(number);
        self.jobs[index].waker.replace(waker)
    }

    /// What became of a job. A failure is returned once.
    #[inline]
    pub(super) fn outcome(&mut self, number: u64) -> Outcome<F> {
        if self.is_queued(number) {
            return Outcome::Pending;
        }
        if number >= self.closed_from {
            return Outcome::Closed;
        }
        if let Some(failure) = self.failed.remove(&number) {
            return Outcome::Failed(failure);
        }
        let link = self.links.iter().rev().find(|(first, _)| *first <= number);
        Outcome::Done { generation: link.map_or(0, |(_, generation)| *generation) }
    }

    /// Cancels a job whose caller has gone. A job that is partly written, or taken by a writer, is sent to its end.
    /// Returns the outcome if there is one already, to be dropped without the lock.
    pub(super) fn cancel(&mut self, number: u64, deferred: &mut Deferred) -> Outcome<F> {
        let outcome = self.outcome(number);
        if !matches!(outcome, Outcome::Pending) {
            return outcome;
        }
        let can_cancel = self.can_cancel(number);
        let index = self.index(number);
        let job = &mut self.jobs[index];
        job.has_caller = false;
        deferred.wakers.extend(job.waker.take());
        if can_cancel {
            self.remove(index, deferred);
            self.wake_next(deferred); // rule: leaving-caller-makes-room
        }
        outcome
    }

    /// Removes a job that is not partly written and that no writer has taken.
    fn remove(&mut self, index: usize, deferred: &mut Deferred) {
        if self.jobs[index].storage.is_buffer() {
            let before = self.jobs.range(self.taken..index).filter(|job| job.storage.is_buffer());
            let before: usize = before.map(|job| job.length).sum();
            let is_first_cut = self.taken == 0 && self.jobs[0].storage.is_buffer();
            let start = before - if is_first_cut { self.written } else { 0 };
            self.bytes.drain(start..start + self.jobs[index].length); // rule: withdrawn-job-is-not-sent
        }
        self.jobs.remove(index).into_iter().for_each(|job| deferred.add(job));
        self.admitted -= usize::from(index < self.admitted);
    }

    // ===== for writers =====

    /// Takes the next batch for a writer that has cleared the last one. It stays empty if there is nothing to write.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        debug_assert!(batch.rest().is_empty(), "what was taken must be written first");
        let Some(first) = self.jobs.front().filter(|_| self.admitted > 0) else { return self.shrink(batch) };
        if let Storage::Apart(bytes, start) = &first.storage {
            batch.large = bytes.slice(self.written - start..); // rule: large-job-goes-on-after-a-pause
            self.taken = 1;
            return;
        }
        let large = self.jobs.range(..self.admitted).position(|job| !job.storage.is_buffer());
        match large {
            None => {
                std::mem::swap(&mut self.bytes, &mut batch.small);
                self.taken = self.admitted;
            }
            Some(index) => {
                let length: usize = self.jobs.range(..index).map(|job| job.length).sum();
                batch.small.extend(self.bytes.drain(..length - self.written));
                self.taken = index;
            }
        }
    }

    /// Gives the memory of a crowd back when it has gone.
    fn shrink(&mut self, batch: &mut Batch) {
        batch.shrink();
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        if self.jobs.is_empty() && self.jobs.capacity() > KEPT_JOBS {
            self.jobs = VecDeque::new();
        }
    }

    /// The stream has taken `n` more bytes.
    pub(super) fn add_written(&mut self, n: usize) {
        self.written += n;
    }

    /// The kernel has all bytes that the stream of this link has taken. Returns how many jobs that completes.
    pub(super) fn flushed(&mut self, generation: u64, deferred: &mut Deferred) -> usize {
        if self.links.back().is_none_or(|(_, newest)| *newest != generation) {
            if self.links.len() == REMEMBERED_LINKS {
                self.links.pop_front();
            }
            self.links.push_back((self.first_number(), generation));
        }
        let before = self.jobs.len();
        // No job is empty, so the bytes of these are on the link.
        while let Some(job) = self.jobs.front().filter(|job| job.length <= self.written) {
            self.written -= job.length;
            self.pop(deferred);
        }
        self.wake_next(deferred);
        before - self.jobs.len()
    }

    /// The writer has to wait and puts back what the stream has not taken. Clears the batch.
    pub(super) fn put_back(&mut self, batch: &mut Batch) {
        let rest = batch.small_rest();
        rest.append(&mut self.bytes);
        std::mem::swap(&mut self.bytes, rest); // rule: broken-link-gives-its-jobs-back
        self.taken = 0;
    }

    /// The link has broken: fails the jobs that the break cut. Clears the batch.
    pub(super) fn fail_partly_written(&mut self, batch: &mut Batch, failure: impl Fn() -> F, deferred: &mut Deferred) {
        self.put_back(batch);
        while let Some(job) = self.jobs.front().filter(|_| self.written > 0) {
            let written = self.written.min(job.length);
            // The bytes that were put back begin with the rest of the job that was cut in two.
            if job.storage.is_buffer() {
                self.bytes.drain(..job.length - written); // rule: rest-of-a-job-is-not-sent-again
            }
            if job.has_caller {
                self.failed.insert(job.number, failure());
            }
            self.written -= written;
            self.pop(deferred);
        }
        self.wake_next(deferred);
    }

    /// Fails all jobs. None of them may be partly written.
    pub(super) fn fail_all(&mut self, mut failure: impl FnMut() -> F, deferred: &mut Deferred) {
        debug_assert!(self.written == 0, "{} bytes of a job are on the link", self.written);
        let waiting = self.jobs.iter().filter(|job| job.has_caller);
        self.failed.extend(waiting.map(|job| (job.number, failure())));
        self.clear(deferred);
    }

    /// Closes the queue: no job is sent any more, and all callers are woken.
    pub(super) fn close(&mut self, deferred: &mut Deferred) {
        self.closed_from = self.closed_from.min(self.first_number());
        self.clear(deferred);
    }

    /// Removes all jobs and wakes their callers.
    fn clear(&mut self, deferred: &mut Deferred) {
        self.jobs.drain(..).for_each(|job| deferred.add(job));
        (self.admitted, self.taken, self.written) = (0, 0, 0);
        self.bytes.clear();
    }

    /// Removes the first job.
    fn pop(&mut self, deferred: &mut Deferred) {
        if let Some(job) = self.jobs.pop_front() {
            deferred.add(job);
            self.admitted -= 1;
            self.taken = self.taken.saturating_sub(1);
        }
    }

    // ===== waking =====

    /// Wakes every caller. Their wakers stay in the queue.
    pub(super) fn wake_all(&self, deferred: &mut Deferred) {
        deferred.wakers.extend(self.jobs.iter().filter_map(|job| job.waker.clone()));
    }

    /// Wakes as many callers as can be admitted now.
    fn wake_next(&mut self, deferred: &mut Deferred) {
        let free = self.capacity.saturating_sub(self.admitted);
        // rule: free-place-is-offered
        deferred.wakers.extend(self.jobs.iter_mut().skip(self.admitted).take(free).filter_map(|job| job.waker.take()));
    }
}
