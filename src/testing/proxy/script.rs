//! The script: which entry is next. Pure.
//!
//! Next: [`acceptor`](super::acceptor), which plays it.

use std::fmt;
use std::iter::Peekable;
use std::time::Duration;

use super::plan::Link;
use crate::panics::{QuietDrop, catch};

/// The entries that are still to come. After the last one, every link passes.
pub(super) struct Script(Peekable<Box<dyn Iterator<Item = Link> + Send>>);

impl Script {
    /// A script of these entries. If the iterator panics, that is its end.
    pub(super) fn new(entries: impl Iterator<Item = Link> + Send + 'static) -> Self {
        let mut entries = QuietDrop::new(entries);
        let next = move || catch(|| entries.next()).ok().flatten();
        let entries: Box<dyn Iterator<Item = Link> + Send> = Box::new(std::iter::from_fn(next).fuse());
        Self(entries.peekable())
    }

    /// The entry of a link that was accepted. It passes if the port was to be closed.
    pub(super) fn next_link(&mut self) -> Link {
        self.0.next_if(|link| link.refusal().is_none()).unwrap_or_else(Link::pass)
    }

    /// For how long the port is to be closed, if the next entry says so.
    pub(super) fn take_refusal(&mut self) -> Option<Duration> {
        self.0.next_if(|link| link.refusal().is_some())?.refusal()
    }
}

impl Default for Script {
    /// Every link passes.
    fn default() -> Self {
        Self::new(std::iter::empty())
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Cut;
    use crate::testing::proxy::plan::Entry;

    #[test]
    fn entries_are_played_one_by_one_and_every_link_passes_in_the_end() {
        let refuse = Link::refuse().lasting(Duration::from_millis(10));
        let mut script = Script::new([refuse.clone(), refuse, Link::accept_and_close()].into_iter());
        for _ in 0..2 {
            assert_eq!(script.take_refusal(), Some(Duration::from_millis(10)));
        }
        assert_eq!(script.take_refusal(), None);
        assert_eq!(script.next_link().entry, Entry::AcceptAnd(Cut::Close));
        assert_eq!(script.next_link().entry, Entry::Pass);
        assert_eq!(script.take_refusal(), None);
    }

    #[test]
    fn script_without_end_is_played_entry_by_entry() {
        let mut script = Script::new(std::iter::repeat_with(Link::accept_and_close));
        for _ in 0..3 {
            assert_eq!(script.next_link().entry, Entry::AcceptAnd(Cut::Close));
        }
    }
}
