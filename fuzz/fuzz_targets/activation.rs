//! Fuzz target: the variables of a service manager. Next: `tests/fuzz_corpus/activation.rs`, the check.
#![no_main]

#[path = "../../tests/fuzz_corpus/activation.rs"]
mod activation;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| activation::check(bytes));
