//! The marked lines of the source, and what a mutant makes of them.
//!
//! A mark is a comment that names the rule that a line keeps: `// rule: retry-limit`. It ends the line. Where it does
//! not fit there, or rustfmt would move it, it stands alone in the line above.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A rule of the source, and how it is broken.
#[derive(Clone, Copy)]
pub struct Mutant {
    pub name: &'static str,
    /// The mark of the line that keeps the rule.
    pub rule: &'static str,
    /// Replaces a part of that line, its [form](FORMS) says which, while the mutant is on.
    ///
    /// If it contains [`IS_ON`], it replaces the whole line, also while the mutant is off.
    pub broken: &'static str,
}

/// Stands in a mutant for the question whether it is on.
const IS_ON: &str = "IS_ON";

/// Stands in a mutant for what it replaces.
const ORIGINAL: &str = "ORIGINAL";

/// What a mark begins with. The name of the rule follows.
const MARK: &str = "// rule: ";

/// The forms that a marked line can have. A mutant replaces the part `…`.
const FORMS: &str = "
    let PATTERN = …;
    if … {
    if let PATTERN = … {
    match … {
    for PATTERN in … {
    PATTERN if … =>
    PATTERN => …,
    FIELD: …,
    …;
    …                 as the last line of a block";

/// A marked line of the source, as the mutants have changed it so far.
pub struct MarkedLine {
    file: PathBuf,
    /// From 0.
    index: usize,
    /// The part that mutants replace, and what is on both sides of it.
    before: String,
    part: String,
    after: String,
}

/// The folder of the crate.
pub fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All marked lines of `src`, by the names of their rules.
pub fn marked_lines() -> BTreeMap<String, MarkedLine> {
    let mut marked = BTreeMap::new();
    find_marks(Path::new("src"), &mut marked);
    marked
}

fn find_marks(folder: &Path, marked: &mut BTreeMap<String, MarkedLine>) {
    for entry in fs::read_dir(crate_folder().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            find_marks(&path, marked);
            continue;
        }
        let source = fs::read_to_string(entry.path()).expect("source is text");
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            let Some((code, rule)) = line.split_once(MARK) else { continue };
            let place = format!("{}:{}", path.display(), index + 1);
            let is_name = rule.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            assert!(is_name, "{place}: the mark {rule:?} is not a name-with-hyphens");
            let line = |index: usize| lines.get(index).copied().unwrap_or_default();
            let previous = line(index.wrapping_sub(1));
            let (index, code) = if code.is_empty() { (index + 1, line(index + 1)) } else { (index, code.trim_end()) };
            let Some(part) = replaced_part(previous, code, line(index + 1)) else {
                panic!("{place}: `{code}` is marked {rule:?}, and has none of these forms:\n{FORMS}");
            };
            let [before, part, after] =
                [&code[..part.start], &code[part.clone()], &code[part.end..]].map(str::to_owned);
            let line = MarkedLine { file: path.clone(), index, before, part, after };
            if let Some(MarkedLine { file, index, .. }) = marked.insert(rule.to_owned(), line) {
                panic!("{place}: the mark {rule:?} is at {}:{}, too", file.display(), index + 1);
            }
        }
    }
}

/// The part of a line that mutants replace. `None`: the line has none of the [forms](FORMS), or is not whole.
pub fn replaced_part(previous: &str, code: &str, next: &str) -> Option<Range<usize>> {
    let between = |start: &str, middle: &str, end: &str| {
        let rest = code.strip_prefix(start)?.strip_suffix(end)?;
        let start = start.len() + rest.find(middle)? + middle.len();
        Some(start..code.len() - end.len())
    };
    let guard = || {
        let end = code.find(" => ")?;
        let start = code[..end].find(" if ")? + " if ".len();
        Some(start..end)
    };
    let part = between("let ", " = ", ";")
        .or_else(guard)
        .or_else(|| between("if let ", " = ", " {"))
        .or_else(|| between("if ", "", " {"))
        .or_else(|| between("match ", "", " {"))
        .or_else(|| between("for ", " in ", " {"))
        .or_else(|| between("", " => ", ","))
        .or_else(|| between("", ": ", ","))
        .unwrap_or(0..code.len());
    let before = previous.split("//").next().unwrap_or_default().trim_end();
    let begins_here = before.is_empty() || before.ends_with(['{', '}', ';', ',', ']']);
    let ends_here = code.ends_with([';', '{', ',']) || next.starts_with('}');
    (begins_here && ends_here && is_balanced(&code[part.clone()])).then_some(part)
}

/// Whether each bracket that opens is closed, and the other way round.
fn is_balanced(text: &str) -> bool {
    let depth = text.chars().try_fold(0_u32, |depth, c| match c {
        '(' | '[' | '{' => Some(depth + 1),
        ')' | ']' | '}' => depth.checked_sub(1),
        _ => Some(depth),
    });
    depth == Some(0) && !text.is_empty()
}

/// The lines that have mutants, by their files and indices. Each mutant is off unless `is_mutant` says so of its index.
pub fn mutated_lines(mutants: &[Mutant]) -> BTreeMap<PathBuf, BTreeMap<usize, String>> {
    let mut marked = marked_lines();
    let mut mutated: BTreeMap<PathBuf, BTreeMap<usize, String>> = BTreeMap::new();
    for (number, Mutant { name, rule, broken }) in mutants.iter().enumerate() {
        let Some(line) = marked.get_mut(*rule) else { panic!("{name}: no line of src has the mark `{MARK}{rule}`") };
        let is_on = format!("crate::is_mutant({number})");
        if broken.contains(IS_ON) {
            let original = format!("{}{}{}", line.before, line.part, line.after);
            line.part = broken.replace(IS_ON, &is_on).replace(ORIGINAL, &original);
            line.before.clear();
            line.after.clear();
        } else {
            let broken = broken.replace(ORIGINAL, &line.part);
            line.part = format!("{{ if {is_on} {{ {broken} }} else {{ {} }} }}", line.part);
        }
        let text = format!("{}{}{}", line.before, line.part, line.after);
        mutated.entry(line.file.clone()).or_default().insert(line.index, text);
    }
    mutated
}
