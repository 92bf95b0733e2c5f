//! Fuzz target: any bytes through a codec. Next: `tests/fuzz_corpus/codec.rs`, the check.
#![no_main]

#[path = "../../tests/fuzz_corpus/codec.rs"]
mod codec;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| codec::check(bytes));
