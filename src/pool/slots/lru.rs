//! The idle entries in the order in which they became idle.
//!
//! It is a doubly linked list whose nodes are found by entry, so each operation takes constant time.
//!
//! Next: [`SlotTable::evict_oldest`](super::SlotTable::evict_oldest), which takes connections out.

use tokio::time::Instant;

use super::grant::EntryId;

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

    /// Adds an entry as the newest.
    #[inline]
    pub(super) fn push(&mut self, id: EntryId, resource: R, since: Option<Instant>) {
        let older = self.newest.replace(id);
        match older {
            Some(older) => self.node(older).newer = Some(id),
            None => self.oldest = Some(id),
        }
        let node = Some(Node { resource, since, older, newer: None });
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
        let Node { resource, older, newer, .. } = self.nodes.get_mut(id)?.take()?;
        match older {
            Some(older) => self.node(older).newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.node(newer).older = older,
            None => self.newest = older,
        }
        self.len -= 1;
        Some(resource)
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
