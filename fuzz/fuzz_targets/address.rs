//! Any text for an address: it is taken, or refused with an error that names it. Nothing panics.
#![no_main]

#[path = "../../tests/fuzz_corpus/address.rs"]
mod address;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| address::check(bytes));
