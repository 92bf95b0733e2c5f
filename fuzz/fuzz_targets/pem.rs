//! Fuzz target: any text as PEM. Next: `tests/fuzz_corpus/pem.rs`, the check.
#![no_main]

#[path = "../../tests/fuzz_corpus/pem.rs"]
mod pem;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pem::check(bytes));
