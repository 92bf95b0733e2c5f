//! Told once: every handle is told of every break, in order, before it touches the next link; and what it reads on a link
//! is what the server sent on it, from the first byte on.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use perconn::{Error, Event};

use super::Verdict;
use crate::journal::{End, Note, Outcome, Refusal, What, Who};
use crate::network::server_byte;
use crate::schedule::Record;

/// A handle is told of the last breaks only, if it slept through more.
const REMEMBERED: u64 = 16;

/// What a handle has been told.
#[derive(Default)]
struct Handle {
    told: u64,
    /// Reads, and all that a writer does.
    lanes: [Lane; 2],
    /// It may have been told of one break more.
    is_vague: bool,
}

/// One direction of a handle.
#[derive(Default)]
struct Lane {
    /// Where in the journal its operation began, which link was up then, and what the handle had been told.
    began: usize,
    live: Option<u64>,
    told: u64,
    /// The newest break that was told in this direction.
    heard: u64,
    /// An operation was cancelled or did a part of its work: tokio's traits do not show whether it goes on.
    is_open: bool,
}

pub(super) fn judge(record: &Record, verdict: &mut Verdict) {
    let mut handles: HashMap<Who, Handle> = HashMap::new();
    let mut newest = 0;
    let mut is_up = false;
    // How many bytes were read on each link. (Readers that share a connection get some of them each.)
    let mut read = HashMap::new();
    let mut told_to_a_reader = HashSet::new();
    // How the wires were ended by the server.
    let mut ends = HashMap::new();
    // How the breaks are to be told that this side has decided on, and how breaks were told.
    let mut decided = HashMap::new();
    let mut told_kinds = Vec::new();
    // Where in the journal each break was told first.
    let mut first_told: HashMap<(Who, u64), usize> = HashMap::new();
    for (index, entry) in record.entries.iter().enumerate() {
        match &entry.note {
            Note::Event(Event::Connected { generation, .. } | Event::Reconnected { generation, .. }) => {
                (newest, is_up) = (*generation, true);
            }
            Note::Event(Event::Disconnected { generation, cause, .. }) => {
                is_up = false;
                decided.extend(decided_kind(cause).map(|kind| (*generation, kind)));
            }
            Note::Ended(link, end) => {
                ends.entry(*link).or_insert(*end);
            }
            Note::Began(Who::SharedWriter(_), _) | Note::Finished(Who::SharedWriter(_), ..) => {}
            Note::Began(who, what) if *what != What::Connected => {
                let handle = handles.entry(handle_of(*who)).or_default();
                let told = handle.told;
                let lane = &mut handle.lanes[lane_of(*what)];
                (lane.began, lane.live, lane.told) = (index, is_up.then_some(newest), told);
            }
            Note::Finished(who, what, outcome) if *what != What::Connected => {
                let who = handle_of(*who);
                let handle = handles.entry(who).or_default();
                let told_before = handle.told;
                let result = handle.finish(*what, outcome, newest, &mut read, |generation| {
                    first_told.get(&(who, generation)).copied()
                });
                if handle.told > told_before {
                    first_told.insert((who, handle.told), index);
                }
                told_kinds.extend(match outcome {
                    Outcome::Told(generation, kind) => Some((*generation, *kind)),
                    _ => None,
                });
                let is_told_by_read = *what == What::Read && handle.told > told_before;
                let result = result.and_then(|()| {
                    let end = ends.get(&handle.told).copied();
                    // Of readers that share a connection, the first that is told has had the last bytes.
                    let is_first = is_told_by_read && told_to_a_reader.insert(handle.told);
                    let read = is_first.then(|| read.get(&handle.told).copied().unwrap_or(0));
                    if is_told_by_read { handle.check_end(outcome, record, newest, end, read) } else { Ok(()) }
                });
                if let Err(text) = result {
                    verdict.accuse(entry.at, format!("{who:?} {what:?}: {text}"));
                }
            }
            _ => {}
        }
    }
    for (generation, kind) in told_kinds {
        if decided.get(&generation).is_some_and(|decided| *decided != kind) {
            verdict.accuse(Duration::ZERO, format!("a break of link {generation} of our own was told as {kind}"));
        }
    }
    judge_counts(record, &read, verdict);
}

/// The kind of a break that was this side's own decision: to everybody it is told as that.
fn decided_kind(cause: &Error) -> Option<io::ErrorKind> {
    let text = std::error::Error::source(cause)?.to_string();
    match text.as_str() {
        "a reconnect was requested" => Some(io::ErrorKind::ConnectionAborted),
        _ if text.starts_with("nothing was received") => Some(io::ErrorKind::TimedOut),
        _ => None,
    }
}

/// The two ends that tokio makes of a whole connection are one handle.
fn handle_of(who: Who) -> Who {
    if matches!(who, Who::SplitRead | Who::SplitWrite) { Who::Whole } else { who }
}

fn lane_of(what: What) -> usize {
    usize::from(what != What::Read)
}

impl Handle {
    fn finish(
        &mut self,
        what: What,
        outcome: &Outcome,
        newest: u64,
        read: &mut HashMap<u64, u64>,
        first_told: impl Fn(u64) -> Option<usize>,
    ) -> Result<(), String> {
        let told = self.told;
        let lane = &mut self.lanes[lane_of(what)];
        let was_open = std::mem::replace(&mut lane.is_open, false);
        let was_told_meanwhile = lane.told < told && lane.live == Some(lane.told + 1);
        match outcome {
            Outcome::Cancelled | Outcome::Refused(Refusal::Passing) => lane.is_open = true,
            Outcome::Bytes(_) | Outcome::Wrote(_) if was_told_meanwhile => {
                return Err(format!("it began on link {} and ended on another", lane.told + 1));
            }
            // It may have been a part of a message.
            Outcome::Wrote(_) => lane.is_open = true,
            Outcome::Bytes(bytes) => {
                let link = told + 1;
                let position = read.entry(link).or_default();
                for byte in bytes {
                    if *byte != server_byte(link, *position) {
                        return Err(format!("a byte that is not byte {position} of link {link}"));
                    }
                    *position += 1;
                }
            }
            // The other direction was told first. This one is told again if an operation was under way.
            Outcome::Told(generation, _) if *generation <= told => {
                let was_under_way = first_told(*generation).is_some_and(|first| lane.began < first);
                if *generation <= lane.heard || !(was_open || was_under_way) {
                    return Err(format!("told of the break of link {generation} twice"));
                }
                lane.heard = *generation;
            }
            Outcome::Told(generation, _) => {
                lane.heard = *generation;
                let next = told + 1;
                // The newest link may have broken without its event having been told yet.
                let oldest_remembered = (newest.saturating_sub(REMEMBERED), newest.saturating_sub(REMEMBERED) + 1);
                let is_oldest = *generation == oldest_remembered.0 || *generation == oldest_remembered.1;
                let is_next = *generation == next || (self.is_vague && *generation == next + 1);
                self.is_vague = false;
                if !(is_next || next < *generation && is_oldest) {
                    return Err(format!("told of the break of link {generation}, and not of {next}"));
                }
                self.told = *generation;
            }
            Outcome::EndOfStream => {
                let oldest_remembered = newest.saturating_sub(REMEMBERED);
                // An end of the stream does not say of which link. After a long sleep it may be one of two.
                self.is_vague = told < oldest_remembered;
                self.told = (told + 1).max(oldest_remembered);
            }
            // A flush does not end a write of which a rest is to come.
            Outcome::Done => lane.is_open = was_open,
            Outcome::Refused(_) => {}
        }
        Ok(())
    }

    /// An end of the stream is the peer's orderly close; and all that the peer sent was read before its end was told.
    fn check_end(
        &self,
        outcome: &Outcome,
        record: &Record,
        newest: u64,
        end: Option<End>,
        read: Option<u64>,
    ) -> Result<(), String> {
        let link = self.told;
        if self.is_vague {
            return Ok(());
        }
        if matches!(outcome, Outcome::EndOfStream) && end != Some(End::Close) {
            return Err(format!("the end of link {link}, which did not end so"));
        }
        let weather = record.settings.weather;
        let is_steady = weather.fickle == 0 && weather.broken == 0;
        let sent = record.wires[link as usize - 1].lock().sent;
        let Some(read) = read.filter(|_| end.is_some() && is_steady && link == newest) else { return Ok(()) };
        if read != sent {
            return Err(format!("told of the end of link {link} after {read} of {sent} bytes"));
        }
        Ok(())
    }
}

/// What the events count is what was read and written.
fn judge_counts(record: &Record, read: &HashMap<u64, u64>, verdict: &mut Verdict) {
    // What the events before have counted, and what was read of their links after the break.
    let (mut counted, mut leftovers) = (0, 0);
    for entry in &record.entries {
        let Note::Event(Event::Disconnected { generation, bytes_read, bytes_written, .. }) = &entry.note else {
            continue;
        };
        let read = read.get(generation).copied().unwrap_or(0);
        // What was read at the same moment may have been read after the break.
        let before: usize = record
            .entries
            .iter()
            .take_while(|earlier| earlier.at < entry.at)
            .map(|earlier| match &earlier.note {
                Note::Finished(_, _, Outcome::Bytes(bytes)) => bytes.len(),
                _ => 0,
            })
            .sum();
        let other_links: u64 = counted;
        counted += *bytes_read;
        if *bytes_read + other_links + leftovers < before as u64 {
            verdict.accuse(entry.at, format!("the events count fewer bytes than were read before: {before}"));
        }
        leftovers += read - (*bytes_read).min(read);
        if *bytes_read > read {
            verdict
                .accuse(entry.at, format!("the event of link {generation} counts {bytes_read} bytes read of {read}"));
        }
        let wire = record.wires[*generation as usize - 1].lock();
        let accepted = wire.accepted.len() as u64;
        if record.settings.weather.tells_close && *bytes_written != accepted {
            verdict
                .accuse(entry.at, format!("the event of link {generation} counts {bytes_written} of {accepted} bytes"));
        }
    }
}
