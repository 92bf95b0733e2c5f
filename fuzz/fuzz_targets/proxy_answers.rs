//! Fuzz target: any bytes as the answers of a proxy. Next: `tests/fuzz_corpus/proxy_answers.rs`, the check.
#![no_main]

#[path = "../../tests/fuzz_corpus/proxy_answers.rs"]
mod proxy_answers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy_answers::check(bytes));
