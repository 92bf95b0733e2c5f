//! Fuzz target: the schedules of `tests/simulation`, with the decisions of the fuzzer instead of a seed.
//!
//! Next: `tests/simulation/main.rs`.
#![no_main]
#![allow(unreachable_pub, dead_code)]

use std::sync::Once;

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/simulation/choices.rs"]
mod choices;
#[path = "../../tests/simulation/client.rs"]
mod client;
#[path = "../../tests/simulation/journal.rs"]
mod journal;
#[path = "../../tests/simulation/checker.rs"]
mod checker;
#[path = "../../tests/simulation/message.rs"]
mod message;
#[path = "../../tests/simulation/network.rs"]
mod network;
#[path = "../../tests/simulation/schedule.rs"]
mod schedule;
#[path = "../../tests/simulation/server.rs"]
mod server;

/// libFuzzer counts every panic as a crash, even a caught one. This silences the intended ones.
static QUIET: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<server::Simulated>() {
                usual(info);
            }
        }));
    });
    let record = schedule::run(&choices::Choices::from_bytes(bytes));
    let findings = checker::Findings::of(&record);
    assert!(findings.is_clean(), "{}", checker::report(&record, &findings));
});
