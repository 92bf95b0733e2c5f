//! A copy of the crate with mutants: each of them changes one place of the source, if a variable of the environment says
//! so. So there is one build for all of them.
//!
//! The simulation and the models use it, to see that they find what is broken.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A rule, and how it is broken.
///
/// `original` is an expression or whole statements, found once in the file, and so is `broken`, its wrong version. If
/// `broken` contains [`IS_ON`], it replaces the original as it stands: that word is true if the mutant is on.
#[derive(Clone, Copy)]
pub struct Mutant {
    pub name: &'static str,
    pub file: &'static str,
    pub original: &'static str,
    pub broken: &'static str,
}

/// Stands in a mutant for the question whether it is on.
const IS_ON: &str = "IS_ON";

/// The variable of the environment that says which mutant is on, by its index.
pub const VARIABLE: &str = "PERCONN_MUTANT";

/// Copies the crate of the running test, with these mutants.
pub fn copy_crate(copy: &Path, mutants: &[Mutant]) {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in ["Cargo.toml", "Cargo.lock", "README.md", "src", "benches", "examples", "interop", "tests"] {
        copy_all(&crate_folder.join(part), Path::new(part), copy, mutants);
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

/// Copies a file or a folder of the crate, with the mutants. Leaves files alone that have not changed, so that cargo does
/// not build them again.
fn copy_all(from: &Path, name: &Path, copy: &Path, mutants: &[Mutant]) {
    if from.is_dir() {
        fs::create_dir_all(copy.join(name)).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap().file_name();
            copy_all(&from.join(&entry), &name.join(&entry), copy, mutants);
        }
        return;
    }
    let mut content = fs::read(from).unwrap();
    if name.starts_with("src") {
        content = with_mutants(name, String::from_utf8(content).expect("source is text"), mutants).into_bytes();
    }
    let to = copy.join(name);
    if fs::read(&to).ok().as_ref() != Some(&content) {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, content).unwrap();
    }
}

/// The source of one file with all its mutants, each of which is off unless the environment names it.
fn with_mutants(file: &Path, source: String, mutants: &[Mutant]) -> String {
    // The places that change, from the end of the file to its beginning, each with its mutants.
    let mut places: BTreeMap<Reverse<usize>, Vec<usize>> = BTreeMap::new();
    for (number, mutant) in mutants.iter().enumerate().filter(|(_, mutant)| Path::new(mutant.file) == file) {
        let count = source.matches(mutant.original).count();
        assert_eq!(count, 1, "{}: {:?} is found {count} times in {}", mutant.name, mutant.original, mutant.file);
        places.entry(Reverse(source.find(mutant.original).expect("it is found"))).or_default().push(number);
    }
    let mut mutated = source.clone();
    let mut next = source.len();
    for (Reverse(start), numbers) in places {
        let original = mutants[numbers[0]].original;
        assert!(start + original.len() <= next, "{original:?} overlaps with another mutant's source");
        next = start;
        let mut text = original.to_owned();
        for number in numbers {
            let Mutant { name, original: own, broken, .. } = mutants[number];
            assert_eq!(own, original, "{name}: another mutant begins at the same place and ends elsewhere");
            let is_on = format!("crate::is_mutant({number})");
            text = if broken.contains(IS_ON) {
                broken.replace(IS_ON, &is_on)
            } else {
                format!("{{ if {is_on} {{ {broken} }} else {{ {text} }} }}")
            };
        }
        mutated.replace_range(start..start + original.len(), &text);
    }
    if file == Path::new("src/lib.rs") {
        mutated.push_str(&format!(
            "
            fn is_mutant(number: u32) -> bool {{
                static MUTANT: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
                let read = || std::env::var({VARIABLE:?}).ok()?.parse().ok();
                *MUTANT.get_or_init(read) == Some(number)
            }}
            "
        ));
    }
    mutated
}
