//! Checks for torn frames: on each link the server received whole messages from the first byte on, and none twice. Writes
//! to a closed connection failed.
//!
//! Next: `short_links.rs`.

use std::collections::HashMap;
use std::time::Duration;

use perconn::Event;

use super::{CLOSE_LIMIT, Findings};
use crate::journal::{Note, Outcome, Refusal};
use crate::message::{self, WRITER_SHIFT};
use crate::schedule::Record;

pub(super) fn check(record: &Record, findings: &mut Findings) {
    // For each message, whether it is whole, and its link.
    let mut messages = HashMap::new();
    // The last message of each writer.
    let mut last: HashMap<u32, u32> = HashMap::new();
    for link in &record.links {
        let link = link.lock();
        let number = link.number;
        match message::decode(&link.accepted) {
            Ok((numbers, is_last_whole)) => {
                for (index, &message) in numbers.iter().enumerate() {
                    let is_whole = is_last_whole || index + 1 < numbers.len();
                    let last = last.entry(message >> WRITER_SHIFT).or_default();
                    if messages.insert(message, (is_whole, number)).is_some() || message <= *last {
                        findings.add(Duration::ZERO, format!("message {message} came a second time, on link {number}"));
                    }
                    *last = message;
                }
            }
            Err(text) => findings.add(Duration::ZERO, format!("link {number}: {text}")),
        }
        if link.written_when_closed > 0 {
            let n = link.written_when_closed;
            findings
                .add(Duration::ZERO, format!("{n} bytes were written on link {number}, which was known to be closed"));
        }
        if !link.client_dropped {
            findings.add(Duration::ZERO, format!("the stream of link {number} was never dropped"));
        }
    }
    // Links that broke, or that were closed before the whole queue could be sent.
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
    if !record.settings.faults.reports_close {
        // Without a report of the close, bytes written to a closed link are lost.
        return;
    }
    for entry in &record.entries {
        if let Note::MessageWritten(message) = entry.note {
            if !messages.get(&message).is_some_and(|(is_whole, _)| *is_whole) {
                findings.add(entry.at, format!("message {message} was accepted and is on no link"));
            }
        }
        if let Note::Job(message, outcome) = &entry.note {
            let on_link = messages.get(message);
            let is_right = match outcome {
                // A close, or giving up, can come in the middle of a job.
                Outcome::Refused(Refusal::Closed | Refusal::GaveUp) => {
                    on_link.is_none_or(|(_, link)| ended.contains(link))
                }
                Outcome::Refused(_) | Outcome::ShortLink(_) => on_link.is_none(),
                // The break of that link cut it, or came before the flush.
                Outcome::Reported(generation, _) => on_link.is_none_or(|(_, link)| link == generation),
                // Whole or absent, unless a break cut it.
                Outcome::Cancelled => on_link.is_none_or(|(is_whole, link)| *is_whole || ended.contains(link)),
                _ => true,
            };
            if !is_right {
                findings.add(entry.at, format!("message {message}: {outcome:?}, but on the link: {on_link:?}"));
            }
        }
    }
}
