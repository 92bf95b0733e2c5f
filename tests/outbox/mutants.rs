//! The outbox's judge, and the crate with one rule of the outbox broken at a time.
//!
//! The judge plays its schedules within the library, `src/outbox/store/judge.rs`. One copy of the crate contains all
//! mutants, as for the simulation.
//!
//! ```text
//! cargo test --features outbox --test outbox mutants -- --ignored --nocapture
//! ```
//!
//! Next: `tests/mutants/outbox.rs`, the mutants.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use copy::{VARIABLE, build, copy_crate};
use table::MUTANTS;

#[path = "../mutants/copy.rs"]
mod copy;
#[path = "../mutants/marks.rs"]
mod marks;
#[path = "../mutants/outbox.rs"]
mod table;

/// How long a mutant may run. One that neither ends nor breaks a rule hangs, which is found, too.
const TIME_LIMIT: Duration = Duration::from_secs(120);

#[test]
#[ignore = "builds a copy of the crate: `scripts/gates models`"]
fn every_mutant_of_the_outbox_is_caught() {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outbox_mutants");
    copy_crate(&copy, MUTANTS);
    let program = build(&copy, &mut cargo());
    assert!(!is_caught(&program, None), "the judge finds something without a mutant");
    let mut survivors = Vec::new();
    for (number, mutant) in MUTANTS.iter().enumerate() {
        match is_caught(&program, Some(number)) {
            true => println!("caught: {}", mutant.name),
            false => survivors.push(mutant.name),
        }
    }
    assert!(survivors.is_empty(), "the judge missed {survivors:#?}");
    println!("{} mutants, and every one was caught", MUTANTS.len());
}

/// Plays the judge's schedules with a mutant on.
fn is_caught(program: &Path, mutant: Option<usize>) -> bool {
    let mut playing = Command::new(program)
        .args(["--exact", "outbox::store::judge::every_rule_holds"])
        .env(VARIABLE, mutant.map_or_else(String::new, |number| number.to_string()))
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the judge can be started");
    let began = Instant::now();
    loop {
        if let Some(status) = playing.try_wait().expect("the judge can be waited for") {
            return !status.success();
        }
        if began.elapsed() > TIME_LIMIT {
            playing.kill().expect("the judge can be ended");
            playing.wait().expect("the judge has ended");
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The build of the copy's library with its unit tests.
fn cargo() -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["test", "--offline", "--no-run", "--lib", "--features", "outbox"])
        .args(["--config", "profile.dev.opt-level=1", "--config", "profile.dev.package.'*'.opt-level=0"])
        .env("CARGO_TARGET_DIR", target.join("outbox_mutants"));
    cargo
}
