//! The corpus of the fuzzers, checked again. `simulation` does the same for the schedules.
//!
//! The checks are those of the fuzz targets: `fuzz/fuzz_targets` includes these files. To fuzz:
//!
//! ```text
//! cargo install cargo-fuzz
//! RUSTC_BOOTSTRAP=1 cargo fuzz run address -s none     # or backoff, schedule
//! ```
//!
//! Next: `address.rs` and `backoff.rs`, the checks.

mod address;
mod backoff;

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
