//! Fuzz target: any text as an address. Next: `tests/fuzz_corpus/address.rs`, the check.
#![no_main]

#[path = "../../tests/fuzz_corpus/address.rs"]
mod address;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| address::check(bytes));
