//! A holder's place in the connection: the link it uses, and what its caller has been told.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::tether::Tether;
use crate::Op;
use crate::fault::Fault;
use crate::ledger::{Direction, Ledger, Seat};
use crate::link::Link;

/// A handle's place in the connection.
pub(super) struct Handle<S> {
    pub(super) tether: Arc<Tether<S>>,
    pub(super) ledger: Arc<Ledger<S>>,
    /// The link in use. It can be broken already; [`Handle::live`] tells. A cell, so that looking at the stream
    /// through a shared reference can fetch it.
    pub(super) link: OnceLock<Link<S>>,
    /// The newest generation whose break the caller has been told of.
    pub(super) told: u64,
    is_half: bool,
    /// The writing side has been shut down through this handle.
    pub(super) is_finished: bool,
}

impl<S> Handle<S> {
    pub(super) fn new(tether: Arc<Tether<S>>) -> Self {
        let ledger = Arc::clone(&tether.ledger);
        Self { tether, ledger, link: OnceLock::new(), told: 0, is_half: false, is_finished: false }
    }

    /// Takes the live link in hand, so that what arrives on it is this handle's to read even if it breaks before the
    /// first operation.
    pub(super) fn take_link(&mut self, direction: Direction) {
        if self.link.get().is_none() {
            let link = self.ledger.take_live(self.told, self.seat(direction));
            self.link = cell(link);
        }
    }

    /// Divides a whole handle in two.
    pub(super) fn split(mut self) -> (Self, Self) {
        self.take_link(Direction::Read);
        let Self { tether, ledger, link, told, is_finished, .. } = self;
        let half = |link: Option<Link<S>>| Self {
            tether: Arc::clone(&tether),
            ledger: Arc::clone(&ledger),
            link: cell(link),
            told,
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
        let told = self.told.max(other.told);
        let newest = match (self.link.into_inner(), other.link.into_inner()) {
            (Some(a), Some(b)) => Some(if a.generation < b.generation { b } else { a }),
            (a, b) => a.or(b),
        };
        let link = newest.filter(|link| link.generation > told).map(|link| self.ledger.unshare(link));
        Self {
            tether: self.tether,
            ledger: self.ledger,
            link: cell(link),
            told,
            is_half: false,
            is_finished: self.is_finished || other.is_finished,
        }
    }

    /// Takes everything out of a handle that is about to be dropped.
    pub(super) fn detach(&mut self) -> Self {
        Self {
            tether: Arc::clone(&self.tether),
            ledger: Arc::clone(&self.ledger),
            link: std::mem::take(&mut self.link),
            told: self.told,
            is_half: self.is_half,
            is_finished: self.is_finished,
        }
    }

    pub(super) fn is_same_connection(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ledger, &other.ledger)
    }

    /// Ends the conversation without waiting: what a dropped half does.
    pub(super) fn finish_now(&mut self) {
        self.is_finished = true;
        if let Some((generation, None)) = self.ledger.finish() {
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
                self.ledger.share_last()
            }
        };
        if let Some(link) = last {
            self.tether.shut(link.grip);
        }
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("address", &self.ledger.address)
            .field("status", &self.ledger.status())
            .finish_non_exhaustive()
    }

    /// The first break after `told`, of which this handle was told already.
    pub(super) fn told_after(&self, told: u64, op: Op) -> Arc<Fault> {
        let known = self.ledger.first_untold(told).filter(|fault| fault.generation <= self.told);
        known.unwrap_or_else(|| self.ledger.fault(self.told, op))
    }

    pub(super) fn seat(&self, direction: Direction) -> Seat {
        Seat { direction, is_half: self.is_half }
    }
}

impl<S: 'static> Handle<S> {
    /// The stream of the live link, if there is one and nothing has to be told before it.
    pub(super) fn get_ref(&self, direction: Direction) -> Option<&S> {
        if self.link.get().is_none() {
            if let Some(link) = self.ledger.take_live(self.told, self.seat(direction)) {
                // If another thread was faster, this is a second grip on the same socket.
                let _ = self.link.set(link);
            }
        }
        let link = self.link.get().filter(|link| self.ledger.is_live(link.generation))?;
        link.grip.get_ref()
    }
}

fn cell<T>(content: Option<T>) -> OnceLock<T> {
    content.map_or_else(OnceLock::new, OnceLock::from)
}
