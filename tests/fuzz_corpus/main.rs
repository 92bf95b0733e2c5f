//! What the fuzzers have found worth keeping, played again. (The schedules are played again by `simulation`.)
//!
//! The checks are the fuzz targets' own: `fuzz/fuzz_targets` includes these files. To fuzz:
//!
//! ```text
//! cargo install cargo-fuzz
//! RUSTC_BOOTSTRAP=1 cargo fuzz run address -s none     # or backoff, schedule
//! ```

mod address;
mod backoff;

/// Runs a check on each input that is kept for it.
fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("there is no corpus in {}: it is not a part of the package", folder.display());
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
