//! Fuzz target: any bytes from a peer that answers messages. Next: `tests/fuzz_corpus/outbox_answers.rs`, the check.
#![no_main]

#[path = "../../tests/fuzz_corpus/outbox_answers.rs"]
mod outbox_answers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outbox_answers::check(bytes));
