//! Schedules of operations and faults, by the simulation in `tests/simulation`; the fuzzer draws instead of a seed.
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
#[path = "../../tests/simulation/judge.rs"]
mod judge;
#[path = "../../tests/simulation/message.rs"]
mod message;
#[path = "../../tests/simulation/network.rs"]
mod network;
#[path = "../../tests/simulation/schedule.rs"]
mod schedule;
#[path = "../../tests/simulation/server.rs"]
mod server;

/// libFuzzer takes any panic for a finding, also one that is caught; those of the plan are not.
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
    let verdict = judge::Verdict::on(&record);
    assert!(verdict.is_clean(), "{}", judge::report(&record, &verdict));
});
