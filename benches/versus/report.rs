//! The report: Markdown for the terminal, and the two files that the README shows.

use std::fs;
use std::path::Path;

use super::chart;
use super::table::Chapter;

pub(crate) fn print(chapters: &[Chapter]) {
    for chapter in chapters {
        println!("{}", chapter.markdown());
    }
    println!("{}", machine());
}

pub(crate) fn save(chapters: &[Chapter]) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut text = String::from(
        "# perconn beside its peers\n\nWritten by `cargo bench --bench versus -- --save`. Speeds are medians of many rounds \
         in which the contestants took turns, with the quartiles: 1.00x is as fast, 2.0x twice as fast.\n\n\
         ![Speeds beside the bare TcpStream](versus.svg)\n\n",
    );
    for chapter in chapters {
        text += &chapter.markdown();
        text += "\n";
    }
    text += &machine();
    text += "\n";
    for (name, text) in [("versus.md", text), ("versus.svg", chart::draw(chapters))] {
        let path = docs.join(name);
        match fs::write(&path, text) {
            Ok(()) => eprintln!("wrote {}", path.display()),
            Err(error) => eprintln!("{} cannot be written: {error}", path.display()),
        }
    }
}

/// What the figures were taken on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("Measured on {cores} cores of {model}, {} {}.", std::env::consts::OS, kernel.trim())
}
