//! The row of the idle entries, from the one that has been idle for longest to the newest. The entries themselves hold the
//! links.

use tokio::time::Instant;

use super::entry::Phase;
use super::{Book, Parked, Taken};

#[derive(Debug, Default)]
pub(super) struct Idle {
    pub(super) count: usize,
    pub(super) oldest: Option<usize>,
    newest: Option<usize>,
}

/// The neighbours of an idle entry.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) older: Option<usize>,
    pub(super) newer: Option<usize>,
}

impl Idle {
    /// Adds an entry at the new end. The one before it, if any, has to be told.
    pub(super) fn push(&mut self, entry: usize) -> Links {
        let older = self.newest.replace(entry);
        self.oldest.get_or_insert(entry);
        self.count += 1;
        Links { older, newer: None }
    }

    /// Removes the entry with these links. Its neighbours have to be told.
    pub(super) fn remove(&mut self, links: &Links) {
        if links.older.is_none() {
            self.oldest = links.newer;
        }
        if links.newer.is_none() {
            self.newest = links.older;
        }
        self.count -= 1;
    }
}

impl<P: Parked, F> Book<P, F> {
    pub(super) fn park(&mut self, entry: usize, parked: P, since: Option<Instant>) {
        let links = self.idle.push(entry);
        if let Some(older) = links.older {
            self.links(older).newer = Some(entry);
        }
        self.entries[entry].phase = Phase::Idle { parked, since, links };
    }

    /// Takes an entry out of the row of the idle ones.
    pub(super) fn unpark(&mut self, entry: usize) -> Option<P> {
        let phase = std::mem::replace(&mut self.entries[entry].phase, Phase::Empty);
        let Phase::Idle { parked, links, .. } = phase else { return None };
        self.idle.remove(&links);
        if let Some(older) = links.older {
            self.links(older).newer = links.newer;
        }
        if let Some(newer) = links.newer {
            self.links(newer).older = links.older;
        }
        Some(parked)
    }

    pub(super) fn take_idle(&mut self, entry: usize) -> Option<Taken<P::Live>> {
        let live = self.unpark(entry)?.take();
        self.entries[entry].phase = Phase::Claimed;
        self.releasing += 1;
        Some(Taken { live, entry })
    }

    fn links(&mut self, entry: usize) -> &mut Links {
        match &mut self.entries[entry].phase {
            Phase::Idle { links, .. } => links,
            Phase::Empty | Phase::Claimed => unreachable!("only idle entries are in their row"),
        }
    }
}
