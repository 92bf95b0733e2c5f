//! What the handles of a connection and its actor know in common.
//!
//! The conn_state says which links there have been, which of them are broken and why, and whether there will be another.
//! Whoever notices a break enters it here first and sends the job second, so that no handle takes a link for live
//! after an error on it has been told.
//!
//! On a live link a handle asks one question, [`ConnState::is_live`]: one atomic load. Everything else is behind a lock
//! that is taken only when something has happened, or when a handle begins to wait.
//!
//! # Why no wake-up is lost
//!
//! A handle that is about to wait stores its waker under the lock, and a change collects the wakers under the same
//! lock. Either the waker was there when the change came, and is woken, or the change was there when the waker came,
//! and the handle looks again before it waits. A waker stays until the handle's next task replaces it: a handle that
//! waits again and again in one task stores it once.
//!
//! # Why nothing waits for a lock for long
//!
//! Nothing that is not the conn_state's own runs under its lock: wakers are woken, and streams and wakers dropped, after
//! it is released. The watch channel of the [`Status`] has a lock of its own, which the program holds as long as it
//! looks at a status. So the status is published outside of the conn_state's lock, and only by the actor and by
//! operations that tell of a break: `reconnect()` and a drop never wait for somebody who looks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};

use tokio::sync::{Notify, watch};

use self::record::Record;
pub(crate) use self::record::{Claimant, Command, Direction, End};
use crate::fault::{Cause, Fault};
use crate::link::{Link, Socket, StreamRef};
use crate::panics::wake;
use crate::sync::Mutex;
use crate::{Error, Op, Status, StatusWatch};

mod record;

/// The common record of one connection.
pub(crate) struct ConnState<S> {
    pub(crate) address: String,
    /// The newest generation that is known to be broken; `u64::MAX` once no link may be used any more.
    broken: AtomicU64,
    state: Mutex<Record<S>>,
    /// What the program sees, if it looks; it lags behind the state until the next [`ConnState::publish`].
    status: OnceLock<watch::Sender<Status>>,
    /// Told when that may have changed. (A watch channel wakes those who wait in a random order; this one in theirs.)
    published: Notify,
    /// Whether the actor is in the program's own code, which can take any time, or has ended.
    actor_away: AtomicBool,
    actor_left: Notify,
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

/// What becomes of a report.
pub(crate) enum Report {
    /// The link is broken; this is the record, from this report or an earlier one.
    Broken(Arc<Fault>),
    /// The connection is over, and the link with it.
    Over(End),
}

impl<S> ConnState<S> {
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            broken: AtomicU64::new(0),
            state: Mutex::new(Record::new()),
            status: OnceLock::new(),
            published: Notify::new(),
            actor_away: AtomicBool::new(false),
            actor_left: Notify::new(),
        }
    }

    /// Whether the link may be used, as far as anyone here knows.
    #[inline]
    pub(crate) fn is_live(&self, generation: u64) -> bool {
        self.broken.load(Ordering::Acquire) < generation
    }

    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// The status at this moment.
    pub(crate) fn status(&self) -> Status {
        let state = self.lock();
        state.status(self.is_live(state.generation))
    }

    /// The status as the program sees it, now and from now on.
    pub(crate) fn watch_status(&self) -> StatusWatch {
        let shown = self.status.get_or_init(|| watch::Sender::new(self.status()));
        // What changed while nobody could publish it.
        self.publish();
        StatusWatch::new(shown.subscribe())
    }

    /// Shows the program the status at this moment.
    pub(crate) fn publish(&self) {
        if let Some(shown) = self.status.get() {
            shown.send_if_modified(|shown| {
                let now = self.status();
                std::mem::replace(shown, now) != now
            });
        }
        self.published.notify_waiters();
    }

    /// Waits until a link is up.
    pub(crate) async fn connected(&self) -> Result<(), Error> {
        loop {
            let mut published = std::pin::pin!(self.published.notified());
            published.as_mut().enable();
            // What is shown can be older than what is known.
            if self.status().is_connected() {
                return Ok(());
            }
            if let Some(end) = self.ended() {
                return Err(self.end_error(end));
            }
            published.await;
        }
    }

    // ===== breaks =====

    /// Enters a break and sets the actor to work. If the break of this link is known already, `cause` is not asked and
    /// nothing changes.
    pub(crate) fn report(&self, generation: u64, op: Op, cause: impl FnOnce() -> Cause) -> Report {
        self.change(|state| {
            if !self.is_live(generation) {
                return match state.end {
                    Some(end @ (End::Closed | End::RuntimeShutdown)) => Report::Over(end),
                    _ => Report::Broken(state.fault(generation, op)),
                };
            }
            // The cause is taken under the lock: nobody can see a socket whose error has been taken, and no break.
            let fault = self.enter(state, generation, op, cause());
            state.send(Command::Redial(Arc::clone(&fault)));
            Report::Broken(fault)
        })
    }

    /// Enters a break that the actor itself has seen. `None`: it is known already, and the job is on its way.
    pub(crate) fn report_seen(&self, generation: u64, cause: impl FnOnce() -> Cause) -> Option<Arc<Fault>> {
        self.change(|state| {
            let live = self.is_live(generation);
            live.then(|| self.enter(state, generation, Op::Read, cause()))
        })
    }

    /// Breaks the live link on purpose, or asks the actor to dial at once.
    pub(crate) fn reconnect(&self) {
        self.change(|state| {
            if state.end.is_some() || state.finishing {
                return;
            }
            let generation = state.generation;
            if self.is_live(generation) {
                let fault = self.enter(state, generation, Op::Read, Cause::Requested);
                state.send(Command::Redial(fault));
            } else {
                state.send(Command::Reconnect);
            }
        });
    }

    /// The next job, for the actor.
    pub(crate) fn poll_job(&self, cx: &Context<'_>) -> Poll<Command> {
        let (job, _replaced) = self.change(|state| state.next_job(cx.waker()));
        job.map_or(Poll::Pending, Poll::Ready)
    }

    /// The oldest break that is remembered of those after `told`.
    pub(crate) fn first_untold(&self, last_reported: u64) -> Option<Arc<Fault>> {
        self.lock().first_untold(last_reported)
    }

    /// The record of a break.
    pub(crate) fn fault(&self, generation: u64, op: Op) -> Arc<Fault> {
        self.lock().fault(generation, op)
    }

    fn enter(&self, state: &mut Record<S>, generation: u64, op: Op, cause: Cause) -> Arc<Fault> {
        self.broken.store(generation, Ordering::Release);
        state.break_link(op, cause)
    }

    // ===== links =====

    /// Gives a fresh stream to the handles. It comes back if the connection was closed meanwhile.
    pub(crate) fn hand_over(&self, generation: u64, stream: S) -> Result<Option<Socket>, S>
    where
        S: 'static,
    {
        self.change(|state| {
            if state.end.is_some() {
                return Err(stream);
            }
            debug_assert!(state.generation < generation, "a late link must not replace a newer one");
            let stream = StreamRef::new(stream);
            let socket = stream.socket().cloned();
            state.begin_link(generation, stream);
            Ok(socket)
        })
    }

    /// What a handle does next that has been told of all breaks up to `told`. Stores the waker if it has to wait.
    pub(crate) fn next(&self, last_reported: u64, claimant: Claimant, waker: &Waker) -> Next<S> {
        let (next, _replaced) = self.change(|state| {
            // Who closed the connection knows about it, and what was left unread is not wanted any more.
            if let Some(end @ (End::Closed | End::RuntimeShutdown)) = state.end {
                return (Next::Over(end), None);
            }
            if let Some(fault) = state.first_untold(last_reported) {
                let leftover = state.take_leftover(claimant, fault.generation);
                return (Next::Tell(fault, leftover), None);
            }
            match (state.end, state.take(claimant)) {
                (Some(end), _) => (Next::Over(end), None),
                (None, Some(link)) => (Next::Use(link), None),
                (None, None) => (Next::Wait, state.register(claimant.direction, waker)),
            }
        });
        next
    }

    /// The reading handle does not want what is left of the links up to `told`.
    #[cfg(feature = "session")]
    pub(crate) fn pass_over(&self, last_reported: u64) {
        self.change(|state| state.pass_over(last_reported));
    }

    /// The live link for a handle that has been told of everything, without waiting for one.
    pub(crate) fn take_live(&self, last_reported: u64, claimant: Claimant) -> Option<Link<S>> {
        self.change(|state| if state.first_untold(last_reported).is_none() { state.take(claimant) } else { None })
    }

    /// The live link for whoever ends the conversation on it, told or not. The handles can take it as before.
    pub(crate) fn share_last(&self) -> Option<Link<S>> {
        self.change(Record::share)
    }

    /// Turns a link that two halves shared back into one that a whole `Conn` owns.
    pub(crate) fn unshare(&self, link: Link<S>) -> Link<S> {
        self.change(|state| {
            if state.generation == link.generation && link.stream.socket().is_none() {
                // The copy that was kept for the other half.
                state.link = None;
            }
        });
        link.unshare()
    }

    /// Stores a waker; the caller must look again whether it still has to wait.
    pub(crate) fn register(&self, direction: Direction, waker: &Waker) {
        let _replaced = self.change(|state| state.register(direction, waker));
    }

    /// Forgets a direction whose handle is gone.
    pub(crate) fn retire(&self, direction: Direction) {
        let _waker = self.change(|state| state.retire(direction));
    }

    // ===== the end =====

    /// Begins the end of the conversation: the link that is live is the last one, and its socket's writing side is
    /// shut down. Returns the live link's generation and, if it is a socket, what the shutdown said.
    ///
    /// All of it happens under the lock: the peer may answer with its own close at once, and that must not look like a
    /// break with a redial to follow.
    pub(crate) fn finish(&self) -> Option<(u64, Option<std::io::Result<()>>)> {
        self.change(|state| {
            let generation = state.generation;
            if state.end.is_none() && self.is_live(generation) {
                state.finishing = true;
                return Some((generation, state.socket().map(Socket::shutdown_write)));
            }
            if state.end.is_none() {
                state.end(End::Finished);
                state.send(Command::Close);
            }
            None
        })
    }

    /// Ends the connection at once for everyone, and sets the actor to end too.
    pub(crate) fn close(&self) {
        if self.end(End::Closed) {
            self.change(|state| state.send(Command::Close));
        }
    }

    /// Enters the end. The first end stays, but for a close or the runtime's end, which also take away the link.
    /// Returns whether this one was entered.
    pub(crate) fn end(&self, end: End) -> bool {
        self.change(|state| {
            let is_final = matches!(end, End::Closed | End::RuntimeShutdown);
            let entered = match state.end {
                None => true,
                Some(End::Closed | End::RuntimeShutdown) => false,
                Some(End::Finished | End::GaveUp { .. }) => is_final,
            };
            if entered {
                if is_final {
                    self.broken.store(u64::MAX, Ordering::Release);
                }
                state.end(end);
            }
            entered
        })
    }

    /// Why there will be no further link, if that is so.
    pub(crate) fn ended(&self) -> Option<End> {
        self.lock().end
    }

    /// Whether the program, or the runtime, has ended the connection: then there is nothing to tell but that.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.ended(), Some(End::Closed | End::RuntimeShutdown))
    }

    /// The error of an end.
    pub(crate) fn end_error(&self, end: End) -> Error {
        match end {
            End::Closed | End::Finished => Error::ClosedConnection,
            End::GaveUp { attempts } => Error::GaveUp { address: self.address.clone(), attempts },
            End::RuntimeShutdown => Error::RuntimeShutdown,
        }
    }

    /// The actor enters (or leaves) code that can take any time.
    pub(crate) fn set_actor_detached(&self, away: bool) {
        self.actor_away.store(away, Ordering::SeqCst);
        if away {
            self.actor_left.notify_waiters();
        }
    }

    /// Waits until the actor has ended, or at least can do nothing but the program's own code before it ends.
    pub(crate) async fn actor_gone(&self) {
        self.actor_away_and(|| true).await;
    }

    /// Waits until there will be no link any more, and the actor is gone.
    pub(crate) async fn over(&self) {
        self.actor_away_and(|| self.ended().is_some()).await;
    }

    async fn actor_away_and(&self, is_it: impl Fn() -> bool) {
        loop {
            let mut left = std::pin::pin!(self.actor_left.notified());
            left.as_mut().enable();
            if self.actor_away.load(Ordering::SeqCst) && is_it() {
                return;
            }
            left.await;
        }
    }

    // ===== the lock =====

    fn lock(&self) -> MutexGuard<'_, Record<S>> {
        // Nothing panics while the lock is held; a poisoned one would still hold a sound state.
        self.state.lock()
    }

    /// Changes the state under the lock; afterwards wakes whoever is concerned and drops what is not needed any more.
    fn change<T>(&self, change: impl FnOnce(&mut Record<S>) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let (wakers, actor, _discarded) = state.take_aftermath();
        drop(state);
        wakers.into_iter().flatten().chain(actor).for_each(wake);
        result
    }
}
