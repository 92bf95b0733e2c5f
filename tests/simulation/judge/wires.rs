//! No torn frames: what the server received on each wire is whole messages from the first byte on, none of them twice;
//! and no write went into a wire that was known to be closed.

use std::collections::HashMap;
use std::time::Duration;

use super::Verdict;
use crate::journal::Note;
use crate::message;
use crate::schedule::Record;

pub(super) fn judge(record: &Record, verdict: &mut Verdict) {
    // For each message, whether it is whole.
    let mut messages = HashMap::new();
    let mut last = 0;
    for wire in &record.wires {
        let wire = wire.lock();
        let number = wire.number;
        match message::decode(&wire.accepted) {
            Ok((numbers, is_last_whole)) => {
                for (index, &message) in numbers.iter().enumerate() {
                    let is_whole = is_last_whole || index + 1 < numbers.len();
                    if messages.insert(message, is_whole).is_some() || message <= last {
                        verdict.accuse(Duration::ZERO, format!("message {message} came again on wire {number}"));
                    }
                    last = message;
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
    if !record.settings.weather.tells_close {
        // What was written on a closed wire is lost, as nobody could know.
        return;
    }
    for entry in &record.entries {
        if let Note::MessageWritten(message) = entry.note {
            if messages.get(&message) != Some(&true) {
                verdict.accuse(entry.at, format!("message {message} was accepted and is on no wire"));
            }
        }
    }
}
