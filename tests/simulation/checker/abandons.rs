//! Checks links that the program gives up or breaks: `break_link` concerns the link that it names and no other, no byte
//! passes on a link that was given up, and no answer belongs to an earlier request.
//!
//! What a handle does with its own link and its own reports is in `reports.rs`. Next: `frames.rs`.

use std::collections::HashSet;
use std::time::Duration;

use perconn::{Error, Event};

use super::Findings;
use crate::journal::{BreakLink, HandleId, Note, Operation, Passed};
use crate::schedule::Record;

pub(super) fn check(record: &Record, findings: &mut Findings) {
    // The links that the program broke, and those whose event says so.
    let (mut broken, mut said) = (HashSet::new(), HashSet::new());
    // The link that the program broke after a shutdown: no other follows.
    let (mut is_shut_down, mut last) = (false, None);
    for entry in &record.entries {
        match &entry.note {
            Note::Finished(_, Operation::Shutdown, _) => is_shut_down = true,
            Note::BreakLink(BreakLink { generation, before, after }) => {
                let expected = before.filter(|live| live != generation);
                if *after != expected {
                    findings.add(entry.at, format!("break_link({generation}): {before:?} was up, and now {after:?}"));
                }
                broken.extend(before.filter(|_| after.is_none()));
                last = last.or_else(|| before.filter(|_| is_shut_down));
            }
            Note::Abandoned(id, abandoned) => {
                broken.extend(abandoned.before.filter(|_| abandoned.after.is_none()));
                last = last.or_else(|| abandoned.before.filter(|_| is_shut_down));
                let Some(links) = record.links.get(..abandoned.last_reported as usize) else { continue };
                let (then, now) = (abandoned.passed, Passed::on(links));
                // A write half gives up what it writes, and the read half may still read.
                let is_read = *id != HandleId::WriteHalf && then.read != now.read;
                if then.written != now.written || is_read {
                    findings.add(entry.at, format!("{id:?}: on links that were given up, {then:?} became {now:?}"));
                }
            }
            Note::Event(Event::Disconnected { generation, cause, retry_in, .. }) => {
                if last == Some(*generation) && retry_in.is_some() {
                    findings.add(entry.at, format!("a dial is to follow link {generation}, the last one"));
                }
                let Error::IoError { source, .. } = &**cause else { continue };
                let is_said = source.to_string() == "the program broke the link";
                said.extend(is_said.then_some(*generation));
                if is_said != broken.contains(generation) {
                    findings.add(entry.at, format!("the event of link {generation} has a wrong cause: {source}"));
                }
            }
            Note::Answer { request, answer } if request != answer => {
                findings.add(entry.at, format!("request {request} got the answer to request {answer}"));
            }
            _ => {}
        }
    }
    // Unless the connection ended at that moment, each break has its event.
    let is_missing = |link: &&u64| !said.contains(link) && (**link as usize) < record.links.len();
    if let Some(link) = broken.iter().filter(is_missing).min() {
        findings.add(Duration::ZERO, format!("the break of link {link} by the program has no event"));
    }
}
