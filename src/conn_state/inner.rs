//! The part of the connection's state that is behind its lock.
//!
//! Its methods run under the lock, so they wake nothing, and drop no stream and no error. What they leave to do is in
//! [`Deferred`].
//!
//! Next: [`Fault`], the record of a break.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::claimant::{Claimant, Direction};
use super::deferred::Deferred;
use super::ending::End;
use super::figures::Figures;
use crate::byte_count::ByteCount;
use crate::fault::{Cause, Fault};
use crate::link::{Disconnect, Link, Socket, StreamRef};
use crate::{ConnStats, Op, Status};

/// How many breaks are remembered for handles that have not reported them yet.
///
/// A handle that missed more reports the oldest remembered break and goes on from there.
const REMEMBERED_FAULTS: usize = 16;

/// What [`ConnState`](super::ConnState) keeps behind its lock.
pub(super) struct ConnStateInner<S> {
    /// The newest link's number, 0 before there is one.
    pub(super) generation: u64,
    /// The status that the [`StatusCell`](crate::status::StatusCell) shows.
    pub(super) shown: Status,
    /// When the newest link came up.
    since: Instant,
    /// How long a link must live to be stable.
    stable_after: Duration,
    /// How long a link must live after a short one before jobs use it.
    settle_time: Duration,
    /// The live link, for the handles that have not taken it yet.
    pub(super) link: Option<Link<S>>,
    /// The bytes that have passed over the newest link.
    byte_count: Arc<ByteCount>,
    /// What has happened so far.
    pub(super) figures: Figures,
    /// The newest broken link, if the reader never took it and may still read from it.
    leftover: Option<Link<S>>,
    /// The newest generation that the reading handle took; `u64::MAX` once that handle was dropped.
    read_taken: u64,
    /// Whether the reading handle waits for the program's first read, which may never come.
    reads_later: bool,
    /// The newest breaks, in ascending order.
    faults: VecDeque<Arc<Fault>>,
    /// The newest broken link that was not short.
    newest_not_short: u64,
    /// The newest broken link that jobs could use.
    pub(super) newest_settled: u64,
    /// Set by `shutdown()`: the live link is the last one.
    pub(super) is_shutting_down: bool,
    /// The actor's queue, with at most one command of each kind.
    commands: VecDeque<Command>,
    /// The actor's waker, while it waits for a command.
    actor: Option<Waker>,
    /// Why there will be no further link, if that is so.
    pub(super) end: Option<End>,
    /// The wakers of the handles, one for each [`Direction`].
    wakers: [Option<Waker>; 2],
    /// Whether the waiting handles have to look again.
    wake_handles: bool,
    /// Links to drop once the lock is released.
    discarded: Vec<Link<S>>,
    /// The break that is not remembered any more, to drop once the lock is released.
    forgotten: Option<Arc<Fault>>,
}

/// What a handle asks of the actor.
#[derive(Debug)]
pub(crate) enum Command {
    /// A link broke: dial the next one.
    Redial(Arc<Fault>),
    /// Cut the delay before the next dial short.
    DialNow,
    /// End.
    Close,
}

impl<S> ConnStateInner<S> {
    /// No link yet.
    pub(super) fn new(stable_after: Duration, settle_time: Duration) -> Self {
        Self {
            generation: 0,
            shown: Status::Connecting,
            since: Instant::now(),
            stable_after,
            settle_time,
            link: None,
            byte_count: Arc::default(),
            figures: Figures::new(),
            leftover: None,
            read_taken: 0,
            reads_later: false,
            faults: VecDeque::new(),
            newest_not_short: 0,
            newest_settled: 0,
            is_shutting_down: false,
            commands: VecDeque::new(),
            actor: None,
            end: None,
            wakers: [None, None],
            wake_handles: false,
            discarded: Vec::new(),
            forgotten: None,
        }
    }

    /// The status, given whether the newest link is up.
    pub(super) fn status(&self, is_up: bool) -> Status {
        let generation = self.generation;
        match self.end {
            Some(End::GaveUp { .. }) => Status::GaveUp,
            Some(End::Closed | End::Finished | End::RuntimeShutdown) => Status::Closed,
            None if is_up => Status::Connected { generation },
            None if generation == 0 => Status::Connecting,
            None => Status::Disconnected { generation },
        }
    }

    // ===== links =====

    /// Makes a new stream the live link.
    pub(super) fn begin_link(&mut self, generation: u64, stream: StreamRef<S>) {
        self.generation = generation;
        self.since = Instant::now();
        if generation > 1 {
            self.figures.link_replaced(&self.byte_count);
        }
        self.byte_count = Arc::default();
        self.link = Some(Link { generation, stream, byte_count: Arc::clone(&self.byte_count) });
        if self.reads_later {
            self.discard_leftover();
        }
        self.wake_handles = true; // rule: new-link-wakes-the-handles
    }

    /// Ends the newest link and remembers the break. If the reader never took the link and it may have unread bytes,
    /// it is kept for the reader; otherwise it is dropped.
    pub(super) fn break_link(&mut self, op: Op, cause: Cause) -> Arc<Fault> {
        let generation = self.generation;
        let (link, unacknowledged) = self.disconnect(matches!(cause, Cause::IdleTimeout(_)));
        let lived = self.since.elapsed();
        if !self.is_settling(lived) {
            self.newest_settled = generation;
        }
        let is_short = lived < self.stable_after && !matches!(cause, Cause::Requested); // rule: short-link
        if !is_short {
            self.newest_not_short = generation;
        }
        let fault = Arc::new(Fault {
            generation,
            op,
            cause,
            lived,
            is_short,
            byte_count: Arc::clone(&self.byte_count),
            unacknowledged,
            is_last: self.is_shutting_down, // rule: no-dial-after-a-shutdown
        });
        self.figures.link_broke(&fault);
        if self.faults.len() == REMEMBERED_FAULTS {
            self.forgotten = self.faults.pop_front();
        }
        self.faults.push_back(Arc::clone(&fault));
        self.discard_leftover();
        match link {
            Some(link) if self.read_taken < generation && link.stream.has_unread() => self.leftover = Some(link),
            link => self.discarded.extend(link),
        }
        if self.is_shutting_down {
            self.end = Some(End::Finished);
            self.figures.ends(Duration::ZERO);
        }
        self.wake_handles = true; // rule: break-wakes-the-handles
        fault
    }

    /// Records the end. A final one takes the links away. `is_up`: whether the newest link is up until now.
    pub(super) fn end(&mut self, end: End, is_up: bool) {
        self.end = Some(end);
        self.figures.ends(if is_up { self.since.elapsed() } else { Duration::ZERO });
        if end.is_final() {
            let (link, _) = self.disconnect(false);
            self.discarded.extend(link);
            self.discard_leftover();
        }
        self.wake_handles = true;
    }

    /// The figures so far.
    pub(super) fn stats(&self, is_up: bool) -> ConnStats {
        let up = is_up.then(|| self.since.elapsed());
        self.figures.stats(self.generation, up, &self.byte_count)
    }

    /// The live link's socket.
    pub(super) fn socket(&self) -> Option<&Socket> {
        self.link.as_ref()?.stream.socket()
    }

    /// Disconnects the live link. Returns it and how many written bytes the peer's kernel has not acknowledged.
    fn disconnect(&mut self, is_peer_dead: bool) -> (Option<Link<S>>, Option<u64>) {
        let how = match self.is_shutting_down {
            _ if is_peer_dead => Disconnect::Abort,
            true => Disconnect::AfterShutdown,
            false => Disconnect::Graceful,
        };
        let unacknowledged = self.socket().and_then(|socket| socket.disconnect(how));
        (self.link.take(), unacknowledged)
    }

    /// Drops the leftover once the lock is released.
    fn discard_leftover(&mut self) {
        let leftover = self.leftover.take();
        self.discarded.extend(leftover);
    }

    /// Takes the live link for a handle.
    ///
    /// A whole `Conn` gets a stream that is not a socket for itself. Any other handle gets one more reference, and
    /// the link stays here for the handles that have not taken it.
    pub(super) fn take(&mut self, claimant: Claimant) -> Option<Link<S>> {
        let is_owned = matches!(self.link, Some(Link { stream: StreamRef::Owned(_), .. }));
        let taken = if is_owned && !claimant.is_half { self.link.take() } else { self.share() }?;
        if claimant.reads() {
            self.read_taken = self.read_taken.max(self.generation);
            self.reads_later = false;
        }
        Some(taken)
    }

    /// The reading handle gives a link back until the program's first read.
    pub(super) fn read_later(&mut self, link: Option<Link<S>>, is_live: bool) {
        self.reads_later = true;
        let Some(link) = link else { return };
        let place = if is_live { &mut self.link } else { &mut self.leftover };
        if link.generation == self.generation && place.is_none() {
            *place = Some(link);
        } else {
            self.discarded.push(link);
        }
        self.read_taken = self.read_taken.min(self.generation.saturating_sub(1));
    }

    /// Whether jobs must not use the live link yet, as the link before it was short.
    pub(super) fn has_to_settle(&self, now: Instant) -> bool {
        // rule: jobs-wait-for-a-settled-link
        self.link.is_some() && self.is_settling(now.saturating_duration_since(self.since))
    }

    /// Whether jobs could not use the newest link when it had lived for this long.
    fn is_settling(&self, lived: Duration) -> bool {
        lived < self.settle_time && self.faults.back().is_some_and(|fault| fault.is_short)
    }

    /// Another reference to the live link.
    pub(super) fn share(&mut self) -> Option<Link<S>> {
        let (kept, given) = self.link.take()?.share();
        self.link = Some(kept);
        Some(given)
    }

    /// The broken link of this generation, if the reader never took it.
    pub(super) fn take_leftover(&mut self, claimant: Claimant, generation: u64) -> Option<Link<S>> {
        if !claimant.reads() {
            return None;
        }
        self.reads_later = false;
        self.leftover.take_if(|link| link.generation == generation)
    }

    // ===== breaks =====

    /// The break of this link, or a substitute if its record is gone.
    pub(super) fn fault(&self, generation: u64, op: Op) -> Arc<Fault> {
        let fault = self.faults.iter().find(|fault| fault.generation == generation);
        let is_short = generation > self.newest_not_short;
        fault.map_or_else(|| Arc::new(Fault::forgotten(generation, op, is_short)), Arc::clone)
    }

    /// The oldest remembered break of a link after `last_reported`.
    pub(super) fn oldest_unreported(&self, last_reported: u64) -> Option<Arc<Fault>> {
        self.faults.iter().find(|fault| fault.generation > last_reported).cloned() // rule: oldest-break-first
    }

    /// Drops the broken link up to `last_reported` that the reader never took. The waiting handles look again.
    pub(super) fn skip_breaks(&mut self, last_reported: u64) {
        self.wake_handles = true;
        if self.leftover.as_ref().is_some_and(|link| link.generation <= last_reported) {
            self.discard_leftover();
        }
    }

    // ===== wakers and commands =====

    /// Stores a waker. Returns the one that it replaces, which must be dropped without the lock.
    pub(super) fn register(&mut self, direction: Direction, waker: &Waker) -> Option<Waker> {
        self.wakers[direction as usize].replace(waker.clone()) // rule: one-waker-per-direction
    }

    /// Removes a direction whose handle was dropped. Returns its waker, which must be dropped without the lock.
    pub(super) fn unregister(&mut self, direction: Direction) -> Option<Waker> {
        if direction == Direction::Read {
            self.read_taken = u64::MAX;
            self.discard_leftover();
        }
        self.wakers[direction as usize].take()
    }

    /// Queues a command for the actor. It replaces one of the same kind: a link breaks once, a close ends everything,
    /// and a delay is cut short once.
    pub(super) fn send(&mut self, command: Command) {
        let is_same_kind = |queued: &Command| std::mem::discriminant(queued) == std::mem::discriminant(&command);
        match self.commands.iter().position(is_same_kind) {
            Some(index) => self.commands[index] = command,
            None => self.commands.push_back(command),
        }
    }

    /// The next command. If there is none, stores the actor's waker and returns the one that it replaces.
    pub(super) fn next_command(&mut self, waker: &Waker) -> (Option<Command>, Option<Waker>) {
        match self.commands.pop_front() {
            Some(command) => (Some(command), None),
            None => (None, self.actor.replace(waker.clone())), // rule: actor-stores-its-waker
        }
    }

    /// The tasks to wake and the links to drop, for the time after the lock.
    pub(super) fn take_deferred(&mut self) -> Deferred<S> {
        Deferred {
            // rule: wakers-stay-for-the-next-break
            handles: if std::mem::take(&mut self.wake_handles) { self.wakers.clone() } else { [None, None] },
            actor: if self.commands.is_empty() { None } else { self.actor.take() },
            _discarded: std::mem::take(&mut self.discarded),
            _forgotten: self.forgotten.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Weak, mpsc};
    use std::task::Context;
    use std::{error, fmt, io, thread};

    use super::*;
    use crate::conn_state::ConnState;

    /// An error of the program whose `Drop` looks at the connection.
    struct LooksBack(Weak<ConnState<()>>);

    impl fmt::Debug for LooksBack {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("LooksBack")
        }
    }

    impl fmt::Display for LooksBack {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it looks back")
        }
    }

    impl error::Error for LooksBack {}

    impl Drop for LooksBack {
        fn drop(&mut self) {
            self.0.upgrade().map(|conn_state| conn_state.status());
        }
    }

    #[test]
    fn error_of_a_forgotten_break_is_dropped_without_the_lock() {
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            let conn_state = Arc::new(ConnState::new("a:1".to_owned(), Duration::ZERO, Duration::ZERO));
            for generation in 1..=REMEMBERED_FAULTS as u64 + 1 {
                conn_state.hand_over(generation, ());
                let cause = || io::Error::other(LooksBack(Arc::downgrade(&conn_state))).into();
                conn_state.record_break(generation, Op::Read, cause).unwrap();
                // The actor has taken its command, and with it another reference to the break.
                let _ = conn_state.poll_command(&Context::from_waker(Waker::noop()));
            }
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(10)).expect("the drop of the oldest error does not wait for the lock");
    }
}
