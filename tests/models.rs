//! The models of the hand-made synchronisation, and the crate with one rule of it broken at a time.
//!
//! A model passes with the source as it is, and finds each of its mutants. It plays its schedules within the library,
//! beside what it checks: `src/sync/modelled.rs` says how. One copy of the crate contains all mutants, as for the
//! simulation.
//!
//! ```text
//! cargo test --test models -- --ignored --nocapture                            # all models, and all mutants
//! RUSTFLAGS="--cfg perconn_loom" cargo test --lib --features pool models::     # the models alone
//! ```
//!
//! Next: [`MODELS`], which has the mutants of each model.

#![allow(unreachable_pub, reason = "a test has no public items")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use copy::{VARIABLE, build, copy_crate};
use table::MODELS;

#[path = "mutants/copy.rs"]
mod copy;
#[path = "mutants/marks.rs"]
mod marks;
#[path = "mutants/models.rs"]
mod table;

#[test]
#[ignore = "builds the crate with loom: `scripts/gates models`"]
fn every_model_passes_and_finds_its_mutants() {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models");
    copy_crate(&copy, &table::mutants());
    let began = Instant::now();
    let program = build(&copy, &mut cargo());
    println!("built in {:.0?}", began.elapsed());
    let listed = list(&program);
    for model in &listed {
        assert!(MODELS.iter().any(|(name, mutants)| name == model && !mutants.is_empty()), "{model} has no mutant");
    }
    let (mut mistakes, mut number) = (Vec::new(), 0);
    for (model, mutants) in MODELS {
        assert!(listed.iter().any(|name| name == model), "there is no model {model}");
        let began = Instant::now();
        match play(&program, &copy, model, None) {
            Ok(schedules) => println!("passed: {model}: {schedules}, {:.1?}", began.elapsed()),
            Err(finding) => mistakes.push(format!("{model}: {finding}")),
        }
        for mutant in *mutants {
            match play(&program, &copy, model, Some(number)) {
                Ok(_) => mistakes.push(format!("{model} does not find {}", mutant.name)),
                Err(finding) => println!("  caught: {}: {finding}", mutant.name),
            }
            number += 1;
        }
    }
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    println!("{} models and {number} mutants, and every one was caught", MODELS.len());
}

/// The build of the models. It has a folder of its own, as other flags mean other builds of all dependencies.
fn cargo() -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["test", "--locked", "--no-run", "--lib", "--features", "pool"])
        .args(["--config", "profile.dev.opt-level=1", "--config", "profile.dev.package.'*'.opt-level=0"])
        // What a model spends its time in.
        .args(["--config", "profile.dev.package.loom.opt-level=2"])
        .args(["--config", "profile.dev.package.generator.opt-level=2"])
        .env("CARGO_TARGET_DIR", target.join("models"))
        .env("RUSTFLAGS", "--cfg perconn_loom");
    cargo
}

/// The names of the models in the program.
fn list(program: &Path) -> Vec<String> {
    let output = Command::new(program).args(["models::", "--list"]).output().expect("the program can be started");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// How long one model may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Plays a model, perhaps with a mutant on. Returns how many schedules it has, or what it has found.
fn play(program: &Path, copy: &Path, model: &str, mutant: Option<usize>) -> Result<String, String> {
    let path = copy.join("output.txt");
    let output = File::create(&path).expect("the output can be stored");
    let mut playing = Command::new(program)
        .args(["--exact", model, "--nocapture"])
        .env(VARIABLE, mutant.map_or_else(String::new, |number| number.to_string()))
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::from(output.try_clone().expect("the output can be shared")))
        .stderr(Stdio::from(output))
        .spawn()
        .expect("the program can be started");
    let began = Instant::now();
    let status = loop {
        if let Some(status) = playing.try_wait().expect("the program can be waited for") {
            break status;
        }
        // No schedule is endless. A mutant that takes too long may still be one that nothing finds.
        if began.elapsed() > TIME_LIMIT {
            playing.kill().expect("the program can be ended");
            playing.wait().expect("the program has ended");
            panic!("{model}, mutant {mutant:?}: no end after {TIME_LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(10));
    };
    let output = fs::read_to_string(&path).expect("the output was stored");
    assert!(output.contains("running 1 test"), "{model} was not played: {status}\n{output}");
    if status.success() {
        let schedules = output.lines().find(|line| line.ends_with(" schedules"));
        return Ok(schedules.unwrap_or_else(|| panic!("{model} has no schedules:\n{output}")).to_owned());
    }
    // thread 'pool::models::close_ends_a_dial' (4711) panicked at src/pool/models.rs:1:2:
    // deadlock; threads = [...]
    let mut lines = output.lines().skip_while(|line| !line.contains(" panicked at "));
    let finding = lines.nth(1).unwrap_or_else(|| panic!("{model} failed without a panic: {status}\n{output}"));
    Err(finding.split("; threads").next().unwrap_or(finding).to_owned())
}
