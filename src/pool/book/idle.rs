//! The row of the idle entries, from the one that has been idle for longest to the newest. The entries themselves hold the
//! links.

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
