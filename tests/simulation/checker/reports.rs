//! Checks what handles report: each handle reports each break once and in order, before it touches the next link. What it
//! reads on a link is what the server sent on it, from the first byte on. `abandons.rs` has what concerns links that the
//! program gives up or breaks.
//!
//! Next: `abandons.rs`.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use perconn::{Error, Event};

use super::Findings;
use crate::journal::{Abandoned, End, HandleId, Note, Operation, Outcome, Refusal};
use crate::network::Link;
use crate::schedule::{Record, UseCase};

/// How many breaks the connection remembers for a handle that has not reported them yet.
const REMEMBERED: u64 = 16;

/// What one handle has reported.
#[derive(Default)]
struct Handle {
    last_reported: u64,
    /// Reads, and all operations of a writer.
    directions: [Direction; 2],
    /// An end of the stream may stand for one break more.
    may_have_reported_one_more: bool,
    /// The newest link that it has used, and the newest that it may have taken.
    used: u64,
    may_have_taken: u64,
}

/// One direction of a handle.
#[derive(Default)]
struct Direction {
    /// Where in the journal its operation began, which link was up then, and what the handle had reported.
    began: usize,
    live: Option<u64>,
    handle_reported: u64,
    /// The newest break that this direction has reported.
    reported: u64,
    /// An operation was cancelled or did a part of its work. Tokio's traits do not show whether it goes on.
    is_unfinished: bool,
}

pub(super) fn check(record: &Record, findings: &mut Findings) {
    // A `connect` takes the first link for the handles.
    let new_handle = || Handle { may_have_taken: u64::from(record.settings.connects), ..Handle::default() };
    let mut handles: HashMap<HandleId, Handle> = HashMap::new();
    let mut newest = 0;
    let mut is_up = false;
    // How many bytes were read on each link, by all readers together.
    let mut read = HashMap::new();
    let mut reported_by_a_reader = HashSet::new();
    // How the links were ended by the server.
    let mut ends = HashMap::new();
    // The error kinds of breaks that this side has decided on, and the kinds that were reported.
    let mut decided = HashMap::new();
    let mut reported_kinds = Vec::new();
    // The links whose break has an event, and whether a dial followed.
    let mut broken = HashMap::new();
    // The links whose clean end a read returned as such, and those for which it was an error.
    let (mut clean_ends, mut closes_as_errors) = (Vec::new(), Vec::new());
    // Where in the journal each break was reported first.
    let mut first_reported: HashMap<(HandleId, u64), usize> = HashMap::new();
    for (index, entry) in record.entries.iter().enumerate() {
        match &entry.note {
            Note::Event(Event::Connected { generation, .. } | Event::Reconnected { generation, .. }) => {
                (newest, is_up) = (*generation, true);
            }
            Note::Event(Event::Disconnected { generation, cause, retry_in, .. }) => {
                is_up = false;
                broken.insert(*generation, retry_in.is_some());
                decided.extend(decided_kind(cause).map(|kind| (*generation, kind)));
            }
            Note::Ended(link, end) => {
                ends.entry(*link).or_insert(*end);
            }
            Note::Began(HandleId::SharedWriter(_), _) | Note::Finished(HandleId::SharedWriter(_), ..) => {}
            Note::Began(id, operation) if *operation != Operation::Connected => {
                let handle = handles.entry(handle_of(*id)).or_insert_with(new_handle);
                let last_reported = handle.last_reported;
                let direction = &mut handle.directions[direction_of(*operation)];
                (direction.began, direction.live) = (index, is_up.then_some(newest));
                direction.handle_reported = last_reported;
            }
            Note::Finished(id, operation, outcome) if *operation != Operation::Connected => {
                let id = handle_of(*id);
                let handle = handles.entry(id).or_insert_with(new_handle);
                let reported_before = handle.last_reported;
                let result = handle.finish(*operation, outcome, newest, &record.links, &mut read, |generation| {
                    first_reported.get(&(id, generation)).copied()
                });
                handle.note_use(*operation, outcome, is_up.then_some(newest));
                if handle.last_reported > reported_before {
                    first_reported.insert((id, handle.last_reported), index);
                }
                reported_kinds.extend(match outcome {
                    Outcome::Reported(generation, kind) => Some((*generation, *kind)),
                    _ => None,
                });
                let is_reported_by_read = *operation == Operation::Read && handle.last_reported > reported_before;
                let result = result.and_then(|()| {
                    let end = ends.get(&handle.last_reported).copied();
                    // Of several readers, the first that reports the end has read the last bytes.
                    let is_first = is_reported_by_read && reported_by_a_reader.insert(handle.last_reported);
                    let read = is_first.then(|| read.get(&handle.last_reported).copied().unwrap_or(0));
                    if is_reported_by_read { handle.check_end(outcome, record, newest, end, read) } else { Ok(()) }
                });
                if let Err(text) = result {
                    findings.add(entry.at, format!("{id:?} {operation:?}: {text}"));
                }
                let is_certain = !handle.may_have_reported_one_more;
                match outcome {
                    Outcome::EndOfStream if is_certain => clean_ends.push(handle.last_reported),
                    Outcome::Reported(generation, io::ErrorKind::UnexpectedEof) if *operation == Operation::Read => {
                        closes_as_errors.push(*generation);
                    }
                    _ => {}
                }
            }
            Note::TookLink(id) => {
                let handle = handles.entry(handle_of(*id)).or_insert_with(new_handle);
                handle.may_have_taken = if is_up { newest } else { handle.may_have_taken };
            }
            Note::Abandoned(id, abandoned) => {
                let handle = handles.entry(*id).or_insert_with(new_handle);
                if let Err(text) = handle.abandon(abandoned) {
                    findings.add(entry.at, format!("{id:?} abandon: {text}"));
                }
                // A half that a shared connection writes through reports breaks to nobody.
                let others = match record.settings.use_case {
                    UseCase::Halves => vec![HandleId::ReadHalf, HandleId::WriteHalf],
                    UseCase::ReaderAndShared => continue,
                    _ => vec![*id],
                };
                let last_reported = |id| handles.get(id).map_or(0, |handle: &Handle| handle.last_reported);
                let given_up_by_all = others.iter().map(last_reported).min().unwrap_or(0);
                if let Some(link) = abandoned.kept.iter().find(|link| **link <= given_up_by_all) {
                    findings.add(entry.at, format!("{id:?} abandon: the stream of link {link} was kept"));
                }
            }
            _ => {}
        }
    }
    for (generation, kind) in reported_kinds {
        if decided.get(&generation).is_some_and(|decided| *decided != kind) {
            findings.add(Duration::ZERO, format!("the break of link {generation} by this side was reported as {kind}"));
        }
    }
    for generation in clean_ends {
        // The last link may have ended just before the program's shutdown. Its end is then the one that was asked for.
        let is_last = generation == newest || broken.get(&generation).is_some_and(|is_dial_next| !is_dial_next);
        if record.settings.close_as_error && !is_last {
            findings.add(Duration::ZERO, format!("the close of link {generation} was no error"));
        }
    }
    for generation in closes_as_errors {
        // A clean end of the last link has no event.
        if !broken.contains_key(&generation) {
            findings.add(Duration::ZERO, format!("the end of link {generation}, the last one, was an error"));
        }
    }
    check_byte_counts(record, &read, findings);
}

/// The error kind of a break that this side has decided on. Every handle reports it with this kind.
pub(super) fn decided_kind(cause: &Error) -> Option<io::ErrorKind> {
    let text = std::error::Error::source(cause)?.to_string();
    match text.as_str() {
        "the program broke the link" => Some(io::ErrorKind::ConnectionAborted),
        _ if text.starts_with("nothing was received") => Some(io::ErrorKind::TimedOut),
        _ => None,
    }
}

/// The two ends of `tokio::io::split` are one handle.
fn handle_of(id: HandleId) -> HandleId {
    if matches!(id, HandleId::SplitRead | HandleId::SplitWrite) { HandleId::Whole } else { id }
}

fn direction_of(operation: Operation) -> usize {
    usize::from(operation != Operation::Read)
}

impl Handle {
    fn finish(
        &mut self,
        operation: Operation,
        outcome: &Outcome,
        newest: u64,
        links: &[Link],
        read: &mut HashMap<u64, u64>,
        first_reported: impl Fn(u64) -> Option<usize>,
    ) -> Result<(), String> {
        let last_reported = self.last_reported;
        let direction = &mut self.directions[direction_of(operation)];
        let was_unfinished = std::mem::replace(&mut direction.is_unfinished, false);
        let was_reported_meanwhile =
            direction.handle_reported < last_reported && direction.live == Some(direction.handle_reported + 1);
        match outcome {
            Outcome::Cancelled | Outcome::Refused(Refusal::TryAgain) => direction.is_unfinished = true,
            Outcome::Bytes(_) | Outcome::Wrote(_) if was_reported_meanwhile => {
                return Err(format!("it began on link {} and ended on another", direction.handle_reported + 1));
            }
            // It may be a part of a message.
            Outcome::Wrote(_) => direction.is_unfinished = true,
            Outcome::Bytes(bytes) => {
                let link = last_reported + 1;
                let position = read.entry(link).or_default();
                let sent = links.get(link as usize - 1).map(|link| link.lock());
                for byte in bytes {
                    if sent.as_ref().and_then(|link| link.sent.get(*position as usize)) != Some(byte) {
                        return Err(format!("a byte that is not byte {position} of link {link}"));
                    }
                    *position += 1;
                }
            }
            // The other direction reported it first. This one reports it again if an operation was under way.
            Outcome::Reported(generation, _) if *generation <= last_reported => {
                let was_under_way = first_reported(*generation).is_some_and(|first| direction.began < first);
                if *generation <= direction.reported || !(was_unfinished || was_under_way) {
                    return Err(format!("reported the break of link {generation} twice"));
                }
                direction.reported = *generation;
            }
            Outcome::Reported(generation, _) => {
                direction.reported = *generation;
                let next = last_reported + 1;
                // The newest link may have broken, with its event still to come.
                let oldest_remembered = (newest.saturating_sub(REMEMBERED), newest.saturating_sub(REMEMBERED) + 1);
                let is_oldest = *generation == oldest_remembered.0 || *generation == oldest_remembered.1;
                let is_next = *generation == next || (self.may_have_reported_one_more && *generation == next + 1);
                self.may_have_reported_one_more = false;
                if !(is_next || next < *generation && is_oldest) {
                    return Err(format!("reported the break of link {generation}, and not that of {next}"));
                }
                self.last_reported = *generation;
            }
            Outcome::EndOfStream => {
                let oldest_remembered = newest.saturating_sub(REMEMBERED);
                // An end of the stream does not name its link. After many breaks it can be one of two.
                self.may_have_reported_one_more = last_reported < oldest_remembered;
                self.last_reported = (last_reported + 1).max(oldest_remembered);
            }
            // A flush does not end a message whose rest is still to be written.
            Outcome::Done => direction.is_unfinished = was_unfinished,
            Outcome::Refused(_) | Outcome::ShortLink(_) => {}
        }
        Ok(())
    }

    /// Notes which link a finished operation has used. `live` is the link that is up now.
    fn note_use(&mut self, operation: Operation, outcome: &Outcome, live: Option<u64>) {
        self.may_have_taken = live.unwrap_or(self.may_have_taken);
        let next = self.last_reported + 1;
        let direction = &self.directions[direction_of(operation)];
        let is_used = match outcome {
            Outcome::Bytes(_) | Outcome::Wrote(_) => true,
            // It was polled at least once, and the link was the next one from the beginning.
            Outcome::Cancelled | Outcome::Refused(Refusal::TryAgain) => {
                matches!(operation, Operation::Read | Operation::Write)
                    && direction.live == Some(next)
                    && direction.handle_reported == self.last_reported
            }
            _ => false,
        };
        if is_used {
            self.used = next;
        }
    }

    /// The program gives the link up.
    fn abandon(&mut self, abandoned: &Abandoned) -> Result<(), String> {
        let Abandoned { before, after, newest, last_reported, .. } = *abandoned;
        let reported_before = self.last_reported;
        // No operation is under way any more.
        self.last_reported = last_reported;
        self.may_have_reported_one_more = false;
        self.directions.iter_mut().for_each(|direction| direction.is_unfinished = false);
        if last_reported < reported_before {
            return Err(format!("the handle had reported {reported_before}, and now {last_reported}"));
        }
        match (before, after) {
            (Some(link), Some(_)) if self.used == link => Err(format!("link {link} was in use and stayed")),
            (Some(link), None) if self.may_have_taken < link => Err(format!("link {link} was not in use and broke")),
            (None, Some(link)) => Err(format!("it made link {link}")),
            _ if last_reported != newest - u64::from(after.is_some()) => {
                Err(format!("breaks up to {last_reported} are forgotten; the newest link is {newest}"))
            }
            _ => Ok(()),
        }
    }

    /// An end of the stream must come from a clean close, after all bytes of the server were read.
    fn check_end(
        &self,
        outcome: &Outcome,
        record: &Record,
        newest: u64,
        end: Option<End>,
        read: Option<u64>,
    ) -> Result<(), String> {
        let link = self.last_reported;
        if self.may_have_reported_one_more {
            return Ok(());
        }
        if matches!(outcome, Outcome::EndOfStream) && end != Some(End::Close) {
            return Err(format!("the end of the stream on link {link}, which was not closed cleanly"));
        }
        let faults = record.settings.faults;
        let is_steady = faults.spurious_pending == 0 && faults.io_error == 0;
        let sent = record.links[link as usize - 1].lock().sent.len() as u64;
        let Some(read) = read.filter(|_| end.is_some() && is_steady && link == newest) else { return Ok(()) };
        if read != sent {
            return Err(format!("reported the end of link {link} after {read} of {sent} bytes"));
        }
        Ok(())
    }
}

/// The byte counts of the events match what was read and written.
fn check_byte_counts(record: &Record, read: &HashMap<u64, u64>, findings: &mut Findings) {
    // The bytes that earlier events counted, and the bytes of their links that were read after the break.
    let (mut counted, mut leftovers) = (0, 0);
    for entry in &record.entries {
        let Note::Event(Event::Disconnected { generation, bytes_read, bytes_written, .. }) = &entry.note else {
            continue;
        };
        let read = read.get(generation).copied().unwrap_or(0);
        // Bytes of the same moment may have been read after the break.
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
            findings.add(entry.at, format!("the events count fewer bytes than were read before: {before}"));
        }
        leftovers += read - (*bytes_read).min(read);
        if *bytes_read > read {
            findings.add(entry.at, format!("the event of link {generation} counts {bytes_read} bytes read of {read}"));
        }
        let link = record.links[*generation as usize - 1].lock();
        let accepted = link.accepted.len() as u64;
        if record.settings.faults.reports_close && *bytes_written != accepted {
            findings
                .add(entry.at, format!("the event of link {generation} counts {bytes_written} of {accepted} bytes"));
        }
    }
}
