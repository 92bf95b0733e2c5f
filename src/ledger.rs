//! What the handles of a connection and its actor know in common.
//!
//! The ledger says which links there have been, which of them are broken and why, and whether there will be another.
//! Whoever notices a break enters it here first and sends the job second, so that no handle and no observer takes a
//! link for live after an error on it has been told.
//!
//! On a live link a handle asks one question, [`Ledger::is_live`]: one atomic load. Everything else is behind a lock
//! that is taken only when something has happened, or when a handle begins to wait.
//!
//! # Why no wake-up is lost
//!
//! A handle that is about to wait stores its waker under the lock, and a change collects the wakers under the same
//! lock. Either the waker was there when the change came, and is woken, or the change was there when the waker came,
//! and the handle looks again before it waits. A waker stays until the handle's next task replaces it: a handle that
//! waits again and again in one task stores it once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::actor::Job;
use crate::fault::{Cause, Fault};
use crate::link::{Grip, Link, Socket};
use crate::{Error, Op, Status};

/// How many breaks are remembered for a handle that has not been told of them yet. When a handle has slept through
/// more, it is told of the oldest that is remembered and goes on from there.
const REMEMBERED_FAULTS: usize = 16;

/// The common record of one connection.
pub(crate) struct Ledger<S> {
    pub(crate) address: String,
    /// The newest generation that is known to be broken; `u64::MAX` once no link may be used any more.
    broken: AtomicU64,
    state: Mutex<State<S>>,
    status: watch::Sender<Status>,
    jobs: mpsc::Sender<Job>,
    /// Whether the actor is in the program's own code, which can take any time, or has ended.
    actor_away: AtomicBool,
    actor_left: Notify,
}

struct State<S> {
    /// The newest link's number, 0 before there is one.
    generation: u64,
    /// When it came up.
    since: Instant,
    /// The live link's stream, for the handles that have not taken it yet.
    grip: Option<Grip<S>>,
    /// The newest broken link, if its bytes may not have been read: the reader never took it.
    leftover: Option<Link<S>>,
    /// The generation that the reading handle took last.
    read_taken: u64,
    faults: VecDeque<Arc<Fault>>,
    /// Set by `shutdown()`: when this link ends, there will not be another.
    finishing: bool,
    /// Whether a reconnect job is on its way.
    reconnecting: bool,
    end: Option<End>,
    wakers: [Option<Waker>; 2],
}

/// Why there will be no further link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `close()`, or the last handle was dropped.
    Closed,
    /// `shutdown()`, and the last link has ended.
    Finished,
    GaveUp {
        attempts: u32,
    },
    RuntimeShutdown,
}

/// The two things that a handle can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// What a handle has to do next when it has no live link in its hands.
pub(crate) enum Next<S> {
    /// Tell the caller of this break. A reader reads what had arrived on the link before.
    Tell(Arc<Fault>, Option<Link<S>>),
    /// Go on with this link.
    Use(Link<S>),
    /// Tell the caller that it is over.
    Over(End),
    /// Wait; the waker is stored.
    Wait,
}

impl<S> Ledger<S> {
    pub(crate) fn new(address: String, jobs: mpsc::Sender<Job>) -> Self {
        Self {
            address,
            broken: AtomicU64::new(0),
            state: Mutex::new(State {
                generation: 0,
                since: Instant::now(),
                grip: None,
                leftover: None,
                read_taken: 0,
                faults: VecDeque::new(),
                finishing: false,
                reconnecting: false,
                end: None,
                wakers: [None, None],
            }),
            status: watch::Sender::new(Status::Connecting),
            jobs,
            actor_away: AtomicBool::new(false),
            actor_left: Notify::new(),
        }
    }

    /// Whether the link may be used, as far as anyone here knows.
    #[inline]
    pub(crate) fn is_live(&self, generation: u64) -> bool {
        self.broken.load(Ordering::Acquire) < generation
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    // ===== breaks =====

    /// Enters a break and sets the actor to work. If the break of this link is known already, `cause` is not asked and
    /// nothing changes. Returns the record either way, or `None` if the connection is over.
    pub(crate) fn report(&self, generation: u64, op: Op, cause: impl FnOnce() -> Cause) -> Option<Arc<Fault>> {
        let mut state = self.lock();
        if !self.is_live(generation) {
            return state.fault(generation);
        }
        // The cause is taken under the lock: nobody can see a socket whose error has been taken, and no break.
        let fault = self.enter(&mut state, generation, op, cause());
        self.send(Job::Redial(Arc::clone(&fault)));
        self.wake(state);
        Some(fault)
    }

    /// Enters a break that the actor itself has seen. `None`: it is known already, and the job is on its way.
    pub(crate) fn report_seen(&self, generation: u64, cause: impl FnOnce() -> Cause) -> Option<Arc<Fault>> {
        let mut state = self.lock();
        if !self.is_live(generation) {
            return None;
        }
        let fault = self.enter(&mut state, generation, Op::Read, cause());
        self.wake(state);
        Some(fault)
    }

    /// Breaks the live link on purpose, or asks the actor to dial at once.
    pub(crate) fn reconnect(&self) {
        let mut state = self.lock();
        if state.end.is_some() || state.finishing {
            return;
        }
        let generation = state.generation;
        if self.is_live(generation) {
            let fault = self.enter(&mut state, generation, Op::Read, Cause::Requested);
            self.send(Job::Redial(fault));
            self.wake(state);
        } else if !std::mem::replace(&mut state.reconnecting, true) {
            self.send(Job::Reconnect);
        }
    }

    /// The actor has taken the reconnect job.
    pub(crate) fn reconnect_taken(&self) {
        self.lock().reconnecting = false;
    }

    fn enter(&self, state: &mut State<S>, generation: u64, op: Op, cause: Cause) -> Arc<Fault> {
        let fault = Arc::new(Fault { generation, op, cause, lived: state.since.elapsed() });
        self.broken.store(generation, Ordering::Release);
        if state.faults.len() == REMEMBERED_FAULTS {
            state.faults.pop_front();
        }
        state.faults.push_back(Arc::clone(&fault));
        let grip = state.grip.take();
        if let Some(socket) = grip.as_ref().and_then(Grip::socket) {
            socket.hang_up();
        }
        state.leftover = match grip {
            Some(grip) if state.read_taken < generation => Some(Link { generation, grip }),
            _ => None,
        };
        if state.finishing {
            state.end = Some(End::Finished);
            self.status.send_replace(Status::Closed);
        } else {
            self.status.send_replace(Status::Disconnected { generation });
        }
        fault
    }

    // ===== links =====

    /// Gives a fresh stream to the handles. It comes back if the connection was closed meanwhile.
    pub(crate) fn hand_over(&self, generation: u64, stream: S) -> Result<Option<Socket>, S>
    where
        S: 'static,
    {
        let mut state = self.lock();
        if state.end.is_some() {
            return Err(stream);
        }
        debug_assert!(state.generation < generation, "a late link must not replace a newer one");
        let grip = Grip::new(stream);
        let socket = grip.socket().cloned();
        state.generation = generation;
        state.since = Instant::now();
        state.grip = Some(grip);
        self.status.send_replace(Status::Connected { generation });
        self.wake(state);
        Ok(socket)
    }

    /// What a handle does next that has been told of all breaks up to `told`. Stores the waker if it has to wait.
    pub(crate) fn next(&self, told: u64, seat: Seat, waker: &Waker) -> Next<S> {
        let mut state = self.lock();
        match state.end {
            // Who closed the connection knows about it, and what was left unread is not wanted any more.
            Some(end @ (End::Closed | End::RuntimeShutdown)) => return Next::Over(end),
            Some(End::Finished | End::GaveUp { .. }) | None => {}
        }
        if let Some(fault) = state.faults.iter().find(|fault| fault.generation > told) {
            let fault = Arc::clone(fault);
            let leftover = match seat.reads() {
                true => state.leftover.take_if(|link| link.generation == fault.generation),
                false => None,
            };
            return Next::Tell(fault, leftover);
        }
        if let Some(end) = state.end {
            return Next::Over(end);
        }
        match state.take(seat) {
            Some(link) => Next::Use(link),
            None => {
                state.register(seat.direction, waker);
                Next::Wait
            }
        }
    }

    /// The live link for a handle that has been told of everything, without waiting for one.
    pub(crate) fn take_live(&self, told: u64, seat: Seat) -> Option<Link<S>> {
        let mut state = self.lock();
        let is_told = state.faults.back().is_none_or(|fault| fault.generation <= told);
        if is_told && state.end.is_none() { state.take(seat) } else { None }
    }

    /// The record of a break, if it is still remembered.
    pub(crate) fn fault(&self, generation: u64) -> Option<Arc<Fault>> {
        self.lock().fault(generation)
    }

    /// Turns a link that two halves shared back into one that a whole `Conn` owns.
    pub(crate) fn unshare(&self, link: Link<S>) -> Link<S> {
        let mut state = self.lock();
        if state.generation == link.generation && link.grip.socket().is_none() {
            // The copy that was kept for the other half.
            state.grip = None;
        }
        Link { generation: link.generation, grip: link.grip.unshare() }
    }

    /// Stores a waker; the caller must look again whether it still has to wait.
    pub(crate) fn register(&self, direction: Direction, waker: &Waker) {
        self.lock().register(direction, waker);
    }

    /// Forgets a direction whose handle is gone.
    pub(crate) fn retire(&self, direction: Direction) {
        let mut state = self.lock();
        state.wakers[direction as usize] = None;
        if direction == Direction::Read {
            state.read_taken = u64::MAX;
            state.leftover = None;
        }
    }

    // ===== the end =====

    /// Begins the end of the conversation: the link that is live is the last one. `shut` is the generation whose
    /// writing side the caller has shut down.
    pub(crate) fn finish(&self, shut: u64) {
        let mut state = self.lock();
        if state.end.is_some() || state.finishing {
            return;
        }
        let generation = state.generation;
        if self.is_live(generation) {
            // The peer has to hear of it on a link that the caller never touched, too.
            if let Some(socket) = state.grip.as_ref().and_then(Grip::socket).filter(|_| shut != generation) {
                let _ = socket.shutdown_write();
            }
            state.finishing = true;
            self.send(Job::Finish { generation });
        } else {
            state.end = Some(End::Finished);
            self.status.send_replace(Status::Closed);
            self.send(Job::Close);
            self.wake(state);
        }
    }

    /// Ends the connection at once for everyone, and sets the actor to end too.
    pub(crate) fn close(&self) {
        if self.end(End::Closed) {
            self.send(Job::Close);
        }
    }

    /// Enters the end. The first end stays, but for a close or the runtime's end, which also take away the link.
    /// Returns whether this one was entered.
    pub(crate) fn end(&self, end: End) -> bool {
        let mut state = self.lock();
        match (state.end, end) {
            (Some(End::Closed | End::RuntimeShutdown), _) | (Some(_), End::Finished | End::GaveUp { .. }) => {
                return false;
            }
            _ => state.end = Some(end),
        }
        if matches!(end, End::Closed | End::RuntimeShutdown) {
            self.broken.store(u64::MAX, Ordering::Release);
            state.leftover = None;
            let grip = state.grip.take();
            if let Some(socket) = grip.as_ref().and_then(Grip::socket) {
                socket.hang_up();
            }
        }
        self.status.send_replace(match end {
            End::GaveUp { .. } => Status::GaveUp,
            End::Closed | End::Finished | End::RuntimeShutdown => Status::Closed,
        });
        self.wake(state);
        true
    }

    /// The error of an end.
    pub(crate) fn end_error(&self, end: End) -> Error {
        match end {
            End::Closed | End::Finished => Error::ClosedConnection,
            End::GaveUp { attempts } => Error::GaveUp { address: self.address.clone(), attempts },
            End::RuntimeShutdown => Error::RuntimeShutdown,
        }
    }

    /// Why there will be no further link, if that is so.
    pub(crate) fn ended(&self) -> Option<End> {
        self.lock().end
    }

    /// The actor enters (or leaves) code that can take any time.
    pub(crate) fn set_actor_away(&self, away: bool) {
        self.actor_away.store(away, Ordering::SeqCst);
        if away {
            self.actor_left.notify_waiters();
        }
    }

    /// Waits until the actor has ended, or at least can do nothing but the program's own code before it ends.
    pub(crate) async fn actor_gone(&self) {
        loop {
            let mut left = std::pin::pin!(self.actor_left.notified());
            left.as_mut().enable();
            if self.actor_away.load(Ordering::SeqCst) {
                return;
            }
            left.await;
        }
    }

    // ===== the parts =====

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        // Nothing panics while the lock is held; a poisoned one would still hold a sound state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a job while the lock is held, so that the actor gets the jobs in the order of the entries.
    fn send(&self, job: Job) {
        // Each kind of job that is sent here has a place of its own in the queue and is sent again only after the
        // actor took it, so the queue cannot be full. If the actor has ended, it has entered the end here itself.
        let sent = self.jobs.try_send(job);
        debug_assert!(!matches!(sent, Err(mpsc::error::TrySendError::Full(_))), "a job had no place");
    }

    /// Releases the lock, then wakes everyone who waits.
    fn wake(&self, state: MutexGuard<'_, State<S>>) {
        let wakers = state.wakers.clone();
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Who asks for a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) direction: Direction,
    /// Whether the handle is one of two halves.
    pub(crate) is_half: bool,
}

impl Seat {
    /// Whether the bytes of a link that this handle takes are read by it.
    fn reads(self) -> bool {
        self.direction == Direction::Read || !self.is_half
    }
}

impl<S> State<S> {
    fn fault(&self, generation: u64) -> Option<Arc<Fault>> {
        self.faults.iter().find(|fault| fault.generation == generation).cloned()
    }

    fn take(&mut self, seat: Seat) -> Option<Link<S>> {
        let grip = match self.grip.take()? {
            Grip::Owned(stream) if !seat.is_half => Grip::Owned(stream),
            shared => {
                let (kept, given) = shared.share();
                self.grip = Some(kept);
                given
            }
        };
        if seat.reads() {
            self.read_taken = self.read_taken.max(self.generation);
        }
        Some(Link { generation: self.generation, grip })
    }

    fn register(&mut self, direction: Direction, waker: &Waker) {
        match &mut self.wakers[direction as usize] {
            Some(stored) => stored.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
    }
}
