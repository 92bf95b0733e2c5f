//! `perconn` beside the bare `TcpStream`, the `TcpStream` behind a mutex, and stubborn-io, in one run.
//!
//! ```text
//! cargo bench --bench versus                   everything, as Markdown; about four minutes
//! cargo bench --bench versus -- echo idle      only the chapters with these names
//! cargo bench --bench versus -- --save         also writes docs/versus.md and docs/versus.svg
//! ```
//!
//! # How it is measured
//!
//! The machine's moods are larger than the differences. So the contestants take turns: each round runs every one of them
//! once, on a socket of its own, in an order that moves on by one. A figure is the ratio of two times of the same
//! round, and the median of all rounds is shown with the quartiles. The client's thread and the server's process are kept
//! on different cores, where there are two and the kernel lets us. What is counted (memory, wake-ups, instructions) is
//! counted in a process of its own.
//!
//! This file is both sides: it starts itself again as a server, and as a client that is counted.

mod versus {
    pub(crate) mod arena;
    pub(crate) mod chart;
    pub(crate) mod contestants;
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
use versus::{arena, idle, instructions, outage, report, shared, stream};

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
    // (cargo itself adds `--bench`.)
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["as-server", kind, address, core] => return arena::serve(kind, address, core),
        ["as-idle", who, count, address] => return idle::hold(who, count, address),
        ["as-hot", who, what, count, address] => return instructions::run(who, what, count, address),
        _ => {}
    }
    let save = words.contains(&"--save");
    let chosen: Vec<&str> = words.into_iter().filter(|word| *word != "--save").collect();
    if let Some(unknown) = chosen.iter().find(|word| CHAPTERS.iter().all(|(name, _)| name != *word)) {
        let names = CHAPTERS.map(|(name, _)| name).join(", ");
        eprintln!("versus: no chapter is named {unknown:?}; there are: {names} (and --save, which needs all of them)");
        return ExitCode::FAILURE;
    }
    if save && !chosen.is_empty() {
        eprintln!("versus: --save needs all chapters");
        return ExitCode::FAILURE;
    }
    let is_chosen = |name: &str| chosen.is_empty() || chosen.contains(&name);
    // Each in a thread of its own: some keep theirs on one core.
    let measured = |measure: Measure| thread::spawn(measure).join().unwrap_or_default();
    let chosen = CHAPTERS.iter().filter(|(name, _)| is_chosen(name));
    let chapters: Vec<Chapter> = chosen.flat_map(|(_, measure)| measured(*measure)).collect();
    report::print(&chapters);
    if save {
        report::save(&chapters);
    }
    ExitCode::SUCCESS
}
