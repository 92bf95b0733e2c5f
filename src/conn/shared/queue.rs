//! The queue of jobs: whose bytes come when, and what becomes of whom. No I/O.
//!
//! Jobs stand in a row in the order in which their callers came. The first of them, as many as the queue has places for,
//! are *admitted*: their bytes lie in the queue's buffer, one after the other, or are to be written by their caller from
//! where they are, if they are many. The others wait for a place.
//!
//! A writer *takes* what lies in the buffer, all of it at once, and reports how many bytes were written and, when the
//! kernel has them, flushed. Whoever's last byte is among them is done. When a link breaks, the job that it cut in two has
//! failed (and those that a stream had taken and not flushed), and the jobs after it go back into the buffer, to be sent
//! whole on the next link.

use std::collections::VecDeque;
use std::task::Waker;

use self::job::{Job, Place};
pub(super) use self::job::{NextWrite, Outcome};

mod job;

/// The jobs of one connection. `F` says why a job has failed.
pub(super) struct Queue<F> {
    places: usize,
    jobs: VecDeque<Job>,
    /// The number of the next job. Those in the row are in ascending order; where one is left out, it has withdrawn.
    next: u64,
    /// The number of the caller that passed last.
    passed: u64,
    /// How many of the jobs are admitted.
    admitted: usize,
    /// How many of these are in the writer's hands.
    taken: usize,
    /// How many bytes the stream has taken, from the beginning of the job at the front on. If it is a socket, the kernel has
    /// them, and they are a part of that job; otherwise they may be those of several jobs, until they are flushed.
    begun: usize,
    /// The bytes of admitted jobs that the writer has not taken yet.
    bytes: Vec<u8>,
    /// Failures that their callers have not fetched yet.
    failed: Vec<(u64, F)>,
    /// The jobs from this one on were abandoned.
    abandoned: u64,
}

impl<F> Queue<F> {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places,
            jobs: VecDeque::new(),
            next: 0,
            passed: 0,
            admitted: 0,
            taken: 0,
            begun: 0,
            bytes: Vec::new(),
            failed: Vec::new(),
            abandoned: u64::MAX,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether nothing will be sent any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned < u64::MAX
    }

    /// Whether there is something to write.
    pub(super) fn is_ready(&self) -> bool {
        self.admitted > 0
    }

    /// The number of the first job that is not done yet.
    pub(super) fn first(&self) -> u64 {
        self.jobs.front().map_or(self.next, |job| job.number)
    }

    /// A caller that is alone is about to write its bytes at once, without standing in the row: whoever comes from now on
    /// comes after it.
    #[inline]
    pub(super) fn pass(&mut self) {
        self.passed = self.next;
        self.next += 1;
    }

    /// The caller that passed has written its bytes as far as `begun` only: it stands in the row now, at the front.
    /// Returns its job's number; `None` if nothing will be sent any more.
    pub(super) fn fall_in(&mut self, bytes: &[u8], begun: usize, waker: &Waker) -> Option<u64> {
        if self.is_abandoned() {
            return None;
        }
        let place = Place::of(bytes);
        if place == Place::Copied {
            self.bytes.splice(..0, bytes[begun..].iter().copied());
        }
        let (number, waker) = (self.passed, Some(waker.clone()));
        self.jobs.push_front(Job { number, length: bytes.len(), place, has_caller: true, waker });
        self.admitted += 1;
        self.begun = begun;
        Some(number)
    }

    /// A caller joins the row. Returns its job's number.
    pub(super) fn join(&mut self, length: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        self.jobs.push_back(Job { number, length, place: Place::Outside, has_caller: true, waker: None });
        number
    }

    /// A caller brings its bytes, if there is a place and all before it have brought theirs. Returns whether it is
    /// admitted, now or before.
    pub(super) fn admit(&mut self, number: u64, bytes: &[u8], wakers: &mut Vec<Waker>) -> bool {
        let index = self.index(number);
        if index < self.admitted {
            return true;
        }
        if index > self.admitted || !self.has_place() {
            return false;
        }
        self.jobs[index].place = Place::of(bytes);
        if self.jobs[index].place == Place::Copied {
            self.bytes.extend_from_slice(bytes);
        }
        self.admitted += 1;
        // The next one may have come too early.
        if self.has_place() {
            wakers.extend(self.jobs.get_mut(self.admitted).and_then(|job| job.waker.take()));
        }
        true
    }

    /// Whom to wake when this job is done, fails, gets a place, or has its turn. Returns who was to be woken before, to be
    /// dropped when the lock is released.
    pub(super) fn set_waker(&mut self, number: u64, waker: &Waker) -> Option<Waker> {
        let index = self.index(number);
        let current = &mut self.jobs[index].waker;
        match current {
            Some(current) if current.will_wake(waker) => None,
            _ => current.replace(waker.clone()),
        }
    }

    /// The next bytes for a writer that has none left.
    pub(super) fn take(&mut self, buffer: &mut Vec<u8>) -> NextWrite {
        buffer.clear();
        let Some(job) = self.jobs.front().filter(|_| self.admitted > 0) else { return NextWrite::Rest };
        if job.place == Place::Large {
            self.taken = 1;
            return NextWrite::Caller(job.number, self.begun);
        }
        let large = self.jobs.range(..self.admitted).position(|job| job.place == Place::Large);
        match large {
            None => {
                std::mem::swap(&mut self.bytes, buffer);
                self.taken = self.admitted;
            }
            Some(index) => {
                let length: usize = self.jobs.range(..index).map(|job| job.length).sum();
                buffer.extend(self.bytes.drain(..length - self.begun));
                self.taken = index;
            }
        }
        NextWrite::Write
    }

    /// The stream has taken `n` more bytes.
    pub(super) fn written(&mut self, n: usize) {
        self.begun += n;
    }

    /// The kernel has all that the stream has taken. Returns how many jobs are done by that.
    pub(super) fn flushed(&mut self, wakers: &mut Vec<Waker>) -> usize {
        let before = self.jobs.len();
        while let Some(job) = self.jobs.front().filter(|_| self.taken > 0 || self.begun > 0) {
            if self.begun < job.length {
                break;
            }
            self.begun -= job.length;
            self.pop(wakers);
        }
        self.call_in(wakers);
        before - self.jobs.len()
    }

    /// The writer has to wait, and gives back what it has taken and not written. `rest` is cleared.
    pub(super) fn give_back(&mut self, rest: &mut Vec<u8>) {
        rest.append(&mut self.bytes);
        std::mem::swap(&mut self.bytes, rest);
        self.taken = 0;
    }

    /// The link is gone. `rest` is what the writer had taken and not written; it is cleared.
    pub(super) fn break_off(&mut self, rest: &mut Vec<u8>, why: impl Fn() -> F, wakers: &mut Vec<Waker>) {
        self.give_back(rest);
        while let Some(job) = self.jobs.front().filter(|_| self.begun > 0) {
            let begun = self.begun.min(job.length);
            // What was not written begins with the rest of the job that was cut in two.
            if job.place == Place::Copied {
                self.bytes.drain(..job.length - begun);
            }
            if job.has_caller {
                self.failed.push((job.number, why()));
            }
            self.begun -= begun;
            self.pop(wakers);
        }
        self.call_in(wakers);
    }

    /// Nothing will be sent any more: everyone is to be told.
    pub(super) fn abandon(&mut self, wakers: &mut Vec<Waker>) {
        self.abandoned = self.abandoned.min(self.first());
        self.clear(wakers);
    }

    fn clear(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.jobs.drain(..).filter_map(|job| job.waker));
        (self.admitted, self.taken, self.begun) = (0, 0, 0);
        self.bytes.clear();
    }

    /// All jobs fail, of which none may have begun.
    pub(super) fn fail_all(&mut self, mut why: impl FnMut() -> F, wakers: &mut Vec<Waker>) {
        debug_assert!(self.begun == 0, "a job that is cut in two fails for another reason");
        let waiting = self.jobs.iter().filter(|job| job.has_caller);
        self.failed.extend(waiting.map(|job| (job.number, why())));
        self.clear(wakers);
    }

    /// Wakes everyone.
    pub(super) fn call_all(&self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.jobs.iter().filter_map(|job| job.waker.clone()));
    }

    /// Whether a part of this job is on the link.
    pub(super) fn is_begun(&self, number: u64) -> bool {
        self.is_any_begun() && number == self.first()
    }

    /// Whether a part of some job is on the link, and the rest, or a flush, is still to come.
    pub(super) fn is_any_begun(&self) -> bool {
        self.begun > 0
    }

    /// Whether this job is the first, and its caller has to write it.
    pub(super) fn is_callers_turn(&self, number: u64) -> bool {
        self.jobs.front().is_some_and(|job| job.number == number && job.place == Place::Large)
    }

    /// What became of a job, for its caller. A failure is given out once.
    #[inline]
    pub(super) fn outcome(&mut self, number: u64) -> Outcome<F> {
        if self.is_in_the_row(number) {
            return Outcome::Pending;
        }
        if number >= self.abandoned {
            return Outcome::Abandoned;
        }
        match self.failed.iter().position(|(failed, _)| *failed == number) {
            Some(index) => Outcome::Failed(self.failed.swap_remove(index).1),
            None => Outcome::Done,
        }
    }

    /// Whether this job can still be kept from being sent.
    pub(super) fn can_withdraw(&self, number: u64) -> bool {
        if !self.is_in_the_row(number) || self.is_begun(number) {
            return false;
        }
        let index = self.index(number);
        index >= self.taken || self.jobs[index].place == Place::Large
    }

    /// A caller has lost interest; `bytes` are what it wanted to send. If its job has not begun, it is not sent; otherwise
    /// it is sent to the end.
    pub(super) fn withdraw(&mut self, number: u64, bytes: &[u8], wakers: &mut Vec<Waker>) {
        if !self.is_in_the_row(number) {
            self.outcome(number);
            return;
        }
        let can_withdraw = self.can_withdraw(number);
        let index = self.index(number);
        let job = &mut self.jobs[index];
        job.has_caller = false;
        // (Woken and not dropped, as the lock is held.)
        wakers.extend(job.waker.take());
        if can_withdraw {
            self.remove(index);
            self.call_in(wakers);
        } else if job.place == Place::Large {
            // From here on it is a job like the others, and first.
            job.place = Place::Copied;
            self.bytes.splice(..0, bytes[self.begun..].iter().copied());
            self.taken = 0;
        }
    }

    /// Takes a job out that has not begun, and that no writer has.
    fn remove(&mut self, index: usize) {
        match self.jobs[index].place {
            Place::Copied => {
                let before = self.jobs.range(self.taken..index).filter(|job| job.place == Place::Copied);
                let before: usize = before.map(|job| job.length).sum();
                let is_front_cut = self.taken == 0 && self.jobs[0].place == Place::Copied;
                let start = before - if is_front_cut { self.begun } else { 0 };
                self.bytes.drain(start..start + self.jobs[index].length);
            }
            Place::Large => self.taken -= usize::from(index < self.taken),
            Place::Outside => {}
        }
        self.jobs.remove(index);
        self.admitted -= usize::from(index < self.admitted);
    }

    /// Who is to write its bytes itself, now.
    pub(super) fn caller(&mut self) -> Option<Waker> {
        self.jobs.front_mut()?.waker.take()
    }

    fn has_place(&self) -> bool {
        self.admitted < self.places
    }

    #[inline]
    fn is_in_the_row(&self, number: u64) -> bool {
        self.jobs.front().is_some_and(|job| job.number <= number)
    }

    /// Calls those in for whom there are places now.
    fn call_in(&mut self, wakers: &mut Vec<Waker>) {
        let free = self.places.saturating_sub(self.admitted);
        wakers.extend(self.jobs.iter_mut().skip(self.admitted).take(free).filter_map(|job| job.waker.take()));
    }

    fn pop(&mut self, wakers: &mut Vec<Waker>) {
        if let Some(job) = self.jobs.pop_front() {
            wakers.extend(job.waker);
            self.admitted -= 1;
            self.taken = self.taken.saturating_sub(1);
        }
    }

    /// Where in the row this job stands, which has not left it.
    fn index(&self, number: u64) -> usize {
        // As far in as its number says, unless some have withdrawn.
        let guess = (number - self.first()) as usize;
        match self.jobs.get(guess) {
            Some(job) if job.number == number => guess,
            _ => self.jobs.partition_point(|job| job.number < number),
        }
    }
}
