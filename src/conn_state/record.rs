//! What stands behind the conn_state's lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use tokio::time::Instant;

use crate::byte_count::ByteCount;
use crate::fault::{Cause, Fault};
use crate::link::{Link, Parting, Socket, StreamRef};
use crate::{Op, Status};

/// How many breaks are remembered for a handle that has not been told of them yet. When a handle has slept through
/// more, it is told of the oldest that is remembered and goes on from there.
const REMEMBERED_FAULTS: usize = 16;

pub(super) struct Record<S> {
    /// The newest link's number, 0 before there is one.
    pub(super) generation: u64,
    /// When it came up.
    since: Instant,
    /// The live link, for the handles that have not taken it yet.
    pub(super) link: Option<Link<S>>,
    /// What has passed over the newest link.
    byte_count: Arc<ByteCount>,
    /// The newest broken link, if its bytes may not have been read: the reader never took it.
    leftover: Option<Link<S>>,
    /// The generation that the reading handle took last.
    read_taken: u64,
    faults: VecDeque<Arc<Fault>>,
    /// Set by `shutdown()`: when this link ends, there will not be another.
    pub(super) finishing: bool,
    /// The actor's queue, of a job of each kind at most.
    jobs: VecDeque<Command>,
    /// The actor's waker, while it waits for a job.
    actor: Option<Waker>,
    pub(super) end: Option<End>,
    wakers: [Option<Waker>; 2],
    /// Whether those who wait have to look again.
    is_news: bool,
    /// What has to be dropped when the lock is released.
    discarded: Vec<Link<S>>,
}

/// What a handle asks of the actor.
#[derive(Debug)]
pub(crate) enum Command {
    /// A link broke.
    Redial(Arc<Fault>),
    /// Dial now.
    Reconnect,
    /// End.
    Close,
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

/// Who asks for a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant {
    pub(crate) direction: Direction,
    /// Whether the handle is one of two halves.
    pub(crate) is_half: bool,
}

impl Claimant {
    /// Whether the bytes of a link that this handle takes are read by it.
    fn reads(self) -> bool {
        self.direction == Direction::Read || !self.is_half
    }
}

impl<S> Record<S> {
    pub(super) fn new() -> Self {
        Self {
            generation: 0,
            since: Instant::now(),
            link: None,
            byte_count: Arc::default(),
            leftover: None,
            read_taken: 0,
            faults: VecDeque::new(),
            finishing: false,
            jobs: VecDeque::new(),
            actor: None,
            end: None,
            wakers: [None, None],
            is_news: false,
            discarded: Vec::new(),
        }
    }

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

    pub(super) fn begin_link(&mut self, generation: u64, stream: StreamRef<S>) {
        self.generation = generation;
        self.since = Instant::now();
        self.byte_count = Arc::default();
        self.link = Some(Link { generation, stream, byte_count: Arc::clone(&self.byte_count) });
        self.is_news = true;
    }

    /// Ends the newest link.
    pub(super) fn break_link(&mut self, op: Op, cause: Cause) -> Arc<Fault> {
        let generation = self.generation;
        let (link, unacknowledged) = self.hang_up(matches!(cause, Cause::Silent(_)));
        let fault = Arc::new(Fault {
            generation,
            op,
            cause,
            lived: self.since.elapsed(),
            byte_count: Arc::clone(&self.byte_count),
            unacknowledged,
            is_last: self.finishing,
        });
        if self.faults.len() == REMEMBERED_FAULTS {
            self.faults.pop_front();
        }
        self.faults.push_back(Arc::clone(&fault));
        self.discard_leftover();
        match link {
            Some(link) if self.read_taken < generation && link.stream.has_unread() => self.leftover = Some(link),
            link => self.discarded.extend(link),
        }
        if self.finishing {
            self.end = Some(End::Finished);
        }
        self.is_news = true;
        fault
    }

    pub(super) fn end(&mut self, end: End) {
        self.end = Some(end);
        if matches!(end, End::Closed | End::RuntimeShutdown) {
            let (link, _) = self.hang_up(false);
            self.discarded.extend(link);
            self.discard_leftover();
        }
        self.is_news = true;
    }

    /// The live link's socket.
    pub(super) fn socket(&self) -> Option<&Socket> {
        self.link.as_ref()?.stream.socket()
    }

    /// Ends the live link for the peer, and returns how many written bytes the peer's kernel has not acknowledged.
    fn hang_up(&mut self, is_peer_dead: bool) -> (Option<Link<S>>, Option<u64>) {
        let parting = match self.finishing {
            _ if is_peer_dead => Parting::Abort,
            true => Parting::AfterShutdown,
            false => Parting::InOrder,
        };
        let unacknowledged = self.socket().and_then(|socket| socket.hang_up(parting));
        (self.link.take(), unacknowledged)
    }

    fn discard_leftover(&mut self) {
        let leftover = self.leftover.take();
        self.discarded.extend(leftover);
    }

    /// The record of a break. When it is gone, one that says so little.
    pub(super) fn fault(&self, generation: u64, op: Op) -> Arc<Fault> {
        let fault = self.faults.iter().find(|fault| fault.generation == generation);
        fault.map_or_else(|| Arc::new(Fault::forgotten(generation, op)), Arc::clone)
    }

    /// The oldest remembered break of which a handle has not been told.
    pub(super) fn first_untold(&self, last_reported: u64) -> Option<Arc<Fault>> {
        self.faults.iter().find(|fault| fault.generation > last_reported).cloned()
    }

    /// The live link.
    pub(super) fn take(&mut self, claimant: Claimant) -> Option<Link<S>> {
        let is_owned = matches!(self.link, Some(Link { stream: StreamRef::Owned(_), .. }));
        let given = if is_owned && !claimant.is_half { self.link.take() } else { self.share() }?;
        if claimant.reads() {
            self.read_taken = self.read_taken.max(self.generation);
        }
        Some(given)
    }

    /// Another hold on the live link.
    pub(super) fn share(&mut self) -> Option<Link<S>> {
        let (kept, given) = self.link.take()?.share();
        self.link = Some(kept);
        Some(given)
    }

    /// A broken link that the reader never had in its hands.
    pub(super) fn take_leftover(&mut self, claimant: Claimant, generation: u64) -> Option<Link<S>> {
        if claimant.reads() { self.leftover.take_if(|link| link.generation == generation) } else { None }
    }

    /// Drops a broken link that the reader never had in its hands, and does not want. Whoever waits looks again.
    #[cfg(feature = "session")]
    pub(super) fn pass_over(&mut self, last_reported: u64) {
        self.is_news = true;
        if self.leftover.as_ref().is_some_and(|link| link.generation <= last_reported) {
            self.discard_leftover();
        }
    }

    /// Stores a waker and returns the one that it replaces, which must be dropped without the lock.
    pub(super) fn register(&mut self, direction: Direction, waker: &Waker) -> Option<Waker> {
        self.wakers[direction as usize].replace(waker.clone())
    }

    /// Forgets a direction whose handle is gone. The waker must be dropped without the lock.
    pub(super) fn retire(&mut self, direction: Direction) -> Option<Waker> {
        if direction == Direction::Read {
            self.read_taken = u64::MAX;
            self.discard_leftover();
        }
        self.wakers[direction as usize].take()
    }

    /// Queues a job for the actor. One that is there already need not come twice: a link breaks once, a close ends all,
    /// and one reconnect is as good as two.
    pub(super) fn send(&mut self, job: Command) {
        let is_there = |queued: &Command| std::mem::discriminant(queued) == std::mem::discriminant(&job);
        match self.jobs.iter().position(is_there) {
            Some(index) => self.jobs[index] = job,
            None => self.jobs.push_back(job),
        }
    }

    /// The next job. If there is none, the actor's waker is stored, and the one that it replaces returned.
    pub(super) fn next_job(&mut self, waker: &Waker) -> (Option<Command>, Option<Waker>) {
        match self.jobs.pop_front() {
            Some(job) => (Some(job), None),
            None => (None, self.actor.replace(waker.clone())),
        }
    }

    /// Whom to wake and what to drop, once the lock is released.
    pub(super) fn take_aftermath(&mut self) -> ([Option<Waker>; 2], Option<Waker>, Vec<Link<S>>) {
        let wakers = if std::mem::take(&mut self.is_news) { self.wakers.clone() } else { [None, None] };
        let actor = if self.jobs.is_empty() { None } else { self.actor.take() };
        (wakers, actor, std::mem::take(&mut self.discarded))
    }
}
