//! The channels of a listener: which ones the program wants, and which commands the server still needs. No I/O, no
//! clock.
//!
//! What the program wants and what the server knows are kept apart. A change of either marks the channel for a
//! comparison, and the comparison yields the commands. A cancelled `listen` therefore needs no rule of its own: the
//! channel is not wanted any more, the server is about to know it, and an `UNLISTEN` follows.
//!
//! Next: [`ServerConnection`](super::connection::ServerConnection), which sends the commands.

use std::collections::{BTreeSet, HashMap};
use std::mem::take;
use std::sync::Arc;

pub(super) use self::command::{ChannelCommand, TOO_LONG, quoted};
pub(super) use self::users::UnlistenOutcome;
use self::users::{Owner, Subscription, User};

mod command;
mod users;

/// The channels of one listener. `W` is a caller that waits for an answer.
///
/// The life of a channel:
///
/// 1. [`listen`](Channels::listen) adds a subscription, and [`take_commands`](Channels::take_commands) yields a `LISTEN`.
/// 2. [`listen_acknowledged`](Channels::listen_acknowledged) ends the wait. From now on, [`in_login`](Channels::in_login)
///    includes the channel, so that each login listens to it.
/// 3. [`unlisten`](Channels::unlisten) removes the subscription, and an `UNLISTEN` follows.
/// 4. [`unlisten_acknowledged`](Channels::unlisten_acknowledged) removes the entry.
pub(super) struct Channels<W> {
    /// By name.
    entries: HashMap<Arc<str>, Entry<W>>,
    /// The number of the last `listen`.
    last_id: ListenId,
    /// The channels to compare.
    dirty: BTreeSet<Arc<str>>,
    /// Calls of `unlisten_all` whose commands are not sent yet.
    unlisten_all_waiters: Vec<W>,
    /// Whether commands can be sent.
    is_connected: bool,
}

/// The number of a `listen`. Each call has its own.
pub(super) type ListenId = u64;

/// A channel that the program wants, or about which the server still has something to do.
struct Entry<W> {
    /// `None` if the program does not want the channel any more.
    subscription: Option<Subscription<W>>,
    /// The `listen` in force at the server once it has processed everything sent on this connection.
    in_force: Option<ListenId>,
    /// Commands about this channel that the server has not answered.
    unanswered: u32,
    /// The server has acknowledged a `LISTEN`, and no `UNLISTEN` since.
    is_acknowledged: bool,
    /// Without a subscription: a `listen` of the listener had returned before the channel was given up. So the reader gets what was sent before
    /// the server has given it up, too.
    was_listened_to: bool,
    /// Calls of `unlisten` whose command is not sent yet.
    unlisten_waiters: Vec<W>,
}

impl<W> Default for Entry<W> {
    fn default() -> Self {
        Self {
            subscription: None,
            in_force: None,
            unanswered: 0,
            is_acknowledged: false,
            was_listened_to: false,
            unlisten_waiters: Vec::new(),
        }
    }
}

impl<W> Entry<W> {
    /// Takes back the first `listen` that meets the condition. Without any, the program does not want the channel any more.
    fn remove_user(&mut self, is_it: impl Fn(&User<W>) -> bool) -> Option<User<W>> {
        let subscription = self.subscription.as_mut()?;
        let user = subscription.users.remove(subscription.users.iter().position(is_it)?);
        if subscription.users.is_empty() {
            self.subscription = None;
            self.was_listened_to = user.owner == Owner::Listener && user.waiter.is_none();
        }
        Some(user)
    }
}

impl<W> Default for Channels<W> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            last_id: 0,
            dirty: BTreeSet::new(),
            unlisten_all_waiters: Vec::new(),
            is_connected: false,
        }
    }
}

impl<W> Channels<W> {
    /// Adds a channel for the reader of the listener. `None` if that wants it already.
    pub(super) fn listen(&mut self, channel: &str, waiter: W) -> Option<ListenId> {
        let is_new = !self.is_listened_to(channel);
        is_new.then(|| self.add(channel, Owner::Listener, waiter))
    }

    /// Adds a channel for one receiver more.
    pub(super) fn share(&mut self, channel: &str, waiter: W) -> ListenId {
        self.add(channel, Owner::Receiver, waiter)
    }

    /// Adds a user of a channel.
    fn add(&mut self, channel: &str, owner: Owner, waiter: W) -> ListenId {
        let name = match self.entries.get_key_value(channel) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(channel),
        };
        self.last_id += 1;
        let (id, entry) = (self.last_id, self.entries.entry(Arc::clone(&name)).or_default());
        let subscription =
            entry.subscription.get_or_insert_with(|| Subscription { id, users: Vec::new(), is_in_login: false });
        subscription.users.push(User { id, owner, waiter: Some(waiter) });
        self.mark_dirty(name);
        id
    }

    /// Whether the reader of the listener wants this channel.
    fn is_listened_to(&self, channel: &str) -> bool {
        let subscription = self.entries.get(channel).and_then(|entry| entry.subscription.as_ref());
        subscription.is_some_and(Subscription::has_listener)
    }

    /// Whether the reader of the listener does not know of this channel: its `listen` was taken back before it returned, or only
    /// receivers of their own want it.
    pub(super) fn is_unwanted(&self, channel: &str) -> bool {
        self.entries.get(channel).is_some_and(|entry| match &entry.subscription {
            Some(subscription) => !subscription.has_listener(),
            None => !entry.was_listened_to,
        })
    }

    /// Whether the reader of the listener wants any channel.
    pub(super) fn has_channel_of_listener(&self) -> bool {
        self.entries.values().filter_map(|entry| entry.subscription.as_ref()).any(Subscription::has_listener)
    }

    /// Takes back one `listen`, unless it was taken back already. Returns the call, if it was still waiting.
    pub(super) fn cancel(&mut self, channel: &str, id: ListenId) -> Option<W> {
        let (name, entry) = self.find(channel)?;
        let user = entry.remove_user(|user| user.id == id)?;
        self.mark_dirty(name);
        // If the server never received it, nothing of it stays.
        self.remove_if_unused(channel);
        user.waiter
    }

    /// Takes back the `listen` of a channel for the reader of the listener.
    pub(super) fn unlisten(&mut self, channel: &str, waiter: W) -> UnlistenOutcome<W> {
        let is_connected = self.is_connected;
        let Some((name, entry)) = self.find(channel) else { return UnlistenOutcome::NotListening };
        let Some(user) = entry.remove_user(|user| user.owner == Owner::Listener) else {
            return UnlistenOutcome::NotListening;
        };
        let cancelled = user.waiter;
        let outcome = if is_connected && entry.subscription.is_none() {
            entry.unlisten_waiters.push(waiter);
            UnlistenOutcome::Pending { cancelled }
        } else {
            UnlistenOutcome::Done { waiter, cancelled }
        };
        self.mark_dirty(name);
        outcome
    }

    /// Takes back every `listen` for the reader of the listener. Returns the calls of `listen` that were still waiting, and `waiter` if nothing is
    /// left to do.
    pub(super) fn unlisten_all(&mut self, waiter: W) -> (Vec<(Arc<str>, W)>, Option<W>) {
        let mut cancelled = Vec::new();
        let mut names = Vec::new();
        for (name, entry) in &mut self.entries {
            let Some(user) = entry.remove_user(|user| user.owner == Owner::Listener) else { continue };
            cancelled.extend(user.waiter.map(|waiter| (Arc::clone(name), waiter)));
            names.push(Arc::clone(name));
        }
        let is_done = !self.is_connected || names.is_empty();
        names.into_iter().for_each(|name| self.mark_dirty(name));
        if is_done {
            return (cancelled, Some(waiter));
        }
        self.unlisten_all_waiters.push(waiter);
        (cancelled, None)
    }

    /// The commands to send now, and the waiters that need no answer any more. Without a connection, there are none.
    pub(super) fn take_commands(&mut self) -> (Vec<ChannelCommand<W>>, Vec<W>) {
        let (mut commands, mut done) = (Vec::new(), Vec::new());
        let (mut unlistened, mut waiters) = (Vec::new(), Vec::new());
        for channel in take(&mut self.dirty) {
            let Some(entry) = self.entries.get_mut(&channel) else { continue };
            let wanted = entry.subscription.as_ref().map(|subscription| subscription.id);
            match wanted {
                _ if wanted == entry.in_force => {
                    done.append(&mut entry.unlisten_waiters);
                    if entry.is_acknowledged && entry.unanswered == 0 {
                        // Another user, or the login, has brought it into force.
                        done.extend(entry.subscription.iter_mut().flat_map(Subscription::take_waiters));
                    }
                    self.remove_if_unused(&channel);
                }
                Some(id) => {
                    entry.in_force = wanted;
                    entry.unanswered += 1;
                    let waiters = take(&mut entry.unlisten_waiters);
                    commands.push(ChannelCommand::Listen { channel, id, waiters });
                }
                None => {
                    entry.in_force = None;
                    entry.unanswered += 1;
                    waiters.append(&mut entry.unlisten_waiters);
                    unlistened.push(channel);
                }
            }
        }
        waiters.append(&mut self.unlisten_all_waiters);
        if unlistened.is_empty() {
            done.append(&mut waiters);
        } else {
            commands.push(ChannelCommand::Unlisten { channels: unlistened, waiters });
        }
        (commands, done)
    }

    /// The server has acknowledged a `LISTEN`. Returns the calls that wait for it.
    pub(super) fn listen_acknowledged(&mut self, channel: &str, id: ListenId) -> Vec<W> {
        let Some(entry) = self.entries.get_mut(channel) else { return Vec::new() };
        entry.unanswered -= 1;
        entry.is_acknowledged = true;
        let mut waiters = Vec::new();
        if let Some(subscription) = entry.subscription.as_mut().filter(|subscription| subscription.id == id) {
            subscription.is_in_login = true;
            waiters.extend(subscription.take_waiters());
        }
        self.remove_if_unused(channel);
        waiters
    }

    /// The server has refused a `LISTEN`, which takes back the first `listen` that waits for it. Returns that call. For
    /// further ones, another `LISTEN` follows.
    pub(super) fn listen_refused(&mut self, channel: &Arc<str>, id: ListenId) -> Option<W> {
        let next_id = self.last_id + 1;
        let entry = self.entries.get_mut(channel)?;
        entry.unanswered -= 1;
        // If an earlier LISTEN is still in force, an UNLISTEN follows.
        if !entry.is_acknowledged && entry.in_force == Some(id) {
            entry.in_force = None;
        }
        let mut refused = None;
        if entry.subscription.as_ref().is_some_and(|subscription| subscription.id == id) {
            refused = entry.remove_user(|user| user.waiter.is_some());
            match &mut entry.subscription {
                Some(subscription) if refused.is_some() => {
                    subscription.id = next_id;
                    self.last_id = next_id;
                }
                other => *other = None,
            }
        }
        self.mark_dirty(Arc::clone(channel));
        self.remove_if_unused(channel);
        refused?.waiter
    }

    /// The server cannot listen, but another host may: each login tries the channel from now on, and its calls go on waiting.
    pub(super) fn try_at_next_login(&mut self, channel: &str) {
        if let Some(subscription) = self.entries.get_mut(channel).and_then(|entry| entry.subscription.as_mut()) {
            subscription.is_in_login = true;
        }
    }

    /// The server has acknowledged an `UNLISTEN`.
    pub(super) fn unlisten_acknowledged(&mut self, channels: &[Arc<str>]) {
        for channel in channels {
            if let Some(entry) = self.entries.get_mut(channel) {
                entry.unanswered -= 1;
                entry.is_acknowledged = false;
                self.remove_if_unused(channel);
            }
        }
    }

    /// The channels to listen to during the next login: all that a server has acknowledged before, in alphabetical
    /// order.
    pub(super) fn in_login(&self) -> Vec<(Arc<str>, ListenId)> {
        let channels = self.entries.iter().filter_map(|(name, entry)| {
            let subscription = entry.subscription.as_ref().filter(|subscription| subscription.is_in_login)?;
            Some((Arc::clone(name), subscription.id))
        });
        let mut channels: Vec<_> = channels.collect();
        channels.sort_unstable();
        channels
    }

    /// A connection is up, and its login has listened to these channels.
    pub(super) fn link_up(&mut self, in_force: Vec<(Arc<str>, ListenId)>) {
        self.is_connected = true;
        for (name, id) in in_force {
            // The program may have taken the channel back during the login; then there is no entry.
            let entry = self.entries.entry(name).or_default();
            (entry.in_force, entry.is_acknowledged) = (Some(id), true);
        }
        self.dirty = self.entries.keys().cloned().collect();
    }

    /// The connection is lost, and with it everything that the server knew. Returns the waiting calls of `unlisten`.
    pub(super) fn link_down(&mut self) -> Vec<W> {
        self.is_connected = false;
        self.dirty.clear();
        let mut done = take(&mut self.unlisten_all_waiters);
        self.entries.retain(|_, entry| {
            (entry.in_force, entry.is_acknowledged) = (None, false);
            entry.unanswered = 0;
            done.append(&mut entry.unlisten_waiters);
            entry.subscription.is_some()
        });
        done
    }

    /// Every call that waits, of a listener that has ended.
    pub(super) fn into_waiters(self) -> Vec<W> {
        let mut waiters = self.unlisten_all_waiters;
        for entry in self.entries.into_values() {
            let users = entry.subscription.into_iter().flat_map(|subscription| subscription.users);
            waiters.extend(users.filter_map(|user| user.waiter));
            waiters.extend(entry.unlisten_waiters);
        }
        waiters
    }

    /// Whether there is a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// The channels that the program wants, in alphabetical order.
    pub(super) fn names(&self) -> Vec<String> {
        let wanted = self.entries.iter().filter(|(_, entry)| entry.subscription.is_some());
        let mut names: Vec<_> = wanted.map(|(name, _)| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// How many channels the program wants.
    pub(super) fn len(&self) -> usize {
        self.entries.values().filter(|entry| entry.subscription.is_some()).count()
    }

    /// The entry of a channel, with its shared name.
    fn find(&mut self, channel: &str) -> Option<(Arc<str>, &mut Entry<W>)> {
        let name = Arc::clone(self.entries.get_key_value(channel)?.0);
        Some((name, self.entries.get_mut(channel)?))
    }

    /// Has the channel compared when commands are taken next. Without a connection there is nothing to send.
    fn mark_dirty(&mut self, name: Arc<str>) {
        if self.is_connected {
            self.dirty.insert(name);
        } else {
            self.remove_if_unused(&name);
        }
    }

    /// Removes an entry about which nothing is left to send or to wait for.
    fn remove_if_unused(&mut self, channel: &str) {
        let Some(entry) = self.entries.get(channel) else { return };
        if entry.subscription.is_none()
            && entry.in_force.is_none()
            && entry.unanswered == 0
            && entry.unlisten_waiters.is_empty()
        {
            self.entries.remove(channel);
            self.dirty.remove(channel);
        }
    }
}

#[cfg(test)]
mod tests;
