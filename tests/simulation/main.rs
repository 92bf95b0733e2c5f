//! Simulation: schedules of operations and faults in virtual time, drawn from a seed and checked afterwards.
//!
//! A schedule is a connection with settings, a program whose tasks use it, and a network that refuses, stalls, fails and
//! returns spurious results. Everything runs on one thread under paused time, so that a seed repeats a schedule exactly.
//! Afterwards the [checker] checks every promise from the records of both ends.
//!
//! ```text
//! cargo test --release --test simulation -- --nocapture        # 10,000 schedules, and the mutants of the rules
//! PERCONN_SIMULATION_SEEDS=1000000 cargo test --release --test simulation -- --nocapture
//! PERCONN_SIMULATION_SEED=4711 cargo test --test simulation -- --nocapture      # one, with its journal
//! ```
//!
//! Next: [schedule], then [checker].

#![allow(unreachable_pub, reason = "a test has no public items")]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use checker::Findings;
use choices::Choices;
use server::Simulated;

mod checker;
mod choices;
mod client;
mod journal;
mod message;
#[cfg(not(debug_assertions))]
mod mutants;
mod network;
mod schedule;
mod server;

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?}: expected a number")))
}

/// Silences the panics that the schedules intend. Others are printed with their seed.
fn quiet_simulated_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Simulated>() {
            usual(info);
        }
    }));
}

/// Runs one schedule and checks it. A panic is a violation, too.
fn try_seed(seed: u64) -> (Findings, String) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let record = schedule::run(&Choices::from_seed(seed));
        let findings = Findings::of(&record);
        let report = if findings.is_clean() { String::new() } else { checker::report(&record, &findings) };
        (findings, report)
    }));
    outcome.unwrap_or_else(|panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        let findings = Findings { violations: vec![format!("a panic: {text}")], ..Findings::default() };
        (findings, String::new())
    })
}

#[test]
fn every_promise_holds() {
    quiet_simulated_panics();
    if let Some(seed) = setting("PERCONN_SIMULATION_SEED") {
        let record = schedule::run(&Choices::from_seed(seed));
        let findings = Findings::of(&record);
        println!("{}", checker::report(&record, &findings));
        assert!(findings.is_clean(), "seed {seed}");
        return;
    }
    let seeds = setting("PERCONN_SIMULATION_SEEDS").unwrap_or(if cfg!(debug_assertions) { 2_000 } else { 10_000 });
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let [operations, breaks, abandons, answers] = [const { AtomicUsize::new(0) }; 4];
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let (findings, report) = try_seed(seed);
                    operations.fetch_add(findings.operations, Ordering::Relaxed);
                    breaks.fetch_add(findings.breaks, Ordering::Relaxed);
                    abandons.fetch_add(findings.abandons, Ordering::Relaxed);
                    answers.fetch_add(findings.answers, Ordering::Relaxed);
                    if !findings.is_clean() && !failed.swap(true, Ordering::Relaxed) {
                        println!("{report}");
                        println!("seed {seed} broke a promise: {}", findings.violations.join("; "));
                        println!("again: PERCONN_SIMULATION_SEED={seed} cargo test --test simulation -- --nocapture");
                    }
                }
            });
        }
    });
    assert!(!failed.load(Ordering::Relaxed), "a promise was broken; the seed is printed above");
    let [operations, breaks, abandons, answers] = [operations, breaks, abandons, answers].map(AtomicUsize::into_inner);
    println!(
        "{seeds} schedules, {operations} operations, {breaks} breaks, {abandons} links given up, {answers} answers: every \
         promise held"
    );
}

#[test]
fn seed_repeats_its_schedule_exactly() {
    quiet_simulated_panics();
    for seed in 0..1_000 {
        let run = || journal::text(&schedule::run(&Choices::from_seed(seed)).entries);
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn schedules_that_a_fuzzer_kept_break_no_promise() {
    quiet_simulated_panics();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/schedule");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("no corpus in {}: the published package does not contain it", folder.display());
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let record = schedule::run(&Choices::from_bytes(&std::fs::read(&path).unwrap()));
        let findings = Findings::of(&record);
        assert!(findings.is_clean(), "{}: {}", path.display(), checker::report(&record, &findings));
    }
}
