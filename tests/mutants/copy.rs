//! A copy of the crate with mutants: a variable of the environment says which of them is on. So there is one build for
//! all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::marks::{Mutant, crate_folder, mutated_lines};

/// The variable of the environment that says which mutant is on, by its index.
pub const VARIABLE: &str = "PERCONN_MUTANT";

/// Copies the crate of the running test, with these mutants.
pub fn copy_crate(copy: &Path, mutants: &[Mutant]) {
    let mutated = mutated_lines(mutants);
    for part in ["Cargo.toml", "Cargo.lock", "README.md", "src", "benches", "examples", "interop", "tests"] {
        copy_all(Path::new(part), copy, &mutated);
    }
}

/// Builds a test program of the copy. Returns its path.
pub fn build(copy: &Path, cargo: &mut Command) -> PathBuf {
    let output = cargo.current_dir(copy).output().expect("cargo can be run");
    let messages = String::from_utf8_lossy(&output.stderr);
    // Executable tests/simulation/main.rs (/target/debug/deps/simulation-0123456789abcdef)
    let path = messages.lines().find_map(|line| line.trim().strip_prefix("Executable")?.split_once('('));
    let (_, path) = path.unwrap_or_else(|| panic!("the mutant was not built:\n{messages}"));
    copy.join(path.trim_end_matches(')'))
}

/// Copies a file or a folder of the crate, with the lines that mutants change. Leaves files alone that have not
/// changed, so that cargo does not build them again.
fn copy_all(name: &Path, copy: &Path, mutated: &BTreeMap<PathBuf, BTreeMap<usize, String>>) {
    let (from, to) = (crate_folder().join(name), copy.join(name));
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            copy_all(&name.join(entry.unwrap().file_name()), copy, mutated);
        }
        return;
    }
    let mut content = fs::read(from).unwrap();
    if let Some(changed) = mutated.get(name) {
        let source = String::from_utf8(content).expect("source is text");
        let lines = source.lines().enumerate();
        let lines: Vec<&str> = lines.map(|(index, line)| changed.get(&index).map_or(line, |line| line)).collect();
        content = lines.join("\n").into_bytes();
    }
    if name == Path::new("src/lib.rs") {
        content.extend(is_mutant().into_bytes());
    }
    if fs::read(&to).ok().as_ref() != Some(&content) {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, content).unwrap();
    }
}

/// The function of the copy that says whether a mutant is on.
fn is_mutant() -> String {
    format!(
        "
        fn is_mutant(number: u32) -> bool {{
            static MUTANT: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
            let read = || std::env::var({VARIABLE:?}).ok()?.parse().ok();
            *MUTANT.get_or_init(read) == Some(number)
        }}
        "
    )
}
