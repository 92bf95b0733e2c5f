//! A thread that calls code of the program which may block: its `log` backend, or the hooks of blocking connections.
//!
//! A program may send its log over a connection of this crate. Then such code waits for a link, or for a lock that its
//! owner holds while it waits for one. On the task that dials, it would wait for ever. So it runs here, and nothing in
//! this crate waits for it.
//!
//! Next: [`hooks`](crate::hooks), which hands its log lines over.

use std::collections::VecDeque;
use std::sync::{Condvar, PoisonError};
use std::thread;
use std::time::Duration;

use crate::panics::ignore;
use crate::sync::Mutex;

/// How many calls can wait. Later ones are dropped, as a backend that blocks for ever must not fill the memory.
const CAPACITY: usize = 1024;

/// A call of the program's code, with all that it needs.
type Call = Box<dyn FnOnce() + Send>;

/// A thread that makes calls in order, one at a time. It starts at a call and ends when it has been idle.
///
/// A panic of a call is caught and ignored.
pub(crate) struct CallThread {
    /// The name of the thread.
    name: &'static str,
    /// How long it waits for the next call before it ends.
    idle_limit: Duration,
    /// Reports on the thread how many calls were dropped.
    report_dropped: fn(u64),
    /// What the thread has to do.
    queue: Mutex<CallQueue<Call>>,
    /// Signalled when there is a call.
    posted: Condvar,
}

impl CallThread {
    /// A thread that does not run yet.
    pub(crate) const fn new(name: &'static str, report_dropped: fn(u64)) -> Self {
        Self {
            name,
            idle_limit: Duration::from_secs(10),
            report_dropped,
            queue: Mutex::new(CallQueue::new()),
            posted: Condvar::new(),
        }
    }

    /// Has the thread make a call, and never waits for it.
    ///
    /// The call is dropped if too many wait, or if the thread cannot be started.
    pub(crate) fn post(&'static self, call: impl FnOnce() + Send + 'static) {
        let rejected = self.enqueue(Box::new(call));
        // Its drop may run code of the program, so it comes after the lock is released.
        ignore(|| drop(rejected));
    }

    /// Takes a call into the queue, and starts the thread if it does not run. Returns a call that was not taken.
    fn enqueue(&'static self, call: Call) -> Option<Call> {
        let mut queue = self.queue.lock();
        if !queue.is_served {
            // The new thread waits for the lock.
            if thread::Builder::new().name(self.name.into()).spawn(|| self.run()).is_err() {
                queue.dropped += 1;
                return Some(call);
            }
            queue.is_served = true;
        }
        let rejected = queue.push(call).err();
        drop(queue);
        self.posted.notify_one();
        rejected
    }

    /// The thread.
    fn run(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(item) = queue.pop() {
                drop(queue);
                match item {
                    Item::Call(call) => ignore(call),
                    Item::Dropped(count) => ignore(|| (self.report_dropped)(count)),
                }
                queue = self.queue.lock();
                continue;
            }
            let waited = self.posted.wait_timeout(queue, self.idle_limit).unwrap_or_else(PoisonError::into_inner);
            queue = waited.0;
            if waited.1.timed_out() && queue.items.is_empty() {
                // Gives the memory back, too.
                *queue = CallQueue::new();
                return;
            }
        }
    }
}

/// The calls that wait, and a count in the place of those that did not fit.
struct CallQueue<C> {
    /// The oldest first.
    items: VecDeque<Item<C>>,
    /// How many calls were dropped since the newest of the items.
    dropped: u64,
    /// Whether the thread runs, and will look at the queue again.
    is_served: bool,
}

/// What the thread does next.
#[derive(Debug, PartialEq)]
enum Item<C> {
    /// Make this call.
    Call(C),
    /// Report that this many calls were dropped.
    Dropped(u64),
}

impl<C> CallQueue<C> {
    /// An empty queue, which no thread serves.
    const fn new() -> Self {
        Self { items: VecDeque::new(), dropped: 0, is_served: false }
    }

    /// Adds a call, behind the count of those that were dropped before it. Returns it if the queue is full.
    fn push(&mut self, call: C) -> Result<(), C> {
        if self.items.len() >= CAPACITY {
            self.dropped += 1;
            return Err(call);
        }
        if self.dropped > 0 {
            self.items.push_back(Item::Dropped(std::mem::take(&mut self.dropped)));
        }
        self.items.push_back(Item::Call(call));
        Ok(())
    }

    /// The oldest item. Calls that were dropped are reported at the latest when nothing else is left.
    fn pop(&mut self) -> Option<Item<C>> {
        let rest = || (self.dropped > 0).then(|| Item::Dropped(std::mem::take(&mut self.dropped)));
        self.items.pop_front().or_else(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn full_queue_drops_calls_and_says_how_many_in_their_place() {
        let mut queue = CallQueue::new();
        (0..CAPACITY).for_each(|call| queue.push(call).unwrap());
        for call in 0..3 {
            assert_eq!(queue.push(call), Err(call));
        }
        assert_eq!(queue.pop(), Some(Item::Call(0)));
        queue.push(CAPACITY).unwrap();
        assert_eq!(queue.push(0), Err(0), "the queue is full again");
        (1..CAPACITY).for_each(|call| assert_eq!(queue.pop(), Some(Item::Call(call))));
        assert_eq!(queue.pop(), Some(Item::Dropped(3)));
        assert_eq!(queue.pop(), Some(Item::Call(CAPACITY)));
        assert_eq!(queue.pop(), Some(Item::Dropped(1)));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn idle_thread_ends_and_the_next_call_starts_another() {
        let threads = Box::leak(Box::new(CallThread::new("perconn-test", |_| {})));
        threads.idle_limit = Duration::from_millis(1);
        let threads: &'static CallThread = threads;
        for _ in 0..3 {
            let (sender, ran_on) = mpsc::channel();
            let bomb = || panic!("a panic of a call is caught");
            threads.post(bomb);
            threads.post(move || sender.send(thread::current().name().map(str::to_owned)).unwrap());
            assert_eq!(ran_on.recv_timeout(Duration::from_secs(20)).unwrap().as_deref(), Some("perconn-test"));
            let start = std::time::Instant::now();
            while threads.queue.lock().is_served {
                assert!(start.elapsed() < Duration::from_secs(20), "the thread does not end");
                thread::yield_now();
            }
        }
    }
}
