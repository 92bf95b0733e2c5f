//! The state that the handles of a connection and its actor share.
//!
//! It records which links there have been, which of them are broken and why, and whether another one will follow. A
//! break is recorded here first and the actor's command is sent second. So no handle takes a link for live after an
//! error on it has been reported.
//!
//! On a live link a handle asks only [`ConnState::is_live`], which is one atomic load. Everything else is behind a
//! lock, which is taken only when something has happened or when a handle begins to wait.
//!
//! # Why no wake-up is lost
//!
//! A handle that is about to wait stores its waker under the lock. A change collects the wakers under the same lock. So
//! either the change finds the waker and wakes it, or the handle stores its waker after the change. In the second
//! case the handle looks again before it waits. A waker stays stored until another task's waker replaces it: a handle
//! that waits again and again in one task stores it once.
//!
//! # Why the lock is never held for long
//!
//! Only code of this crate runs under it. Wakers are woken, and wakers, streams and their errors dropped, after it is
//! released.
//!
//! # Lock order
//!
//! A holder of this lock takes no other, except that of the [`StatusCell`], which is the last one. The locks that may be
//! held before are the writer's state of a `SharedConn`, and those of `Sessions` and `blocking` around a half. A lock
//! around a stream that is not a socket is never held together with this one.
//!
//! # Two places to wait
//!
//! A read or write that waits stores its waker here. A task that waits for a status (a [`StatusWatch`], `connected`,
//! `close`) waits at the [`StatusCell`]. Each change of this state also sets the status there, so the two never differ.
//!
//! Next: [`inner`], the part behind the lock; then [`ending`], the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::claimant::{Claimant, Direction};
pub(crate) use self::ending::End;
pub(crate) use self::inner::Command;
use self::inner::ConnStateInner;
use crate::fault::{Cause, Fault};
use crate::link::{Link, Socket, StreamRef};
use crate::stats::StatsSource;
use crate::status::StatusCell;
use crate::sync::modelled::{AtomicU64, Mutex, MutexGuard};
use crate::{ConnStats, Error, Op, Status, StatusWatch};

mod claimant;
mod deferred;
mod ending;
mod figures;
mod inner;

/// The shared state of one connection.
pub(crate) struct ConnState<S> {
    /// The name and the address as the program gave them, for errors and logs.
    pub(crate) address: String,
    /// The newest generation that is known to be broken; `u64::MAX` once no link may be used any more.
    broken: AtomicU64,
    /// Everything that needs the lock.
    inner: Mutex<ConnStateInner<S>>,
    /// The status, and the tasks that wait for it. Set under the lock of `inner`.
    status: Arc<StatusCell>,
}

/// What a handle without a live link does next.
pub(crate) enum NextStep<S> {
    /// Report this break to the caller. A reader first reads what had arrived on the link, if that is still there.
    Report(Arc<Fault>, Option<Link<S>>),
    /// Go on with this link.
    Use(Link<S>),
    /// Report that the connection has ended.
    Ended(End),
    /// Wait; the waker is stored.
    Wait,
    /// Wait until the live link has been up for the settle time; the waker is stored.
    Settle,
}

impl<S> ConnState<S> {
    /// The state of a connection whose first link is not up yet.
    pub(crate) fn new(address: String, stable_after: Duration, settle_time: Duration) -> Self {
        Self {
            address,
            broken: AtomicU64::new(0),
            inner: Mutex::new(ConnStateInner::new(stable_after, settle_time)),
            status: Arc::new(StatusCell::new()),
        }
    }

    // ===== status =====

    /// Whether the link may be used, as far as this machine knows. One atomic load.
    #[inline]
    pub(crate) fn is_live(&self, generation: u64) -> bool {
        self.broken.load(Ordering::Acquire) < generation
    }

    /// The number of the newest link, 0 before the first.
    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// The status at this moment.
    pub(crate) fn status(&self) -> Status {
        self.status.get()
    }

    /// A watch on the status for the program.
    pub(crate) fn watch_status(&self) -> StatusWatch {
        StatusWatch::new(Arc::clone(&self.status))
    }

    /// A dial begins.
    pub(crate) fn dial_begins(&self) {
        self.lock().figures.dial_begins();
    }

    /// A dial has failed, or a link broke.
    pub(crate) fn note_failure(&self, error: &Arc<Error>) {
        let _before = self.lock().figures.failed(error);
    }

    /// Waits until a link is up.
    pub(crate) async fn connected(&self) -> Result<(), Error> {
        let connected = self.status.wait_until(|status| match status {
            Status::Connected { .. } => Some(Ok(())),
            _ => self.ended().map(|end| Err(self.end_error(end))),
        });
        connected.await
    }

    /// Whether the live link must not be used for jobs yet, as the link before it was short.
    pub(crate) fn has_to_settle(&self, now: Instant) -> bool {
        self.lock().has_to_settle(now)
    }

    /// The newest broken link that jobs could use, 0 if there is none.
    pub(crate) fn newest_settled(&self) -> u64 {
        self.lock().newest_settled
    }

    // ===== breaks =====

    /// Records a break and sends the actor the command to redial. Returns the recorded break, or the end of the
    /// connection that took the link away.
    ///
    /// If this link's break is recorded already, `cause` is not called and nothing changes.
    pub(crate) fn record_break(
        &self,
        generation: u64,
        op: Op,
        cause: impl FnOnce() -> Cause,
    ) -> Result<Arc<Fault>, End> {
        self.change(|inner| {
            if !self.is_live(generation) {
                return match inner.end {
                    Some(end) if end.is_final() => Err(end),
                    _ => Ok(inner.fault(generation, op)),
                };
            }
            // `cause` may take the socket's error. Under the lock, no handle can see a socket whose error was taken and
            // no recorded break.
            let fault = self.break_newest(inner, op, cause());
            inner.send(Command::Redial(Arc::clone(&fault))); // rule: break-reaches-the-actor
            Ok(fault)
        })
    }

    /// Records a break that the actor itself has noticed. `None`: it is recorded already, and the command is queued.
    ///
    /// `cause` gets whether the program has shut the link down.
    pub(crate) fn record_break_by_actor(
        &self,
        generation: u64,
        cause: impl FnOnce(bool) -> Cause,
    ) -> Option<Arc<Fault>> {
        self.change(|inner| {
            let is_live = self.is_live(generation);
            is_live.then(|| {
                let cause = cause(inner.is_shutting_down);
                self.break_newest(inner, Op::Read, cause)
            })
        })
    }

    /// Breaks this link on purpose. Does nothing unless it is the live one.
    pub(crate) fn break_link(&self, generation: u64) {
        self.change(|inner| {
            // rule: break-link-means-one-link
            if generation == inner.generation {
                self.break_live(inner);
            }
        });
    }

    /// Breaks the live link on purpose if it is `used`, the link of a handle that gives up what it has under way.
    ///
    /// Returns the newest generation that is broken now. That handle need not report it or any break before it. A live
    /// link that the handle has not used stays: nothing was read or written on it.
    pub(crate) fn abandon(&self, used: u64) -> u64 {
        self.change(|inner| {
            // rule: abandon-breaks-the-link-in-use
            if used == inner.generation {
                self.break_live(inner);
            }
            inner.generation - u64::from(self.is_live(inner.generation)) // rule: abandon-spares-a-live-link
        })
    }

    /// Asks the actor to cut a delay short. Does nothing while a link is up and after the end.
    pub(crate) fn dial_now(&self) {
        self.change(|inner| {
            // rule: dial-now-without-a-link
            if inner.end.is_none() && !self.is_live(inner.generation) {
                inner.send(Command::DialNow);
            }
        });
    }

    /// The actor's next command. Pending if there is none; the next one wakes the actor.
    pub(crate) fn poll_command(&self, cx: &Context<'_>) -> Poll<Command> {
        let (command, _replaced) = self.change(|inner| inner.next_command(cx.waker()));
        command.map_or(Poll::Pending, Poll::Ready)
    }

    /// The oldest remembered break of a link after `last_reported`.
    pub(crate) fn oldest_unreported(&self, last_reported: u64) -> Option<Arc<Fault>> {
        self.lock().oldest_unreported(last_reported)
    }

    /// The break of this link. If it is not remembered any more, one with an unspecific cause.
    pub(crate) fn fault(&self, generation: u64, op: Op) -> Arc<Fault> {
        self.lock().fault(generation, op)
    }

    /// Breaks the newest link on purpose, if it is live, and sends the actor the command to redial.
    fn break_live(&self, inner: &mut ConnStateInner<S>) {
        // rule: broken-link-is-not-broken-again
        if self.is_live(inner.generation) {
            let fault = self.break_newest(inner, Op::Read, Cause::Requested);
            inner.send(Command::Redial(fault)); // rule: break-link-reaches-the-actor
        }
    }

    /// Marks the newest link as broken and records why.
    fn break_newest(&self, inner: &mut ConnStateInner<S>, op: Op, cause: Cause) -> Arc<Fault> {
        self.broken.store(inner.generation, Ordering::Release);
        inner.break_link(op, cause)
    }

    // ===== links =====

    /// Gives a new stream to the handles. Returns its socket for the actor to watch, if it is one.
    ///
    /// If the connection was closed meanwhile, the stream is dropped.
    pub(crate) fn hand_over(&self, generation: u64, stream: S) -> Option<Socket>
    where
        S: 'static,
    {
        let stream = StreamRef::new(stream);
        let (socket, _unused) = self.change(|inner| {
            if inner.end.is_some() {
                return (None, Some(stream));
            }
            debug_assert!(inner.generation < generation, "link {generation} must not replace {}", inner.generation);
            let socket = stream.socket().cloned();
            inner.begin_link(generation, stream);
            (socket, None)
        });
        socket
    }

    /// What a handle does next that has reported all breaks up to `last_reported`. Stores the waker if it has to wait.
    pub(crate) fn next_step(&self, last_reported: u64, claimant: Claimant, waker: &Waker) -> NextStep<S> {
        let (step, _replaced) = self.change(|inner| {
            // After a close there is nothing left to report or to read.
            if let Some(end) = inner.end.filter(|end| end.is_final()) {
                return (NextStep::Ended(end), None);
            }
            if let Some(fault) = inner.oldest_unreported(last_reported) {
                let leftover = inner.take_leftover(claimant, fault.generation);
                return (NextStep::Report(fault, leftover), None);
            }
            if let Some(end) = inner.end {
                return (NextStep::Ended(end), None);
            }
            if claimant.settles.is_some_and(|now| inner.has_to_settle(now)) {
                return (NextStep::Settle, inner.register(claimant.direction, waker));
            }
            match inner.take(claimant) {
                Some(link) => (NextStep::Use(link), None),
                // rule: wait-for-a-link-stores-its-waker
                None => (NextStep::Wait, inner.register(claimant.direction, waker)),
            }
        });
        step
    }

    /// The reading handle skips the breaks up to `last_reported` and what is left to read on their links.
    pub(crate) fn skip_breaks(&self, last_reported: u64) {
        self.change(|inner| inner.skip_breaks(last_reported));
    }

    /// The reading handle gives back the link that it has taken, and reads later or never.
    ///
    /// Until its first read, a broken link is kept for it only until the next link is up.
    pub(crate) fn read_later(&self, link: Option<Link<S>>) {
        self.change(|inner| inner.read_later(link, self.is_live(inner.generation)));
    }

    /// The live link, for a handle that has reported every break. Does not wait for one.
    pub(crate) fn take_live(&self, last_reported: u64, claimant: Claimant) -> Option<Link<S>> {
        self.change(|inner| match inner.oldest_unreported(last_reported) {
            Some(_) => None,
            None => inner.take(claimant),
        })
    }

    /// Another reference to the live link, for its shutdown. The handles can still take the link.
    pub(crate) fn share_live(&self) -> Option<Link<S>> {
        self.change(ConnStateInner::share)
    }

    /// Turns a link that two halves shared back into one that a whole `Conn` owns.
    pub(crate) fn unshare(&self, link: Link<S>) -> Link<S> {
        self.change(|inner| {
            if inner.generation == link.generation && link.stream.socket().is_none() {
                // The reference that was kept for the other half.
                inner.link = None;
            }
        });
        link.unshare()
    }

    /// Stores a waker. The caller must then check again whether it still has to wait.
    pub(crate) fn register(&self, direction: Direction, waker: &Waker) {
        let _replaced = self.change(|inner| inner.register(direction, waker));
    }

    /// Removes a direction whose handle was dropped.
    pub(crate) fn unregister(&self, direction: Direction) {
        let _waker = self.change(|inner| inner.unregister(direction));
    }

    // ===== the lock =====

    /// Locks the state to look at it. Changes go through [`change`](Self::change).
    fn lock(&self) -> MutexGuard<'_, ConnStateInner<S>> {
        self.inner.lock()
    }

    /// Changes the state under the lock. Then, without the lock, wakes the tasks and drops the links concerned.
    fn change<T>(&self, change: impl FnOnce(&mut ConnStateInner<S>) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner);
        let status = inner.status(self.is_live(inner.generation));
        // rule: status-changes-before-the-wake-up
        let has_changed = std::mem::replace(&mut inner.shown, status) != status;
        if has_changed {
            self.status.set_status(status);
        }
        let deferred = inner.take_deferred();
        drop(inner);
        deferred.run();
        if has_changed {
            self.status.wake_all();
        }
        result
    }
}

impl<S> StatsSource for ConnState<S> {
    fn stats(&self) -> ConnStats {
        let inner = self.lock();
        inner.stats(self.is_live(inner.generation))
    }
}
