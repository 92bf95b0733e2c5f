//! The Markdown pages: every relative link leads to a file, every test that a table names exists, and the manifest has what the
//! README promises.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder that end with `.extension`; build output is left out.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = Vec::new();
    files(root(), "md", &mut pages);
    pages.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The targets of inline links, `[text](target)`, and of link definitions, `[name]: target`.
fn targets(page: &str) -> Vec<&str> {
    let inline = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let defined = page.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split_once("]: "));
    inline.chain(defined.map(|(_, target)| target.trim())).collect()
}

/// The anchors of a page's headings, as GitHub and crates.io make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let headings = page.lines().filter(|line| {
        is_code ^= line.starts_with("```");
        !is_code && line.starts_with('#')
    });
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn links_lead_to_headings() {
    let mut checked = 0;
    for (path, page) in &pages() {
        for target in targets(page).into_iter().filter(|target| !target.contains("://")) {
            let Some((file, anchor)) = target.split_once('#') else { continue };
            let linked = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            // Anchors of other files are lines of a source.
            if linked.extension().is_some_and(|extension| extension == "md") {
                let page = fs::read_to_string(linked).unwrap();
                assert!(anchors(&page).contains(anchor), "{}: the link {target:?} leads nowhere", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 5, "only {checked} links were found");
}

#[test]
fn links_lead_to_files() {
    let pages = pages();
    assert!(pages.iter().any(|(path, _)| path.ends_with("README.md")), "no README");
    let mut checked = 0;
    for (path, page) in &pages {
        for target in targets(page).into_iter().filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap();
            // A path of Rust, in a page that is the documentation of an item.
            if file.contains("::") {
                continue;
            }
            let linked = path.parent().unwrap().join(file);
            assert!(linked.exists(), "{}: the link {target:?} leads nowhere", path.display());
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} links were found");
}

/// Names in backticks that look like those of tests: three underscores at least, perhaps cut short by an ellipsis.
fn test_names(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2)).filter(
        |name| {
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '…';
            name.matches('_').count() >= 3 && name.chars().all(is_name)
        },
    )
}

#[test]
fn tests_that_are_named_exist() {
    let mut sources = Vec::new();
    files(root(), "rs", &mut sources);
    let mut functions = BTreeSet::new();
    for source in sources {
        // A table may name a test by its file.
        functions.insert(source.file_stem().unwrap().to_string_lossy().into_owned());
        for rest in fs::read_to_string(source).unwrap().split("fn ").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            functions.insert(rest[..end].to_owned());
        }
    }
    let mut checked = 0;
    for (path, page) in pages() {
        // The label of a link may have three underscores, too; the other test looks at its target.
        for name in test_names(&page).filter(|name| !page.contains(&format!("[`{name}`]: "))) {
            let exists = match name.strip_suffix('…') {
                Some(start) => functions.iter().any(|function| function.starts_with(start)),
                None => functions.contains(name),
            };
            assert!(exists, "{}: there is no test {name}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} names were found");
}

fn manifest() -> String {
    fs::read_to_string(root().join("Cargo.toml")).unwrap()
}

#[test]
fn feature_full_has_all_features() {
    let manifest = manifest();
    let section = manifest.split("\n[features]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let features: BTreeSet<_> = section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .filter(|name| !matches!(*name, "default" | "full"))
        .collect();
    let full = section.lines().find_map(|line| line.strip_prefix("full = ")).unwrap();
    let in_full: BTreeSet<_> = full.split('"').skip(1).step_by(2).collect();
    assert!(features.len() > 5, "only {features:?}");
    assert_eq!(in_full, features);
}

/// The README on crates.io links to pages of the package. What else it links to needs `repository` in Cargo.toml.
#[test]
fn pages_that_the_readme_links_to_are_published() {
    let (manifest, readme) = (manifest(), fs::read_to_string(root().join("README.md")).unwrap());
    let inline = readme.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let pages: BTreeSet<_> = inline.filter(|target| target.ends_with(".md") && !target.contains("://")).collect();
    assert!(pages.len() > 5, "only {pages:?}");
    for page in pages {
        let is_published = manifest.contains(&format!("\"/{page}\"")) || page.starts_with("examples/");
        assert!(is_published, "{page} is not in `include` of Cargo.toml");
    }
}
