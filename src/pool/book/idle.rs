//! The row of the idle entries, from the one that has been idle for longest to the newest. The entries themselves hold the
//! links.

use tokio::time::Instant;

use super::desk::Phase;
use super::{Book, Parked, Taken};

#[derive(Debug, Default)]
pub(super) struct Idle {
    pub(super) count: usize,
    pub(super) oldest: Option<usize>,
    newest: Option<usize>,
}

/// What the book knows of an idle connection.
pub(super) struct Rest<P> {
    parked: P,
    /// Since when it has been idle, if that was noted.
    pub(super) since: Option<Instant>,
    /// The neighbours in the row.
    older: Option<usize>,
    newer: Option<usize>,
}

impl<P: Parked, F> Book<P, F> {
    /// Adds an entry at the new end.
    pub(super) fn park(&mut self, entry: usize, parked: P, since: Option<Instant>) {
        let older = self.idle.newest.replace(entry);
        self.idle.oldest.get_or_insert(entry);
        self.idle.count += 1;
        if let Some(older) = older {
            self.rest(older).newer = Some(entry);
        }
        self.entries[entry].rest = Some(Rest { parked, since, older, newer: None });
    }

    /// Takes an entry out of the row, if it is there.
    pub(super) fn unpark(&mut self, entry: usize) -> Option<P> {
        let Rest { parked, older, newer, .. } = self.entries[entry].rest.take()?;
        match older {
            Some(older) => self.rest(older).newer = newer,
            None => self.idle.oldest = newer,
        }
        match newer {
            Some(newer) => self.rest(newer).older = older,
            None => self.idle.newest = older,
        }
        self.idle.count -= 1;
        Some(parked)
    }

    /// Takes out the connection of an entry, if it is idle.
    pub(super) fn take_idle(&mut self, entry: usize) -> Option<Taken<P::Live>> {
        let live = self.unpark(entry)?.take();
        self.entries[entry].desk.lock().phase = Phase::Claimed;
        self.releasing += 1;
        Some(Taken { live, entry })
    }

    fn rest(&mut self, entry: usize) -> &mut Rest<P> {
        self.entries[entry].rest.as_mut().expect("only idle entries are in their row")
    }
}
