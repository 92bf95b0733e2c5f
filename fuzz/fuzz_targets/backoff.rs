//! Fuzz target: any delays and limits of retries. Next: `tests/fuzz_corpus/backoff.rs`, the check.
#![no_main]

#[path = "../../tests/fuzz_corpus/backoff.rs"]
mod backoff;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| backoff::check(bytes));
