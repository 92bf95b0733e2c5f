//! The account of one connection: what its client, its events and its server have seen. Once all sides of a link are
//! there, [`compare`] checks them against each other.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use perconn::{Error, Event};

use crate::compare::{Client, Loss, Reading, Served, Writing, compare};
use crate::totals::{BreakKind, DialFailure, Totals};

/// No operation, no outage and no dial is meant to take longer; one that does hangs.
pub(crate) const HANG: Duration = Duration::from_secs(30);

/// The settings of every client. Short, so that there are many links.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(5);
pub(crate) const RETRY_MAX: Duration = Duration::from_millis(200);

/// How many links wait for one of their sides to be entered. Some sides never are: the server's of a link that was
/// made by the kernel just before it closed the listener.
const MOST_UNSETTLED: usize = 200;

/// How many texts of violations are kept; the others are only counted.
const MOST_TEXTS: usize = 20;

pub(crate) struct Account {
    pub(crate) connection: usize,
    /// The newest generation that an event announced.
    announced: AtomicU64,
    /// The newest generation whose break an event or a handle has reported.
    known_broken: AtomicU64,
    state: Mutex<AccountState>,
}

struct AccountState {
    totals: Totals,
    violations: Vec<String>,
    /// By generation.
    links: BTreeMap<u64, LinkSides>,
    /// What the server saw, by the client's port, until the link is settled.
    served: VecDeque<(u16, Served)>,
    /// The client's port in the dial that is under way or was the last.
    port: u16,
    is_up: bool,
    is_closed: bool,
    newest_break: u64,
    down_since: Instant,
    last_event: Instant,
}

/// One link as its sides saw it.
#[derive(Default)]
struct LinkSides {
    /// The client's port, and when the event before the link came. The server cannot have accepted it earlier; one
    /// that it did is an earlier link from the same port, or a dial that failed.
    dialed: Option<(u16, Instant)>,
    loss: Option<Loss>,
    client: Client,
}

impl Account {
    pub(crate) fn new(connection: usize) -> Self {
        let state = AccountState {
            totals: Totals::default(),
            violations: Vec::new(),
            links: BTreeMap::new(),
            served: VecDeque::new(),
            port: 0,
            is_up: false,
            is_closed: false,
            newest_break: 0,
            down_since: Instant::now(),
            last_event: Instant::now(),
        };
        Self { connection, announced: AtomicU64::new(0), known_broken: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// A promise was broken.
    pub(crate) fn violation(&self, text: impl Display) {
        self.state().violation(text);
    }

    /// Adds to the numbers of the summary.
    pub(crate) fn count(&self, add: impl FnOnce(&mut Totals)) {
        add(&mut self.state().totals);
    }

    pub(crate) fn totals(&self) -> Totals {
        self.state().totals.clone()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    pub(crate) fn announced(&self) -> u64 {
        self.announced.load(Ordering::SeqCst)
    }

    pub(crate) fn known_broken(&self) -> u64 {
        self.known_broken.load(Ordering::SeqCst)
    }

    /// The newest generation whose break an event has reported.
    pub(crate) fn newest_break(&self) -> u64 {
        self.state().newest_break
    }

    /// From now on, no handle may write on this link any more.
    pub(crate) fn mark_broken(&self, generation: u64) {
        self.known_broken.fetch_max(generation, Ordering::SeqCst);
    }

    // ===== what the sides have seen =====

    /// A dial has connected from this port, by which the server's side of the link is found.
    pub(crate) fn dialed_from(&self, port: u16) {
        self.state().port = port;
    }

    /// The event hook. It runs on the connection's own task, so it must be quick.
    pub(crate) fn event(&self, event: &Event) {
        let mut state = self.state();
        if std::mem::replace(&mut state.is_closed, matches!(event, Event::Closed)) {
            state.violation(format_args!("an event after the last one: {event}"));
        }
        let event_before = std::mem::replace(&mut state.last_event, Instant::now());
        match event {
            Event::Connected { generation, .. } | Event::Reconnected { generation, .. } => {
                let is_first = matches!(event, Event::Connected { .. });
                let expected = self.announced.swap(*generation, Ordering::SeqCst) + 1;
                if state.is_up || *generation != expected || is_first != (expected == 1) {
                    state.violation(format_args!("out of turn, expected generation {expected}: {event}"));
                }
                state.begin_link(*generation, event_before);
            }
            Event::Disconnected { generation, cause, bytes_read, bytes_written, retry_in, .. } => {
                state.check_delay(*retry_in, Duration::ZERO);
                if !state.is_up || *generation != self.announced() {
                    state.violation(format_args!("out of turn, the newest is {}: {event}", self.announced()));
                }
                self.mark_broken(*generation);
                let Error::IoError { unacknowledged, .. } = &**cause else {
                    return state.violation(format_args!("a break without an IoError: {cause:?}"));
                };
                let kind = BreakKind::of(cause.kind());
                let (unacknowledged, written, read) = (*unacknowledged, *bytes_written, *bytes_read);
                state.end_link(*generation, Loss { kind, unacknowledged, written, read });
            }
            Event::DialFailed { cause, retry_in, .. } => {
                state.check_delay(*retry_in, RETRY_MIN);
                if state.is_up {
                    state.violation(format_args!("a failed dial while the link was up: {event}"));
                }
                let failure = match cause.kind() {
                    ErrorKind::ConnectionRefused => DialFailure::Refused,
                    ErrorKind::TimedOut => DialFailure::TimedOut,
                    // A reset can also hit the handshake, but nearly all come while the greeting is read.
                    _ => DialFailure::SetUp,
                };
                state.totals.dials_failed[failure as usize] += 1;
            }
            Event::Closed => {}
            other => state.violation(format_args!("not expected: {other}")),
        }
    }

    /// A writer has got the error of a break, or has come to its end.
    pub(crate) fn written(&self, generation: u64, writing: Writing) {
        self.state().enter(generation, |link| link.client.writing = Some(writing));
    }

    /// The same of a reader.
    pub(crate) fn read(&self, generation: u64, reading: Reading) {
        self.state().enter(generation, |link| link.client.reading = Some(reading));
    }

    /// The server has ended a link.
    pub(crate) fn served(&self, port: u16, served: Served) {
        let mut state = self.state();
        state.served.push_back((port, served));
        if state.served.len() > MOST_UNSETTLED {
            state.forget_oldest_served();
        }
        let complete: Vec<_> = state.links.iter().filter(|(_, link)| link.is_entered()).map(|(n, _)| *n).collect();
        complete.into_iter().for_each(|generation| state.enter(generation, |_| {}));
    }

    /// Everything has ended: settles what is left.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        if !state.is_closed {
            state.violation("closed, but no event said so");
        }
        if state.is_up {
            state.totals.links_closed += 1;
        } else if state.down_since.elapsed() > HANG {
            let outage = state.down_since.elapsed();
            state.violation(format_args!("no link for {outage:.1?} at the end"));
        }
        for (generation, link) in std::mem::take(&mut state.links) {
            state.compare(generation, link);
        }
        while !state.served.is_empty() {
            state.forget_oldest_served();
        }
    }

    fn state(&self) -> MutexGuard<'_, AccountState> {
        self.state.lock().expect("nothing panics while it is locked")
    }
}

impl AccountState {
    fn violation(&mut self, text: impl Display) {
        self.totals.violations += 1;
        if self.violations.len() < MOST_TEXTS {
            self.violations.push(text.to_string());
        }
    }

    fn check_delay(&mut self, delay: Option<Duration>, min: Duration) {
        if delay.is_none_or(|delay| delay < min || delay > RETRY_MAX) {
            self.violation(format_args!("the next dial in {delay:?}, not in {min:?} to {RETRY_MAX:?}"));
        }
    }

    fn begin_link(&mut self, generation: u64, event_before: Instant) {
        let outage = self.down_since.elapsed();
        if outage > HANG {
            self.violation(format_args!("an outage of {outage:.1?} before generation {generation}"));
        }
        self.totals.longest_outage = self.totals.longest_outage.max(outage);
        self.totals.links += 1;
        self.is_up = true;
        let dialed = Some((self.port, event_before));
        self.enter(generation, |link| link.dialed = dialed);
        while self.links.len() > MOST_UNSETTLED {
            if let Some((generation, oldest)) = self.links.pop_first() {
                self.compare(generation, oldest);
            }
        }
    }

    fn end_link(&mut self, generation: u64, loss: Loss) {
        self.is_up = false;
        self.newest_break = generation;
        self.down_since = Instant::now();
        self.totals.breaks[loss.kind as usize] += 1;
        self.enter(generation, |link| link.loss = Some(loss));
    }

    /// Enters one witness's side of a link, and settles it if that was the last.
    fn enter(&mut self, generation: u64, enter: impl FnOnce(&mut LinkSides)) {
        let link = self.links.entry(generation).or_default();
        enter(link);
        if link.is_entered() && self.served.iter().any(|(port, served)| link.is_served_by(*port, served)) {
            let link = self.links.remove(&generation).expect("it has just been entered");
            self.compare(generation, link);
        }
    }

    /// What is left over was a dial whose set-up failed: the client never called it a link, and wrote nothing.
    fn forget_oldest_served(&mut self) {
        let Some((port, served)) = self.served.pop_front() else { return };
        if served.bytes > 0 {
            self.violation(format_args!("{} bytes from port {port} on no link of the client's", served.bytes));
        }
    }

    fn compare(&mut self, generation: u64, link: LinkSides) {
        let place = self.served.iter().position(|(port, served)| link.is_served_by(*port, served));
        let served = place.and_then(|place| self.served.remove(place)).map(|(_, served)| served);
        for violation in compare(generation, link.loss.as_ref(), link.client, served, &mut self.totals) {
            self.violation(format_args!("generation {generation}: {violation}"));
        }
    }
}

impl LinkSides {
    /// Whether everything is there but for the server's side.
    fn is_entered(&self) -> bool {
        self.loss.is_some() && self.client.writing.is_some() && self.client.reading.is_some()
    }

    fn is_served_by(&self, port: u16, served: &Served) -> bool {
        self.dialed.is_some_and(|(my_port, since)| port == my_port && served.accepted >= since)
    }
}
