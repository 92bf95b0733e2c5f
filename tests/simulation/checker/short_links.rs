//! Checks what a shared connection does about links that broke before they were stable. The next job of a clone reports
//! the one that its jobs were on, once. Jobs are not sent on the link after such a one until that has settled, and in
//! that time `WhenDown::WaitFor` counts it as no link.
//!
//! Next: `waits.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::time::Duration;

use perconn::{Event, WhenDown};

use super::reports::decided_kind;
use super::{Findings, Lifetime, TICK, lifetimes};
use crate::journal::{HandleId, Note, Operation, Outcome, Refusal};
use crate::message;
use crate::schedule::Record;

/// After how many further links a short one may be forgotten, if not all of them were short.
const REMEMBERED: u64 = 15;

pub(super) fn check(record: &Record, findings: &mut Findings) {
    if record.settings.use_case.has_queue() {
        let short = short_links(record);
        check_reports(record, &short, findings);
        check_settling(record, &short, findings);
    }
}

/// The short links, and where in the journal their events are.
fn short_links(record: &Record) -> BTreeMap<u64, usize> {
    let events = record.entries.iter().enumerate().filter_map(|(index, entry)| match &entry.note {
        Note::Event(Event::Disconnected { generation, lived, cause, .. }) => {
            let is_by_program = decided_kind(cause) == Some(io::ErrorKind::ConnectionAborted);
            (*lived < record.settings.stable_after && !is_by_program).then_some((*generation, index))
        }
        _ => None,
    });
    events.collect()
}

/// What one writer has to report.
#[derive(Default)]
struct Writer {
    /// Where its job began.
    began: usize,
    /// The links of its jobs that it has not reported.
    links: BTreeSet<u64>,
    /// The links on which jobs may be whose futures were dropped. It need not report them.
    dropped: BTreeSet<u64>,
}

impl Writer {
    /// The short links that its job had to report when it began.
    fn due<'a>(&'a self, short: &'a BTreeMap<u64, usize>, newest: u64) -> impl Iterator<Item = u64> + 'a {
        let is_due =
            move |link: &u64| newest < link + REMEMBERED && short.get(link).is_some_and(|broken| *broken < self.began);
        self.links.iter().copied().filter(is_due)
    }

    /// Its job has reported this link. That covers all jobs before it, but for those on the newest link.
    fn report(&mut self, link: u64) {
        let newest = self.links.pop_last();
        self.links.clear();
        self.links.extend(newest.filter(|newest| *newest != link));
    }
}

fn check_reports(record: &Record, short: &BTreeMap<u64, usize>, findings: &mut Findings) {
    if !record.settings.faults.reports_close {
        // Jobs that were lost on a closed link left no trace of where they were.
        return;
    }
    let mut link_of = HashMap::new();
    for link in &record.links {
        let link = link.lock();
        let messages = message::decode(&link.accepted).map_or_else(|_| Vec::new(), |(messages, _)| messages);
        link_of.extend(messages.into_iter().map(|message| (message, link.number)));
    }
    let mut writers: HashMap<u32, Writer> = HashMap::new();
    let mut newest = 0;
    for (index, entry) in record.entries.iter().enumerate() {
        match &entry.note {
            Note::Event(Event::Connected { generation, .. } | Event::Reconnected { generation, .. }) => {
                newest = *generation;
            }
            Note::Began(HandleId::SharedWriter(number), Operation::Write) => {
                writers.entry(*number).or_default().began = index;
            }
            Note::Job(message, outcome) => {
                let writer = writers.entry(message >> message::WRITER_SHIFT).or_default();
                let due = writer.due(short, newest).last();
                match outcome {
                    Outcome::ShortLink(link) => {
                        let has_jobs = writer.links.contains(link) || writer.dropped.contains(link);
                        if !has_jobs || !short.contains_key(link) {
                            findings.add(entry.at, format!("message {message} reported link {link} for no reason"));
                        }
                        writer.report(*link);
                        continue;
                    }
                    Outcome::Cancelled => {
                        writer.dropped.extend(link_of.get(message).copied().into_iter().chain([newest]));
                        continue;
                    }
                    Outcome::Refused(Refusal::Closed | Refusal::GaveUp) => continue,
                    Outcome::Done => writer.links.extend(link_of.get(message)),
                    Outcome::Reported(link, _) => _ = writer.links.remove(link),
                    _ => {}
                }
                if let Some(link) = due {
                    findings.add(entry.at, format!("message {message} did not report the short link {link}"));
                }
            }
            _ => {}
        }
    }
}

fn check_settling(record: &Record, short: &BTreeMap<u64, usize>, findings: &mut Findings) {
    let settle_time = record.settings.settle_time;
    let mut usable = lifetimes(record);
    for (link, lifetime) in (1..).zip(&mut usable) {
        if short.contains_key(&(link - 1)) {
            lifetime.up += settle_time;
        }
    }
    let mut began = HashMap::new();
    for entry in &record.entries {
        match &entry.note {
            Note::FirstBytes(link) => {
                let settled = usable.get(*link as usize - 1).map_or(Duration::ZERO, |lifetime| lifetime.up);
                if entry.at + TICK < settled {
                    findings.add(entry.at, format!("a job was sent on link {link}, which settles until {settled:?}"));
                }
            }
            Note::Began(id @ HandleId::SharedWriter(_), Operation::Write) => _ = began.insert(*id, entry.at),
            Note::Finished(id @ HandleId::SharedWriter(_), Operation::Write, _) => {
                let Some(began) = began.remove(id) else { continue };
                let WhenDown::WaitFor(limit) = record.settings.when_down else { continue };
                let (waited, outages) = time_without_link(&usable, began, entry.at);
                if waited > (limit + TICK) * outages {
                    findings.add(entry.at, format!("a job waited {waited:?} in {outages} outages"));
                }
            }
            _ => {}
        }
    }
}

/// How long there was no link to use between two moments, and in how many pieces at most.
fn time_without_link(usable: &[Lifetime], began: Duration, ended: Duration) -> (Duration, u32) {
    let mut pieces = 1;
    let mut waited = ended - began;
    for lifetime in usable {
        let (up, down) = (lifetime.up.max(began), lifetime.down.unwrap_or(ended).min(ended));
        if up <= down {
            pieces += 1;
            waited -= down - up;
        }
    }
    (waited, pieces)
}
