//! The corpora of the fuzzers, checked again. `simulation` does the same for the schedules.
//!
//! The checks are those of the fuzz targets: `fuzz/fuzz_targets` includes these files. To fuzz one of them:
//!
//! ```text
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run address      # with `RUSTC_BOOTSTRAP=1 cargo fuzz run address -s none`, without a nightly Rust
//! ```
//!
//! A corpus has at most 50 files, the smallest that reach what can be reached: `cargo +nightly fuzz cmin`.
//!
//! Next: `address.rs`, the first check.

#[cfg(all(target_os = "linux", feature = "activation"))]
mod activation;
mod address;
mod backoff;
#[cfg(feature = "codec")]
mod codec;
#[cfg(feature = "postgres")]
mod connection_string;
#[cfg(feature = "outbox")]
mod outbox_answers;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "postgres")]
mod postgres_frames;
#[cfg(feature = "proxy")]
mod proxy_answers;
#[cfg(all(target_os = "linux", feature = "proxy-protocol"))]
mod proxy_protocol;

/// Runs a check on each input of its corpus.
fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("no corpus in {}: the published package does not contain it", folder.display());
        return;
    };
    let inputs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(!inputs.is_empty());
    for input in inputs {
        println!("{}", input.display());
        check(&std::fs::read(&input).unwrap());
    }
}

#[test]
fn addresses() {
    replay("address", address::check);
}

#[test]
fn backoffs() {
    replay("backoff", backoff::check);
}

#[cfg(feature = "codec")]
#[test]
fn codecs() {
    replay("codec", codec::check);
}

#[cfg(feature = "postgres")]
#[test]
fn connection_strings() {
    replay("connection_string", connection_string::check);
}

#[cfg(feature = "outbox")]
#[test]
fn answers_to_an_outbox() {
    replay("outbox_answers", outbox_answers::check);
}

#[cfg(feature = "tls")]
#[test]
fn pems() {
    replay("pem", pem::check);
}

#[cfg(feature = "postgres")]
#[test]
fn frames_of_postgres() {
    replay("postgres_frames", postgres_frames::check);
}

#[cfg(feature = "proxy")]
#[test]
fn answers_of_a_proxy() {
    replay("proxy_answers", proxy_answers::check);
}

#[cfg(all(target_os = "linux", feature = "proxy-protocol"))]
#[test]
fn proxy_headers() {
    replay("proxy_protocol", proxy_protocol::check);
}

#[cfg(all(target_os = "linux", feature = "activation"))]
#[test]
fn variables_of_a_service_manager() {
    replay("activation", activation::check);
}
