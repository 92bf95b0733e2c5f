//! The queue of jobs: the order of their bytes, and the outcome of each. It does no I/O.
//!
//! Jobs are queued in the order in which their callers came. The first ones, up to the queue's capacity, are
//! *admitted*. An admitted job's bytes are in the queue's buffer, one job after the other. If there are many of them,
//! their caller keeps them and writes them itself. The other jobs wait to be admitted.
//!
//! A writer *takes* everything in the buffer at once. It reports how many bytes the stream has taken and, later, that
//! the kernel has them. A job is done when that includes its last byte. When a link breaks, the job that the break
//! cut in two fails, and so does a job that was taken and not flushed. The jobs after it go back into the buffer, to
//! be sent whole on the next link.
//!
//! A job's number never changes, so its caller finds the outcome by it. The bytes in the buffer always belong to a
//! run of admitted jobs in order; all positions follow from the jobs' lengths.
//!
//! Next: [`job`], a single job.

use std::collections::VecDeque;
use std::task::Waker;

use self::job::{Job, Storage};
pub(super) use self::job::{NextWrite, Outcome};

mod job;

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
    /// The bytes of admitted jobs that no writer has taken.
    bytes: Vec<u8>,
    /// Failures that their callers have not fetched yet.
    failed: Vec<(u64, F)>,
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
            failed: Vec::new(),
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
    pub(super) fn first_number(&self) -> u64 {
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

    /// Whether this job is the first one, and its caller has to write it.
    pub(super) fn is_callers_turn(&self, number: u64) -> bool {
        self.jobs.front().is_some_and(|job| job.number == number && job.storage == Storage::Large)
    }

    /// Whether this job can still be kept from being sent.
    pub(super) fn can_cancel(&self, number: u64) -> bool {
        if !self.is_queued(number) || self.is_partly_written(number) {
            return false;
        }
        let index = self.index(number);
        index >= self.taken || self.jobs[index].storage == Storage::Large
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
    pub(super) fn push_direct_write(&mut self, bytes: &[u8], written: usize, waker: &Waker) -> Option<u64> {
        if self.closed_from < u64::MAX {
            return None;
        }
        let storage = Storage::of(bytes);
        if storage == Storage::Copied {
            self.bytes.splice(..0, bytes[written..].iter().copied());
        }
        let (number, waker) = (self.direct_number, Some(waker.clone()));
        self.jobs.push_front(Job { number, length: bytes.len(), storage, has_caller: true, waker });
        self.admitted += 1;
        self.written = written;
        Some(number)
    }

    /// Queues a caller's job at the back. Returns the job's number.
    pub(super) fn push(&mut self, length: usize) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.jobs.push_back(Job { number, length, storage: Storage::Waiting, has_caller: true, waker: None });
        number
    }

    /// Admits a job if there is room and all jobs before it are admitted. Returns whether it is admitted, now or
    /// before.
    pub(super) fn admit(&mut self, number: u64, bytes: &[u8], wakers: &mut Vec<Waker>) -> bool {
        let index = self.index(number);
        if index < self.admitted {
            return true;
        }
        if index > self.admitted || !self.has_room() {
            return false;
        }
        self.jobs[index].storage = Storage::of(bytes);
        if self.jobs[index].storage == Storage::Copied {
            self.bytes.extend_from_slice(bytes);
        }
        self.admitted += 1;
        // The next job may have been polled too early.
        if self.has_room() {
            wakers.extend(self.jobs.get_mut(self.admitted).and_then(|job| job.waker.take()));
        }
        true
    }

    /// Sets the waker for when this job is done, fails, can be admitted, or has its turn. Returns the waker that it
    /// replaces, to be dropped without the lock.
    pub(super) fn set_waker(&mut self, number: u64, waker: &Waker) -> Option<Waker> {
        let index = self.index(number);
        let current = &mut self.jobs[index].waker;
        match current {
            Some(current) if current.will_wake(waker) => None,
            _ => current.replace(waker.clone()),
        }
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
        match self.failed.iter().position(|(failed, _)| *failed == number) {
            Some(index) => Outcome::Failed(self.failed.swap_remove(index).1),
            None => Outcome::Done,
        }
    }

    /// Cancels a job whose caller has gone; `bytes` are the job's. A job that is partly written, or taken by a
    /// writer, is sent to its end. Returns the outcome if there is one already, to be dropped without the lock.
    pub(super) fn cancel(&mut self, number: u64, bytes: &[u8], wakers: &mut Vec<Waker>) -> Outcome<F> {
        let outcome = self.outcome(number);
        if !matches!(outcome, Outcome::Pending) {
            return outcome;
        }
        let can_cancel = self.can_cancel(number);
        let index = self.index(number);
        let job = &mut self.jobs[index];
        job.has_caller = false;
        // Passed on to be woken, because a waker must not be dropped under the lock.
        wakers.extend(job.waker.take());
        if can_cancel {
            self.remove(index);
            self.wake_next(wakers);
        } else if job.storage == Storage::Large {
            // From here on its rest is copied like the others' bytes. It is the first job.
            job.storage = Storage::Copied;
            self.bytes.splice(..0, bytes[self.written..].iter().copied());
            self.taken = 0;
        }
        outcome
    }

    /// Removes a job that is not partly written and that no writer has taken.
    fn remove(&mut self, index: usize) {
        match self.jobs[index].storage {
            Storage::Copied => {
                let before = self.jobs.range(self.taken..index).filter(|job| job.storage == Storage::Copied);
                let before: usize = before.map(|job| job.length).sum();
                let is_first_cut = self.taken == 0 && self.jobs[0].storage == Storage::Copied;
                let start = before - if is_first_cut { self.written } else { 0 };
                self.bytes.drain(start..start + self.jobs[index].length);
            }
            Storage::Large => self.taken -= usize::from(index < self.taken),
            Storage::Waiting => {}
        }
        self.jobs.remove(index);
        self.admitted -= usize::from(index < self.admitted);
    }

    /// The waker of the first job, whose caller has to write it.
    pub(super) fn take_first_waker(&mut self) -> Option<Waker> {
        self.jobs.front_mut()?.waker.take()
    }

    // ===== for writers =====

    /// Takes the next bytes for a writer that has none left.
    pub(super) fn take(&mut self, buffer: &mut Vec<u8>) -> NextWrite {
        buffer.clear();
        let Some(job) = self.jobs.front().filter(|_| self.admitted > 0) else { return NextWrite::Nothing };
        if job.storage == Storage::Large {
            self.taken = 1;
            return NextWrite::Caller { number: job.number, written: self.written };
        }
        let large = self.jobs.range(..self.admitted).position(|job| job.storage == Storage::Large);
        match large {
            None => {
                std::mem::swap(&mut self.bytes, buffer);
                self.taken = self.admitted;
            }
            Some(index) => {
                let length: usize = self.jobs.range(..index).map(|job| job.length).sum();
                buffer.extend(self.bytes.drain(..length - self.written));
                self.taken = index;
            }
        }
        NextWrite::Buffer
    }

    /// The stream has taken `n` more bytes.
    pub(super) fn add_written(&mut self, n: usize) {
        self.written += n;
    }

    /// The kernel has all bytes that the stream has taken. Returns how many jobs that completes.
    pub(super) fn flushed(&mut self, wakers: &mut Vec<Waker>) -> usize {
        let before = self.jobs.len();
        while let Some(job) = self.jobs.front().filter(|_| self.taken > 0 || self.written > 0) {
            if self.written < job.length {
                break;
            }
            self.written -= job.length;
            self.pop(wakers);
        }
        self.wake_next(wakers);
        before - self.jobs.len()
    }

    /// The writer has to wait and puts back what it has taken and not written. Clears `rest`.
    pub(super) fn put_back(&mut self, rest: &mut Vec<u8>) {
        rest.append(&mut self.bytes);
        std::mem::swap(&mut self.bytes, rest);
        self.taken = 0;
    }

    /// The link has broken: fails the jobs that the break cut. `rest` is what the writer had taken and not written;
    /// clears it.
    pub(super) fn fail_partly_written(&mut self, rest: &mut Vec<u8>, failure: impl Fn() -> F, wakers: &mut Vec<Waker>) {
        self.put_back(rest);
        while let Some(job) = self.jobs.front().filter(|_| self.written > 0) {
            let written = self.written.min(job.length);
            // The bytes that were put back begin with the rest of the job that was cut in two.
            if job.storage == Storage::Copied {
                self.bytes.drain(..job.length - written);
            }
            if job.has_caller {
                self.failed.push((job.number, failure()));
            }
            self.written -= written;
            self.pop(wakers);
        }
        self.wake_next(wakers);
    }

    /// Fails all jobs. None of them may be partly written.
    pub(super) fn fail_all(&mut self, mut failure: impl FnMut() -> F, wakers: &mut Vec<Waker>) {
        debug_assert!(self.written == 0, "{} bytes of a job are on the link", self.written);
        let waiting = self.jobs.iter().filter(|job| job.has_caller);
        self.failed.extend(waiting.map(|job| (job.number, failure())));
        self.clear(wakers);
    }

    /// Closes the queue: no job is sent any more, and all callers are woken.
    pub(super) fn close(&mut self, wakers: &mut Vec<Waker>) {
        self.closed_from = self.closed_from.min(self.first_number());
        self.clear(wakers);
    }

    /// Removes all jobs and wakes their callers.
    fn clear(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.jobs.drain(..).filter_map(|job| job.waker));
        (self.admitted, self.taken, self.written) = (0, 0, 0);
        self.bytes.clear();
    }

    /// Removes the first job.
    fn pop(&mut self, wakers: &mut Vec<Waker>) {
        if let Some(job) = self.jobs.pop_front() {
            wakers.extend(job.waker);
            self.admitted -= 1;
            self.taken = self.taken.saturating_sub(1);
        }
    }

    // ===== waking =====

    /// Wakes every caller. Their wakers stay in the queue.
    pub(super) fn wake_all(&self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.jobs.iter().filter_map(|job| job.waker.clone()));
    }

    /// Wakes as many callers as can be admitted now.
    fn wake_next(&mut self, wakers: &mut Vec<Waker>) {
        let free = self.capacity.saturating_sub(self.admitted);
        wakers.extend(self.jobs.iter_mut().skip(self.admitted).take(free).filter_map(|job| job.waker.take()));
    }
}
