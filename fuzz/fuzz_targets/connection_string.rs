//! Fuzz target: any text as a connection string of PostgreSQL. Next: `tests/fuzz_corpus/connection_string.rs`, the check.
#![no_main]

#[path = "../../tests/fuzz_corpus/connection_string.rs"]
mod connection_string;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| connection_string::check(bytes));
