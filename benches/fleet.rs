//! A hundred thousand clients of one server, in virtual time: how they come back after an outage.
//!
//! ```text
//! cargo bench -p perconn-benches --bench fleet                all tables; about two minutes
//! cargo bench -p perconn-benches --bench fleet -- --save      also writes them into docs/fleet.md, and docs/fleet.svg
//! ```
//!
//! Time is a queue of events, and nothing is random but by its seed: each run prints the same. The delays are those of
//! `src/backoff.rs`, and the limit is that of `src/dial_limit/rules.rs`; both are built from there. stubborn-io's are its own, and
//! the other laws are written from their sources, which [`laws`] names.
//!
//! Next: [`simulation`].

#[allow(dead_code, unexpected_cfgs, reason = "a file of the crate, which has more users there")]
#[path = "../src/backoff.rs"]
mod backoff;
#[path = "fleet/chart.rs"]
mod chart;
#[path = "fleet/laws.rs"]
mod laws;
#[path = "fleet/page.rs"]
mod page;
#[allow(dead_code, rustdoc::broken_intra_doc_links, reason = "a file of the crate, which has more users there")]
#[path = "../src/dial_limit/rules.rs"]
mod rules;
#[path = "fleet/simulation.rs"]
mod simulation;

use std::process::ExitCode;

use laws::Law;
use simulation::{Fleet, Limit, Outcome, S, run};

/// What a client does, and its name in the tables.
const LAWS: [(&str, Law, Option<Limit>); 6] = [
    ("perconn", Law::PERCONN, None),
    ("perconn, `DialLimit::new(10, 20)` for each 1,000", Law::PERCONN, Some(Limit { at_once: 10, per_second: 20 })),
    ("goperconn", Law::Goperconn, None),
    ("stubborn-io 0.3", Law::StubbornIo, None),
    ("gRPC", Law::Grpc, None),
    ("full jitter of AWS, 1 s to 60 s", Law::FullJitter, None),
];

/// The outages, and their names.
const OUTAGES: [(&str, u64); 3] = [("10 s", 10 * S), ("10 min", 600 * S), ("10 h", 36_000 * S)];

/// How many dials the server serves in a second, in most of the runs.
const SERVER: u32 = 2_000;

fn main() -> ExitCode {
    // cargo itself adds `--bench`; `cargo test --benches` does not, and gets a small fleet.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let is_saved = arguments.iter().any(|argument| argument == "--save");
    if let Some(unknown) = arguments.iter().find(|argument| !["--bench", "--save"].contains(&argument.as_str())) {
        eprintln!("fleet: unknown argument {unknown:?}; expected --save or none");
        return ExitCode::FAILURE;
    }
    let clients = if is_bench { 100_000 } else { 2_000 };
    let outages = if is_bench { &OUTAGES[..] } else { &OUTAGES[..1] };
    let mut page = page::Page::default();
    let mut drawn = Vec::new();
    for (outage, time) in outages {
        let mut rows = Vec::new();
        for (name, law, limit) in LAWS {
            let fleet = Fleet { clients, law, limit, outage: *time, server: None };
            let (unlimited, limited) = std::thread::scope(|scope| {
                let limited = scope.spawn(move || run(&Fleet { server: Some(SERVER), ..fleet }));
                (run(&fleet), limited.join().expect("the simulation ends"))
            });
            eprintln!("{outage}: {name}");
            if *outage == "10 min" || !is_bench {
                drawn.push((name, unlimited.clone(), limited.clone()));
            }
            rows.push((name.to_string(), unlimited, limited));
        }
        page.laws(outage, &rows);
    }
    page.settings(&settings(if is_bench { 1 } else { 50 }));
    print!("{}", page.text);
    if is_saved {
        return page::save(&page.text, &chart::draw(&drawn));
    }
    ExitCode::SUCCESS
}

/// Fleets of several sizes and settings, after ten minutes. The server serves 2,000 dials a second, or 200 while it is cold.
fn settings(divisor: usize) -> Vec<(String, Outcome)> {
    let perconn = |max| Law::Perconn { min: S, max: max * S };
    let limit = |at_once, per_second| Some(Limit { at_once, per_second });
    let fleets = [
        ("10 clients, the defaults", 10, perconn(60), None, SERVER),
        ("10 clients, `retry_max` 5 s", 10, perconn(5), None, SERVER),
        ("1,000 clients, the defaults", 1_000, perconn(60), None, SERVER),
        ("1,000 clients, `retry_max` 10 s", 1_000, perconn(10), None, SERVER),
        (
            "1,000 clients in one process, `retry_max` 10 s, `DialLimit::new(10, 100)`",
            1_000,
            perconn(10),
            limit(10, 100),
            SERVER,
        ),
        (
            "1,000 clients in one process, `retry_max` 10 s, `DialLimit::new(10, 20)`",
            1_000,
            perconn(10),
            limit(10, 20),
            SERVER,
        ),
        ("100,000 clients, the defaults", 100_000, perconn(60), None, SERVER),
        ("100,000 clients, `retry_max` 5 min", 100_000, perconn(300), None, SERVER),
        ("100,000 clients, `DialLimit::new(10, 20)` for each 1,000", 100_000, perconn(60), limit(10, 20), SERVER),
        ("100,000 clients, a cold server of 200 a second, the defaults", 100_000, perconn(60), None, 200),
        ("the same, `retry_max` 5 min", 100_000, perconn(300), None, 200),
        ("the same, the defaults, `DialLimit::new(10, 2)` for each 1,000", 100_000, perconn(60), limit(10, 2), 200),
    ];
    let outcome = |(name, clients, law, limit, server): (&str, usize, Law, Option<Limit>, u32)| {
        let clients = if clients > 1_000 { clients / divisor } else { clients };
        (name.to_string(), run(&Fleet { clients, law, limit, outage: 600 * S, server: Some(server) }))
    };
    fleets.map(outcome).into()
}
