//! A handle: the link it uses, and the breaks it has reported.
//!
//! Next: [`poll`](super::poll), its operations on a live link.

use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use super::context::ConnContext;
use super::direction::DirectionState;
use crate::Op;
use crate::conn_state::{Claimant, ConnState, Direction, End};
use crate::fault::Fault;
use crate::link::Link;

/// A link that a handle has given up.
///
/// Dropping it may run code of the program (the stream's `Drop`), so drop it where no lock is held.
pub(crate) type Released<S> = Option<Link<S>>;

/// What a whole `Conn` or one of its halves consists of, apart from its [`DirectionState`](super::DirectionState)s.
///
/// A handle keeps two promises. It uses no link that is not newer than `last_reported`. It takes no link while an older
/// break is unreported. So its caller learns of every break before the first byte of the next link.
pub(super) struct Handle<S> {
    /// Keeps the connection open.
    pub(super) context: Arc<ConnContext<S>>,
    /// The same as in `context`, one pointer nearer.
    pub(super) conn_state: Arc<ConnState<S>>,
    /// The link in use; it may be broken already. A cell, so that `get_ref(&self)` can fetch the link.
    pub(super) link: OnceLock<Link<S>>,
    /// The newest generation whose break this handle has reported.
    pub(super) last_reported: u64,
    /// Whether it is one of two halves, which share the link.
    pub(super) is_half: bool,
    /// The writing side was shut down through this handle.
    pub(super) is_shut_down: bool,
}

impl<S> Handle<S> {
    /// The handle of a whole connection, without a link.
    pub(super) fn new(context: Arc<ConnContext<S>>) -> Self {
        let conn_state = Arc::clone(&context.conn_state);
        Self { context, conn_state, link: OnceLock::new(), last_reported: 0, is_half: false, is_shut_down: false }
    }

    // ===== the link =====

    /// Takes the live link, if there is one. Then this handle can read what arrives on it, even if it breaks before the
    /// first operation.
    pub(super) fn take_link(&mut self, direction: Direction) {
        if self.link.get().is_none() {
            let link = self.conn_state.take_live(self.last_reported, self.claimant(direction));
            self.link = cell(link);
        }
    }

    /// Gives the link back until the first read: a connection that nobody reads from keeps no socket for a reader.
    pub(super) fn read_later(&mut self) {
        self.conn_state.read_later(self.link.take());
    }

    /// This handle, as it asks the [`ConnState`] for a link.
    pub(super) fn claimant(&self, direction: Direction) -> Claimant {
        Claimant { direction, is_half: self.is_half, settles: None }
    }

    /// Shuts the writing side down without waiting: what a dropped half does.
    pub(super) fn shut_down_now(&mut self) {
        self.is_shut_down = true;
        if let Some((generation, None)) = self.conn_state.begin_shutdown() {
            self.shut_down_stream(generation);
        }
    }

    /// Shuts down the writing side of a live stream that is not a socket: the one that this handle has, or the one that
    /// it never took. What the peer still sends can be read.
    fn shut_down_stream(&mut self, generation: u64) {
        let last = match self.link.take() {
            Some(link) if link.generation == generation => {
                let (kept, given) = link.share();
                self.link = OnceLock::from(kept);
                Some(given)
            }
            other => {
                self.link = cell(other);
                self.conn_state.share_live()
            }
        };
        if let Some(link) = last {
            self.context.shut_down(link.stream);
        }
    }

    // ===== breaks =====

    /// The number of the link that this handle uses or used last, 0 if it has none.
    pub(super) fn used(&self) -> u64 {
        self.link.get().map_or(0, |link| link.generation)
    }

    /// Gives up the link that this handle uses, with the operations under way; see `Conn::abandon`.
    pub(super) fn abandon(&mut self, dir: &mut DirectionState) {
        let newest_broken = self.conn_state.abandon(self.used());
        let _given_up = self.skip_breaks(dir, newest_broken);
    }

    /// Counts the breaks of the links up to `generation` as reported, and gives those links up.
    pub(super) fn skip_breaks(&mut self, dir: &mut DirectionState, generation: u64) -> Released<S> {
        dir.clear_link(); // rule: abandon-ends-the-operation
        self.last_reported = self.last_reported.max(generation); // rule: abandoned-break-is-not-reported
        if dir.direction == Direction::Read {
            self.conn_state.skip_breaks(self.last_reported); // rule: abandon-discards-the-leftover
        }
        if self.used() <= self.last_reported { self.link.take() } else { None } // rule: abandon-releases-the-stream
    }

    /// The first break after `last_reported` that this handle has reported, for another user of the handle.
    ///
    /// A clone of a `SharedConn` reads through a handle that all clones share. If another clone has reported breaks
    /// through it, this clone still has to report them one by one. A break that is not remembered any more is
    /// skipped.
    pub(super) fn fault_after(&self, last_reported: u64, op: Op) -> Arc<Fault> {
        let oldest = self.conn_state.oldest_unreported(last_reported);
        let remembered = oldest.filter(|fault| fault.generation <= self.last_reported);
        remembered.unwrap_or_else(|| self.conn_state.fault(self.last_reported, op))
    }

    /// What a read returns for this break.
    ///
    /// The end that the program has asked for by a shutdown is no error, even if the peer closed just before it.
    pub(super) fn read_outcome(&self, fault: &Fault, close_as_error: bool) -> io::Result<()> {
        let is_finished = self.conn_state.ended() == Some(End::Finished);
        let is_end = is_finished && fault.generation == self.conn_state.generation();
        // rule: close-after-shutdown-is-no-error
        fault.read_outcome(&self.conn_state.address, close_as_error && !is_end)
    }

    // ===== splitting =====

    /// Divides the handle of a whole connection into the handles of its halves.
    ///
    /// Takes the live link first, so that each half has it and can report its break.
    pub(super) fn split(mut self) -> (Self, Self) {
        self.take_link(Direction::Read);
        let Self { context, conn_state, link, last_reported, is_shut_down, .. } = self;
        let half = |link: Option<Link<S>>| Self {
            context: Arc::clone(&context),
            conn_state: Arc::clone(&conn_state),
            link: cell(link),
            last_reported,
            is_half: true,
            is_shut_down,
        };
        match link.into_inner() {
            Some(link) => {
                let (one, other) = link.share();
                (half(Some(one)), half(Some(other)))
            }
            None => (half(None), half(None)),
        }
    }

    /// Joins the handles of two halves. The whole has reported what either half has.
    ///
    /// It keeps the newer link of the two, unless a half has reported that link's break.
    pub(super) fn join(self, other: Self) -> Self {
        let last_reported = self.last_reported.max(other.last_reported);
        let newest = match (self.link.into_inner(), other.link.into_inner()) {
            (Some(a), Some(b)) => Some(if a.generation < b.generation { b } else { a }),
            (a, b) => a.or(b),
        };
        let link = newest.filter(|link| link.generation > last_reported).map(|link| self.conn_state.unshare(link));
        Self {
            context: self.context,
            conn_state: self.conn_state,
            link: cell(link),
            last_reported,
            is_half: false,
            is_shut_down: self.is_shut_down || other.is_shut_down,
        }
    }

    /// Moves everything out of a handle whose owner implements `Drop`.
    pub(super) fn detach(&mut self) -> Self {
        Self {
            context: Arc::clone(&self.context),
            conn_state: Arc::clone(&self.conn_state),
            link: std::mem::take(&mut self.link),
            last_reported: self.last_reported,
            is_half: self.is_half,
            is_shut_down: self.is_shut_down,
        }
    }

    /// Whether both are handles of one connection.
    pub(super) fn is_same_connection(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.conn_state, &other.conn_state)
    }

    /// Formats a handle under the name of its type.
    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("address", &self.conn_state.address)
            .field("status", &self.conn_state.status())
            .finish_non_exhaustive()
    }
}

impl<S: 'static> Handle<S> {
    /// The stream of the live link, if there is one and no break has to be reported before it.
    ///
    /// Fetches the link if the handle has none yet, which is why the link is in a cell.
    pub(super) fn get_ref(&self, direction: Direction) -> Option<&S> {
        if self.link.get().is_none() {
            if let Some(link) = self.conn_state.take_live(self.last_reported, self.claimant(direction)) {
                // If another thread was faster, this is a second reference to the same socket.
                let _ = self.link.set(link);
            }
        }
        let link = self.link.get().filter(|link| self.conn_state.is_live(link.generation))?;
        link.stream.get_ref()
    }
}

/// A cell with this content, or an empty one.
fn cell<T>(content: Option<T>) -> OnceLock<T> {
    content.map_or_else(OnceLock::new, OnceLock::from)
}
