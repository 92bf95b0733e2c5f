//! The rules of listening: which channels are wanted, and what the server has to be told about them. No I/O, no clock.
//!
//! What is wanted and what the server knows after all that was sent are kept apart, and whoever changes the one marks the
//! channel for a comparison. So a `listen` that is cancelled on its way needs no rule of its own: the channel is not
//! wanted any more, the server is about to know it, and an `UNLISTEN` follows.

use std::collections::{BTreeSet, HashMap};
use std::mem::take;
use std::sync::Arc;

/// The channels of one listener. `W` is who waits for an answer.
pub(super) struct Channels<W> {
    entries: HashMap<Arc<str>, Entry<W>>,
    /// The number of the last `listen`.
    ticket: u64,
    /// The channels that are to be compared.
    marked: BTreeSet<Arc<str>>,
    /// Who waits until all is forgotten.
    leavers_of_all: Vec<W>,
    is_up: bool,
}

/// A channel that is wanted, or of which the server still has something to do.
struct Entry<W> {
    want: Option<Want<W>>,
    /// The `listen` by which the server listens, once it has done all that was sent on this link.
    in_force: Option<u64>,
    /// How many statements about it are unanswered.
    under_way: u32,
    /// The server has acknowledged a `LISTEN`, and no `UNLISTEN` since.
    is_known: bool,
    /// Who waits until it is forgotten.
    leavers: Vec<W>,
}

/// A `listen` that holds.
struct Want<W> {
    ticket: u64,
    /// Who waits for the acknowledgement; `None` once there was one, and then new links listen to it from the beginning.
    waiter: Option<W>,
}

impl<W> Default for Entry<W> {
    fn default() -> Self {
        Self { want: None, in_force: None, under_way: 0, is_known: false, leavers: Vec::new() }
    }
}

/// What to send. Who is in `leavers` waits for the answer.
pub(super) enum Statement<W> {
    Listen { channel: Arc<str>, ticket: u64, leavers: Vec<W> },
    Unlisten { channels: Vec<Arc<str>>, leavers: Vec<W> },
}

/// What becomes of an `unlisten`.
pub(super) enum Unlistened<W> {
    /// The server will answer. If another task's `listen` was still waiting, it is to be told.
    Waits { ousted: Option<W> },
    /// There is no connection: it is done.
    Done { leaver: W, ousted: Option<W> },
    /// There was nothing to do.
    NotListening,
}

impl<W> Default for Channels<W> {
    fn default() -> Self {
        Self { entries: HashMap::new(), ticket: 0, marked: BTreeSet::new(), leavers_of_all: Vec::new(), is_up: false }
    }
}

impl<W> Channels<W> {
    /// Wants a channel. `None` if it is wanted already.
    pub(super) fn listen(&mut self, channel: &str, waiter: W) -> Option<u64> {
        let name = match self.entries.get_key_value(channel) {
            Some((_, entry)) if entry.want.is_some() => return None,
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(channel),
        };
        self.ticket += 1;
        let entry = self.entries.entry(Arc::clone(&name)).or_default();
        entry.want = Some(Want { ticket: self.ticket, waiter: Some(waiter) });
        self.mark(name);
        Some(self.ticket)
    }

    /// Takes one `listen` back, if it still holds.
    pub(super) fn cancel(&mut self, channel: &str, ticket: u64) {
        let Some((name, _)) = self.entries.get_key_value(channel) else { return };
        let name = Arc::clone(name);
        let Some(entry) = self.entries.get_mut(channel) else { return };
        if entry.want.as_ref().is_some_and(|want| want.ticket == ticket) {
            entry.want = None;
            self.mark(name);
            // If the server never heard of it, nothing is left of it.
            self.tidy(channel);
        }
    }

    pub(super) fn unlisten(&mut self, channel: &str, leaver: W) -> Unlistened<W> {
        let Some((name, _)) = self.entries.get_key_value(channel) else { return Unlistened::NotListening };
        let name = Arc::clone(name);
        let Some(entry) = self.entries.get_mut(channel) else { return Unlistened::NotListening };
        let Some(want) = entry.want.take() else { return Unlistened::NotListening };
        if self.is_up {
            entry.leavers.push(leaver);
            self.mark(name);
            Unlistened::Waits { ousted: want.waiter }
        } else {
            self.mark(name);
            Unlistened::Done { leaver, ousted: want.waiter }
        }
    }

    /// The same for all. Returns whose `listen` was still waiting, with the channel; and the leaver if it is done.
    pub(super) fn unlisten_all(&mut self, leaver: W) -> (Vec<(Arc<str>, W)>, Option<W>) {
        let mut ousted = Vec::new();
        let mut names = Vec::new();
        for (name, entry) in &mut self.entries {
            let Some(want) = entry.want.take() else { continue };
            ousted.extend(want.waiter.map(|waiter| (Arc::clone(name), waiter)));
            names.push(Arc::clone(name));
        }
        let is_done = !self.is_up || names.is_empty();
        names.into_iter().for_each(|name| self.mark(name));
        if is_done {
            return (ousted, Some(leaver));
        }
        self.leavers_of_all.push(leaver);
        (ousted, None)
    }

    fn mark(&mut self, name: Arc<str>) {
        if self.is_up {
            self.marked.insert(name);
        } else {
            self.tidy(&name);
        }
    }

    /// What is to be sent now; and who need not wait any longer.
    pub(super) fn statements(&mut self) -> (Vec<Statement<W>>, Vec<W>) {
        let (mut statements, mut done) = (Vec::new(), Vec::new());
        if !self.is_up || (self.marked.is_empty() && self.leavers_of_all.is_empty()) {
            return (statements, done);
        }
        let (mut forgotten, mut leavers) = (Vec::new(), Vec::new());
        for channel in take(&mut self.marked) {
            let Some(entry) = self.entries.get_mut(&channel) else { continue };
            let wanted = entry.want.as_ref().map(|want| want.ticket);
            match wanted {
                _ if wanted == entry.in_force => {
                    done.append(&mut entry.leavers);
                    self.tidy(&channel);
                }
                Some(ticket) => {
                    entry.in_force = wanted;
                    entry.under_way += 1;
                    statements.push(Statement::Listen { channel, ticket, leavers: take(&mut entry.leavers) });
                }
                None => {
                    entry.in_force = None;
                    entry.under_way += 1;
                    leavers.append(&mut entry.leavers);
                    forgotten.push(channel);
                }
            }
        }
        leavers.append(&mut self.leavers_of_all);
        if forgotten.is_empty() {
            done.append(&mut leavers);
        } else {
            statements.push(Statement::Unlisten { channels: forgotten, leavers });
        }
        (statements, done)
    }

    /// The server has acknowledged a `LISTEN`. Returns who waits for it.
    pub(super) fn listened(&mut self, channel: &str, ticket: u64) -> Option<W> {
        let entry = self.entries.get_mut(channel)?;
        entry.under_way -= 1;
        entry.is_known = true;
        let want = entry.want.as_mut().filter(|want| want.ticket == ticket);
        let waiter = want.and_then(|want| want.waiter.take());
        self.tidy(channel);
        waiter
    }

    /// The server has refused a `LISTEN`: the channel is forgotten. Returns who waits for it.
    pub(super) fn refused(&mut self, channel: &Arc<str>, ticket: u64) -> Option<W> {
        let entry = self.entries.get_mut(channel)?;
        entry.under_way -= 1;
        let waiter = match &entry.want {
            Some(want) if want.ticket == ticket => entry.want.take().and_then(|want| want.waiter),
            _ => None,
        };
        if entry.is_known {
            // An earlier LISTEN is still in force: an UNLISTEN follows.
            self.mark(Arc::clone(channel));
        } else {
            if entry.in_force == Some(ticket) {
                entry.in_force = None;
            }
            self.mark(Arc::clone(channel));
            self.tidy(channel);
        }
        waiter
    }

    /// The server has acknowledged an `UNLISTEN`.
    pub(super) fn unlistened(&mut self, channels: &[Arc<str>]) {
        for channel in channels {
            if let Some(entry) = self.entries.get_mut(channel) {
                entry.under_way -= 1;
                entry.is_known = false;
                self.tidy(channel);
            }
        }
    }

    /// Removes an entry of which there is nothing to say any more.
    fn tidy(&mut self, channel: &str) {
        let Some(entry) = self.entries.get(channel) else { return };
        if entry.want.is_none() && entry.in_force.is_none() && entry.under_way == 0 && entry.leavers.is_empty() {
            self.entries.remove(channel);
            self.marked.remove(channel);
        }
    }

    /// What the next link has to listen to before it is one: all that a server has acknowledged before.
    pub(super) fn acknowledged(&self) -> Vec<(Arc<str>, u64)> {
        let names = self.entries.iter().filter_map(|(name, entry)| {
            let want = entry.want.as_ref().filter(|want| want.waiter.is_none())?;
            Some((Arc::clone(name), want.ticket))
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    }

    /// A link is up, on which these are in force.
    pub(super) fn link_up(&mut self, in_force: Vec<(Arc<str>, u64)>) {
        self.is_up = true;
        for (name, ticket) in in_force {
            // (It may have been unlistened meanwhile.)
            let entry = self.entries.entry(name).or_default();
            (entry.in_force, entry.is_known) = (Some(ticket), true);
        }
        self.marked = self.entries.keys().cloned().collect();
    }

    /// The link is lost, and what the server knew with it. Returns who waited for it to forget something.
    pub(super) fn link_down(&mut self) -> Vec<W> {
        self.is_up = false;
        self.marked.clear();
        let mut done = take(&mut self.leavers_of_all);
        self.entries.retain(|_, entry| {
            (entry.in_force, entry.is_known) = (None, false);
            entry.under_way = 0;
            done.append(&mut entry.leavers);
            entry.want.is_some()
        });
        done
    }

    /// Whether a channel is being forgotten: nobody wants its notifications any more.
    pub(super) fn is_forgotten(&self, channel: &str) -> bool {
        self.entries.get(channel).is_some_and(|entry| entry.want.is_none())
    }

    /// Those that are wanted, in alphabetical order.
    pub(super) fn names(&self) -> Vec<String> {
        let wanted = self.entries.iter().filter(|(_, entry)| entry.want.is_some());
        let mut names: Vec<_> = wanted.map(|(name, _)| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// How many are wanted.
    pub(super) fn len(&self) -> usize {
        self.entries.values().filter(|entry| entry.want.is_some()).count()
    }
}

#[cfg(test)]
mod tests;
