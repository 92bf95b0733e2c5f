//! The idle entries in the order in which they became idle.
//!
//! It is a doubly linked list whose nodes are found by entry, so each operation takes constant time.
//!
//! Next: [`SlotTable::evict_oldest`](super::SlotTable::evict_oldest), which takes connections out.

use tokio::time::Instant;

use super::grant::EntryId;

/// Where an entry is in the list, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) struct Place {
    /// Since when it has been idle, if that was noted.
    since: Option<Instant>,
    /// The next newer entry. `None`: it is the newest.
    newer: Option<EntryId>,
}

impl Place {
    /// The place of an entry that becomes idle now. `since` is the time, if that is noted.
    pub(in crate::pool) fn newest(since: Option<Instant>) -> Self {
        Self { since, newer: None }
    }
}

/// The idle entries, from the one that has been idle for longest to the newest.
#[derive(Debug)]
pub(super) struct Lru<R> {
    /// By entry. Only the idle ones have a node.
    nodes: Vec<Option<Node<R>>>,
    /// The number of nodes that are `Some`.
    len: usize,
    /// The first to be evicted. `None` if the list is empty.
    oldest: Option<EntryId>,
    /// Where `push` adds. `None` if the list is empty.
    newest: Option<EntryId>,
}

/// One idle entry.
#[derive(Debug)]
struct Node<R> {
    /// The resource that holds the connection.
    resource: R,
    /// Since when it has been idle, if that was noted.
    since: Option<Instant>,
    /// The neighbours in the list.
    older: Option<EntryId>,
    /// `None` for the newest.
    newer: Option<EntryId>,
}

impl<R> Lru<R> {
    /// An empty list, which allocates with the first idle entry.
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new(), len: 0, oldest: None, newest: None }
    }

    /// How many entries are idle.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The entry that has been idle for longest.
    pub(super) fn oldest(&self) -> Option<EntryId> {
        self.oldest
    }

    /// Since when that one has been idle, if that was noted.
    pub(super) fn oldest_since(&self) -> Option<Instant> {
        self.nodes[self.oldest?].as_ref()?.since
    }

    /// Adds an entry at its place.
    ///
    /// If the entry that was the next newer one has gone meanwhile, it becomes the oldest.
    #[inline]
    pub(super) fn insert(&mut self, id: EntryId, resource: R, Place { since, newer }: Place) {
        let newer = newer.and_then(|newer| if self.contains(newer) { Some(newer) } else { self.oldest });
        let older = match newer {
            Some(newer) => self.node(newer).older.replace(id),
            None => self.newest.replace(id),
        };
        match older {
            Some(older) => self.node(older).newer = Some(id),
            None => self.oldest = Some(id),
        }
        let node = Some(Node { resource, since, older, newer });
        match self.nodes.get_mut(id) {
            Some(place) => *place = node,
            None => {
                self.nodes.resize_with(id, || None);
                self.nodes.push(node);
            }
        }
        self.len += 1;
    }

    /// Takes an entry out, if it is there.
    #[inline]
    pub(super) fn remove(&mut self, id: EntryId) -> Option<R> {
        Some(self.take_out(id)?.0)
    }

    /// The same, with its place.
    #[inline(always)]
    pub(super) fn take_out(&mut self, id: EntryId) -> Option<(R, Place)> {
        let Node { resource, since, older, newer } = self.nodes.get_mut(id)?.take()?;
        match older {
            Some(older) => self.node(older).newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.node(newer).older = older,
            None => self.newest = older,
        }
        self.len -= 1;
        Some((resource, Place { since, newer }))
    }

    /// The resources that hold the connections.
    pub(super) fn resources(&self) -> impl Iterator<Item = &R> + '_ {
        self.nodes.iter().flatten().map(|node| &node.resource)
    }

    /// Whether an entry is in the list.
    #[inline]
    fn contains(&self, id: EntryId) -> bool {
        self.nodes.get(id).is_some_and(Option::is_some)
    }

    /// The entries, the oldest first.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = EntryId> + '_ {
        std::iter::successors(self.oldest, |id| self.nodes[*id].as_ref()?.newer)
    }

    /// The node of an idle entry.
    fn node(&mut self, id: EntryId) -> &mut Node<R> {
        self.nodes[id].as_mut().expect("a neighbour in the list has a node")
    }
}
