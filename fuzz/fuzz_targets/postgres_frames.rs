//! Fuzz target: any bytes from a PostgreSQL server. Next: `tests/fuzz_corpus/postgres_frames.rs`, the check.
#![no_main]

#[path = "../../tests/fuzz_corpus/postgres_frames.rs"]
mod postgres_frames;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| postgres_frames::check(bytes));
