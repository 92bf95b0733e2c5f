//! Mutation test of the checker: the crate with one rule broken at a time.
//!
//! Each mutant changes one line of the source. One copy of the crate contains all of them, and a variable of the
//! environment says which one is on. So there is only one build. Each mutant runs the same schedules until the checker
//! reports a violation. A mutant that survives is a gap in the checker.
//!
//! The build takes a while, so this runs in release builds only: `cargo test --release --test simulation`. Next:
//! `tests/mutants/simulation.rs`, the mutants; then `checker.rs`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use copy::{VARIABLE, build, copy_crate};
use table::MUTANTS;

#[path = "../mutants/copy.rs"]
mod copy;
#[path = "../mutants/marks.rs"]
mod marks;
#[path = "../mutants/simulation.rs"]
mod table;

/// How many schedules a mutant has to survive to count as undetected.
const SCHEDULES: &str = "10000";

#[test]
fn every_mutant_is_caught() {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    copy_crate(&copy, MUTANTS);
    let program = build(&copy, &mut cargo());
    let mut survivors = Vec::new();
    for (number, mutant) in MUTANTS.iter().enumerate() {
        match run(&program, &copy, number) {
            Some(finding) => println!("caught: {}: {finding}", mutant.name),
            None => survivors.push(mutant.name),
        }
    }
    assert!(survivors.is_empty(), "the checker missed {survivors:?}");
    println!("{} mutants, and every one was caught", MUTANTS.len());
}

/// How long a mutant may run. One that neither ends nor violates anything hangs, which is a violation, too.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// Runs schedules with one mutant on. Returns the first violation.
///
/// Ends the mutant as soon as it has printed a violation: in another of its threads it may be in an endless loop.
fn run(program: &Path, copy: &Path, number: usize) -> Option<String> {
    let mut mutant = Command::new(program)
        .args(["--exact", "every_promise_holds", "--nocapture"])
        .current_dir(copy)
        .env("PERCONN_SIMULATION_SEEDS", SCHEDULES)
        .env(VARIABLE, number.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the mutant can be started");
    let output = BufReader::new(mutant.stdout.take().expect("its output is a pipe"));
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
    let end = Instant::now() + TIME_LIMIT;
    let mut is_running_it = false;
    let finding = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains("broke a promise") => break Some(line),
            Ok(line) => is_running_it |= line.contains("running 1 test"),
            Err(RecvTimeoutError::Timeout) => break Some(format!("it hangs: no end after {TIME_LIMIT:?}")),
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    mutant.kill().expect("the mutant can be ended");
    mutant.wait().expect("the mutant has ended");
    drop(lines);
    reader.join().expect("the reader does not panic");
    assert!(is_running_it, "the mutant has no test `every_promise_holds`");
    finding.map(|finding| finding.split("; ").next().unwrap_or(&finding).to_owned())
}

/// The build of the copy's simulation.
fn cargo() -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["test", "--offline", "--no-run", "--test", "simulation"])
        // Built as for the other tests and in the same folder, so that most dependencies need no new build.
        .args(["--config", "profile.dev.opt-level=1", "--config", "profile.dev.package.tokio.opt-level=1"])
        .args(["--config", "profile.dev.package.'*'.opt-level=0"])
        .env("CARGO_TARGET_DIR", target);
    cargo
}
