//! Fuzz target: any bytes from a trusted proxy. Next: `tests/fuzz_corpus/proxy_protocol.rs`, the check.
#![no_main]

#[path = "../../tests/fuzz_corpus/proxy_protocol.rs"]
mod proxy_protocol;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy_protocol::check(bytes));
