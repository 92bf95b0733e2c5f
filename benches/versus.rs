//! `perconn` beside the bare `TcpStream`, the `TcpStream` behind a mutex, and stubborn-io, in one run.
//!
//! ```text
//! cargo bench -p perconn-benches --bench versus                 everything, as Markdown; about four minutes
//! cargo bench -p perconn-benches --bench versus -- echo idle    only the chapters with these names
//! cargo bench -p perconn-benches --bench versus -- --save       also writes docs/versus.md, docs/versus.svg and the README's table
//! ```
//!
//! # How it is measured
//!
//! The noise of a machine is larger than the differences. So the candidates alternate: each round runs every one of them
//! once, on a socket of its own, and each round begins with another one. A figure is the ratio of two times of the same
//! round. The report shows the median of all rounds with the quartiles. The client's thread and the server's process are
//! pinned to different cores if there are two. Memory, wake-ups and instructions are counted in a process of their own.
//!
//! This program is both sides: it starts itself again as a server, and as a client whose costs are counted.
//!
//! Next: [`versus::harness`], which starts servers and alternates candidates.

mod versus {
    pub(crate) mod candidates;
    pub(crate) mod chart;
    pub(crate) mod harness;
    pub(crate) mod idle;
    pub(crate) mod instructions;
    pub(crate) mod outage;
    pub(crate) mod report;
    pub(crate) mod shared;
    pub(crate) mod stream;
    pub(crate) mod table;
}

use std::process::ExitCode;
use std::thread;

use versus::table::Chapter;
use versus::{harness, idle, instructions, outage, report, shared, stream};

type Measure = fn() -> Vec<Chapter>;

/// The chapters of the report.
const CHAPTERS: [(&str, Measure); 7] = [
    ("echo", stream::echo),
    ("bulk", stream::bulk),
    ("halves", stream::halves),
    ("shared", shared::writers),
    ("outage", outage::measure),
    ("idle", idle::measure),
    ("instructions", instructions::measure),
];

fn main() -> ExitCode {
    // cargo itself adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["as-server", kind, address, core] => return harness::serve(kind, address, core),
        ["as-idle", candidate, count, address] => return idle::hold(candidate, count, address),
        ["as-hot", candidate, what, count, address] => return instructions::run(candidate, what, count, address),
        _ => {}
    }
    let save = words.contains(&"--save");
    let chosen: Vec<&str> = words.into_iter().filter(|word| *word != "--save").collect();
    if let Some(unknown) = chosen.iter().find(|word| CHAPTERS.iter().all(|(name, _)| name != *word)) {
        let names = CHAPTERS.map(|(name, _)| name).join(", ");
        eprintln!("versus: no chapter is named {unknown:?}; expected some of {names}, or --save without any");
        return ExitCode::FAILURE;
    }
    if save && !chosen.is_empty() {
        eprintln!("versus: --save writes all chapters; expected no names beside it");
        return ExitCode::FAILURE;
    }
    let is_chosen = |name: &str| chosen.is_empty() || chosen.contains(&name);
    // Each chapter has a thread of its own, since some pin theirs to a core.
    let measured = |measure: Measure| thread::spawn(measure).join().unwrap_or_default();
    let chosen = CHAPTERS.iter().filter(|(name, _)| is_chosen(name));
    let chapters: Vec<Chapter> = chosen.flat_map(|(_, measure)| measured(*measure)).collect();
    report::print(&chapters);
    if save {
        report::save(&chapters);
    }
    ExitCode::SUCCESS
}
