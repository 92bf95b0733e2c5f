//! The waiters of a limit, in order, and the timer for the first of them.
//!
//! Every change gives the turns that have come: a dial that begins or ends, and the timer. So no waiter depends on
//! another task that waits and is not polled. Each waits at a channel of its own, and only a waiter whose turn it is wakes up.
//!
//! While the first waiter waits for the time alone, there is one timer: a task of its runtime. If that runtime ends, the runtime of
//! another waiter has the next timer.
//!
//! Next: `rules.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rand::RngExt;
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::rules::{Rules, Turn};
use crate::backoff::seeded_by_system;
use crate::hooks::debug;
use crate::panics::ignore;
use crate::sync::Mutex;

/// What all clones of a limit share.
pub(super) struct Queue {
    /// Times of the rules count from here.
    start: Instant,
    /// No code of the program runs under the lock.
    state: Mutex<State>,
}

/// What the lock protects.
struct State {
    /// Those that dial, and when the next one may.
    rules: Rules,
    /// Those that wait, by their numbers.
    waiting: BTreeMap<u64, Waiter>,
    /// The number of the next one that waits.
    next_number: u64,
    /// A timer runs.
    is_timed: bool,
}

/// One that waits.
struct Waiter {
    /// Takes its turn.
    turn: oneshot::Sender<DialPermit>,
    /// Where a timer for it runs. `None`: this runtime has ended.
    runtime: Option<Handle>,
}

impl Queue {
    /// Nobody dials or waits.
    pub(super) fn new(at_once: usize, per_second: u32) -> Arc<Self> {
        let rules = Rules::new(at_once, per_second, seeded_by_system().random_range(0.0..1.0));
        let state = State { rules, waiting: BTreeMap::new(), next_number: 0, is_timed: false };
        Arc::new(Self { start: Instant::now(), state: Mutex::new(state) })
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// How many dial.
    pub(super) fn dialing(&self) -> usize {
        self.state.lock().rules.dialing()
    }

    /// Waits for a turn.
    pub(super) async fn turn(self: &Arc<Self>, name: &str) -> DialPermit {
        // Without timers, this panics here, where the dial's owner notices, and not in the timer's task.
        drop(sleep(Duration::ZERO));
        let (place, mut turn) = self.join(Handle::current());
        self.give_turns(false);
        if let Ok(permit) = turn.try_recv() {
            return permit;
        }
        debug(format_args!("{name}: the dial waits for its limit, behind {} others", place.ahead()));
        match turn.await {
            Ok(permit) => permit,
            Err(_) => unreachable!("a place in the queue is left by its owner, or for a turn"),
        }
    }

    /// Takes the last place.
    fn join(self: &Arc<Self>, runtime: Handle) -> (Place<'_>, oneshot::Receiver<DialPermit>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let number = state.next_number;
        state.next_number += 1;
        state.waiting.insert(number, Waiter { turn: sender, runtime: Some(runtime) });
        (Place { queue: self, number }, receiver)
    }

    /// Gives the turns that have come. Returns when the next one comes, if that depends on the time alone.
    ///
    /// Starts a timer for that, if there is none. If this is the timer, it goes on.
    fn give_turns(self: &Arc<Self>, is_timer: bool) -> Option<Duration> {
        let mut turns = Vec::new();
        let (next, timer) = {
            let mut state = self.state.lock();
            let now = Instant::now().saturating_duration_since(self.start);
            let next = state.take_turns(now, &mut turns);
            let timer = match next {
                Some(_) if is_timer || state.is_timed => None,
                Some(_) => state.waiting.values().find_map(|waiter| waiter.runtime.clone()),
                None => None,
            };
            state.is_timed = timer.is_some() || state.is_timed && !(is_timer && next.is_none());
            (next, timer)
        };
        for waiter in turns {
            // It may be gone, and then the permit is dropped. Its waker is code of the program.
            ignore(|| drop(waiter.turn.send(DialPermit { queue: Arc::clone(self) })));
        }
        if let (Some(next), Some(runtime)) = (next, timer) {
            let timer = Timer { queue: Arc::downgrade(self), runtime: runtime.id(), has_ended: false };
            runtime.spawn(timer.run(next));
        }
        next
    }
}

impl State {
    /// Takes those whose turn it is out of the queue. Returns when the next turn comes, if that depends on the time alone.
    fn take_turns(&mut self, now: Duration, turns: &mut Vec<Waiter>) -> Option<Duration> {
        while let Some(first) = self.waiting.first_entry() {
            match self.rules.begin(now) {
                Turn::Now => turns.push(first.remove()),
                Turn::After(wait) => return Some(wait),
                Turn::AfterADial => return None,
            }
        }
        None
    }
}

/// The right to one dial, until it is dropped.
pub(crate) struct DialPermit {
    /// Where the next turn is given then.
    queue: Arc<Queue>,
}

impl Drop for DialPermit {
    fn drop(&mut self) {
        self.queue.state.lock().rules.end();
        self.queue.give_turns(false);
    }
}

/// A place in the queue. It is given up when this is dropped, unless its turn has come.
struct Place<'a> {
    queue: &'a Arc<Queue>,
    /// Its number there.
    number: u64,
}

impl Place<'_> {
    /// How many are before it.
    fn ahead(&self) -> usize {
        self.queue.state.lock().waiting.range(..self.number).count()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waiter = self.queue.state.lock().waiting.remove(&self.number);
        // Its waker is dropped without the lock.
        drop(waiter);
    }
}

/// Gives turns when their time has come, until the one in front waits for something else.
struct Timer {
    /// A limit that nobody has any more needs no timer.
    queue: Weak<Queue>,
    /// The runtime that it runs on.
    runtime: Id,
    /// It has ended by itself.
    has_ended: bool,
}

impl Timer {
    /// The task. Until the first turn it takes this time.
    async fn run(mut self, mut next: Duration) {
        loop {
            sleep(next).await;
            let after = self.queue.upgrade().and_then(|queue| queue.give_turns(true));
            match after {
                Some(after) => next = after,
                None => break self.has_ended = true,
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // The runtime shuts down.
        let Some(queue) = self.queue.upgrade() else { return };
        let ended: Vec<Handle> = {
            let mut state = queue.state.lock();
            state.is_timed = false;
            let of_this = state.waiting.values_mut().filter(|waiter| has_id(&waiter.runtime, self.runtime));
            of_this.filter_map(|waiter| waiter.runtime.take()).collect()
        };
        drop(ended);
        queue.give_turns(false);
    }
}

/// Whether it is the runtime of this number.
fn has_id(runtime: &Option<Handle>, id: Id) -> bool {
    runtime.as_ref().is_some_and(|runtime| runtime.id() == id)
}
