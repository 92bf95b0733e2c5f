//! No torn frames: what the server received on each wire is whole messages from the first byte on, none of them twice;
//! and no write went into a wire that was known to be closed.

use std::collections::HashMap;
use std::time::Duration;

use perconn::Event;

use super::{CLOSE_LIMIT, Verdict};
use crate::journal::{Note, Outcome, Refusal};
use crate::message::{self, WRITER_SHIFT};
use crate::schedule::Record;

pub(super) fn judge(record: &Record, verdict: &mut Verdict) {
    // For each message, whether it is whole.
    let mut messages = HashMap::new();
    // The last message of each writer.
    let mut last: HashMap<u32, u32> = HashMap::new();
    for wire in &record.wires {
        let wire = wire.lock();
        let number = wire.number;
        match message::decode(&wire.accepted) {
            Ok((numbers, is_last_whole)) => {
                for (index, &message) in numbers.iter().enumerate() {
                    let is_whole = is_last_whole || index + 1 < numbers.len();
                    let last = last.entry(message >> WRITER_SHIFT).or_default();
                    if messages.insert(message, (is_whole, number)).is_some() || message <= *last {
                        verdict.accuse(Duration::ZERO, format!("message {message} came again on wire {number}"));
                    }
                    *last = message;
                }
            }
            Err(text) => verdict.accuse(Duration::ZERO, format!("wire {number}: {text}")),
        }
        if wire.written_when_closed > 0 {
            let n = wire.written_when_closed;
            verdict.accuse(Duration::ZERO, format!("{n} bytes were written on wire {number}, known to be closed"));
        }
        if !wire.client_dropped {
            verdict.accuse(Duration::ZERO, format!("wire {number} was never let go"));
        }
    }
    // Links that broke, or that were closed before all that was queued could be sent.
    let mut ended = Vec::new();
    let (mut newest, mut close_called) = (0, None);
    for entry in &record.entries {
        match &entry.note {
            Note::Event(Event::Connected { generation, .. } | Event::Reconnected { generation, .. }) => {
                newest = *generation;
            }
            Note::Event(Event::Disconnected { generation, .. }) => ended.push(*generation),
            Note::CloseCalled => close_called = close_called.or(Some(entry.at)),
            Note::Event(Event::Closed) if close_called.is_some_and(|called| called + CLOSE_LIMIT <= entry.at) => {
                ended.push(newest);
            }
            _ => {}
        }
    }
    if !record.settings.weather.tells_close {
        // What was written on a closed wire is lost, as nobody could know.
        return;
    }
    for entry in &record.entries {
        if let Note::MessageWritten(message) = entry.note {
            if !messages.get(&message).is_some_and(|(is_whole, _)| *is_whole) {
                verdict.accuse(entry.at, format!("message {message} was accepted and is on no wire"));
            }
        }
        if let Note::Job(message, outcome) = &entry.note {
            let on_wire = messages.get(message);
            let is_right = match outcome {
                // A close, or the end of all retries, can come in the middle of a job.
                Outcome::Refused(Refusal::Closed | Refusal::GaveUp) => {
                    on_wire.is_none_or(|(_, wire)| ended.contains(wire))
                }
                Outcome::Refused(_) => on_wire.is_none(),
                // It was cut in two by the break of that link, or that came before the flush.
                Outcome::Told(generation, _) => on_wire.is_none_or(|(_, wire)| wire == generation),
                // Whole, or not at all; if it is cut, then by a break.
                Outcome::Cancelled => on_wire.is_none_or(|(is_whole, wire)| *is_whole || ended.contains(wire)),
                _ => true,
            };
            if !is_right {
                verdict.accuse(entry.at, format!("message {message}: {outcome:?}, but on the wire: {on_wire:?}"));
            }
        }
    }
}
