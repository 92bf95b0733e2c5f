//! A holder's place in the connection: the link it uses, and what its caller has been told.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::context::ConnContext;
use crate::Op;
use crate::conn_state::{Claimant, ConnState, Direction};
use crate::fault::Fault;
use crate::link::Link;

/// A handle's place in the connection.
pub(super) struct Handle<S> {
    pub(super) context: Arc<ConnContext<S>>,
    pub(super) conn_state: Arc<ConnState<S>>,
    /// The link in use. It can be broken already; [`Handle::live`] tells. A cell, so that looking at the stream
    /// through a shared reference can fetch it.
    pub(super) link: OnceLock<Link<S>>,
    /// The newest generation whose break the caller has been told of.
    pub(super) last_reported: u64,
    is_half: bool,
    /// The writing side has been shut down through this handle.
    pub(super) is_finished: bool,
}

impl<S> Handle<S> {
    pub(super) fn new(context: Arc<ConnContext<S>>) -> Self {
        let conn_state = Arc::clone(&context.conn_state);
        Self { context, conn_state, link: OnceLock::new(), last_reported: 0, is_half: false, is_finished: false }
    }

    /// Takes the live link in hand, so that what arrives on it is this handle's to read even if it breaks before the
    /// first operation.
    pub(super) fn take_link(&mut self, direction: Direction) {
        if self.link.get().is_none() {
            let link = self.conn_state.take_live(self.last_reported, self.claimant(direction));
            self.link = cell(link);
        }
    }

    /// Divides a whole handle in two.
    pub(super) fn split(mut self) -> (Self, Self) {
        self.take_link(Direction::Read);
        let Self { context, conn_state, link, last_reported, is_finished, .. } = self;
        let half = |link: Option<Link<S>>| Self {
            context: Arc::clone(&context),
            conn_state: Arc::clone(&conn_state),
            link: cell(link),
            last_reported,
            is_half: true,
            is_finished,
        };
        match link.into_inner() {
            Some(link) => {
                let (one, other) = link.share();
                (half(Some(one)), half(Some(other)))
            }
            None => (half(None), half(None)),
        }
    }

    /// Makes one handle of two halves: what one of them was told, the whole was.
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
            is_finished: self.is_finished || other.is_finished,
        }
    }

    /// Takes everything out of a handle that is about to be dropped.
    pub(super) fn detach(&mut self) -> Self {
        Self {
            context: Arc::clone(&self.context),
            conn_state: Arc::clone(&self.conn_state),
            link: std::mem::take(&mut self.link),
            last_reported: self.last_reported,
            is_half: self.is_half,
            is_finished: self.is_finished,
        }
    }

    pub(super) fn is_same_connection(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.conn_state, &other.conn_state)
    }

    /// Ends the conversation without waiting: what a dropped half does.
    pub(super) fn finish_now(&mut self) {
        self.is_finished = true;
        if let Some((generation, None)) = self.conn_state.finish() {
            self.shut_other(generation);
        }
    }

    /// Shuts down the writing side of a stream that is not a socket: the one in this handle's hands, or the live one
    /// that it never took. What the peer still sends on it can be read.
    fn shut_other(&mut self, generation: u64) {
        let last = match self.link.take() {
            Some(link) if link.generation == generation => {
                let (kept, given) = link.share();
                self.link = OnceLock::from(kept);
                Some(given)
            }
            other => {
                self.link = cell(other);
                self.conn_state.share_last()
            }
        };
        if let Some(link) = last {
            self.context.shut(link.stream);
        }
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("address", &self.conn_state.address)
            .field("status", &self.conn_state.status())
            .finish_non_exhaustive()
    }

    /// The first break after `told`, of which this handle was told already.
    pub(super) fn told_after(&self, last_reported: u64, op: Op) -> Arc<Fault> {
        let known = self.conn_state.first_untold(last_reported).filter(|fault| fault.generation <= self.last_reported);
        known.unwrap_or_else(|| self.conn_state.fault(self.last_reported, op))
    }

    pub(super) fn claimant(&self, direction: Direction) -> Claimant {
        Claimant { direction, is_half: self.is_half }
    }
}

impl<S: 'static> Handle<S> {
    /// The stream of the live link, if there is one and nothing has to be told before it.
    pub(super) fn get_ref(&self, direction: Direction) -> Option<&S> {
        if self.link.get().is_none() {
            if let Some(link) = self.conn_state.take_live(self.last_reported, self.claimant(direction)) {
                // If another thread was faster, this is a second stream on the same socket.
                let _ = self.link.set(link);
            }
        }
        let link = self.link.get().filter(|link| self.conn_state.is_live(link.generation))?;
        link.stream.get_ref()
    }
}

fn cell<T>(content: Option<T>) -> OnceLock<T> {
    content.map_or_else(OnceLock::new, OnceLock::from)
}
