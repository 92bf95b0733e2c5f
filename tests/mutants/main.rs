//! The mutants: versions of the crate with one rule of its source broken.
//!
//! The [simulation], the [models] and the judge of the [outbox] have to find theirs. `tests/simulation/mutants.rs`,
//! `tests/models.rs` and `tests/outbox/mutants.rs` build and run them, which takes minutes. The tests here only read the source, to see that each mutant has a line to break.
//!
//! Next: [marks].

#![allow(unreachable_pub, reason = "a test has no public items")]

use std::collections::BTreeSet;

use marks::{marked_lines, mutated_lines, replaced_part};

mod marks;
mod models;
mod outbox;
mod simulation;

#[test]
fn every_mutant_has_a_marked_line_to_break() {
    mutated_lines(simulation::MUTANTS);
    mutated_lines(&models::mutants());
    mutated_lines(outbox::MUTANTS);
}

#[test]
fn every_mark_has_a_mutant() {
    let models = models::mutants();
    let broken: BTreeSet<&str> =
        simulation::MUTANTS.iter().chain(&models).chain(outbox::MUTANTS).map(|mutant| mutant.rule).collect();
    for rule in marked_lines().keys() {
        assert!(broken.contains(rule.as_str()), "src has the mark `// rule: {rule}`, and no mutant breaks that rule");
    }
}

#[test]
fn form_of_a_line_says_what_a_mutant_replaces() {
    let part = |code: &'static str, next| replaced_part("{", code, next).map(|part| &code[part]);
    for (code, replaced) in [
        ("let pace = if is_first { Jitter } else { Backoff };", "if is_first { Jitter } else { Backoff }"),
        ("if a >= b {", "a >= b"),
        ("if let Err(error) = catch(|| hook()) {", "catch(|| hook())"),
        ("match queue.pop() {", "queue.pop()"),
        ("for id in waiters.into_values() {", "waiters.into_values()"),
        ("Some(count) if attempt < count => {", "attempt < count"),
        ("(_, Close) => (Ended, Stop),", "(Ended, Stop)"),
        ("is_last: state.is_closing,", "state.is_closing"),
        ("total += 1;", "total += 1;"),
        ("if a { b } else { c }", "if a { b } else { c }"),
    ] {
        assert_eq!(part(code, "}"), Some(replaced), "{code}");
    }
    for code in ["} else if a {", "loop {", "call(", "Some(a) => {", "}", "fn name() {"] {
        assert_eq!(part(code, "}"), None, "{code}");
    }
    assert_eq!(part("first()", ".second()"), None, "an expression that goes on");
    assert_eq!(replaced_part("let a =", "b;", ""), None, "an expression that began before");
}
