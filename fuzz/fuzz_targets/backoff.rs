//! Any delays and limits: they are refused with an error, or every delay of a long outage keeps the law.
#![no_main]

#[path = "../../tests/fuzz_corpus/backoff.rs"]
mod backoff;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| backoff::check(bytes));
