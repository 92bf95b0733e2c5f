//! The report: Markdown for the terminal, and the files that `--save` writes: `docs/versus.md`, the chart,
//! and the README's table.

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
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut text = String::from(
        "# perconn beside its peers\n\nWritten by `cargo bench -p perconn-benches --bench versus -- --save`. Speeds are medians of many rounds \
         in which the candidates alternated, with the quartiles: 1.00x is as fast, 2.0x twice as fast.\n\n\
         ![Speeds beside the bare TcpStream](versus.svg)\n\n",
    );
    for chapter in chapters {
        text += &chapter.markdown();
        text += "\n";
    }
    text += &machine();
    text += "\n";
    write(&root.join("docs/versus.md"), &text);
    write(&root.join("docs/versus.svg"), &chart::draw(chapters));
    let readme = root.join("README.md");
    match fs::read_to_string(&readme).ok().and_then(|text| with_excerpt(&text, chapters)) {
        Some(text) => write(&readme, &text),
        None => eprintln!("{} has no place for the table, or a row of it is missing", readme.display()),
    }
}

fn write(path: &Path, text: &str) {
    match fs::write(path, text) {
        Ok(()) => eprintln!("wrote {}", path.display()),
        Err(error) => eprintln!("{} cannot be written: {error}", path.display()),
    }
}

/// The rows that the README shows, and in which columns stubborn-io and perconn stand.
const EXCERPT: [(&str, &str, [usize; 2]); 11] = [
    ("echo of 64 B", "echo of 64 B, beside the bare `TcpStream`", [1, 2]),
    ("write 64 B", "bulk write, 64 B calls", [1, 2]),
    ("write 64 KiB", "bulk write, 64 KiB calls", [1, 2]),
    ("read 64 B", "bulk read, 64 B calls", [1, 2]),
    ("read 64 KiB", "bulk read, 64 KiB calls", [1, 2]),
    ("read and write 64 B", "both at once in two tasks, 64 B calls", [1, 2]),
    ("64 tasks, 1 worker", "64 tasks, one connection, one worker thread, beside a `TcpStream` behind a mutex", [1, 3]),
    ("64 tasks, 2 workers", "the same, two worker threads", [1, 3]),
    ("first echo after the return", "from the server's return to the first echo (redials after 10 to 200 ms)", [0, 1]),
    ("1000 clients: dials in the busiest 10 ms", "1,000 clients in an outage: dials in the busiest 10 ms", [0, 1]),
    ("bytes above the bare stream", "an idle connection above the bare stream, in bytes", [1, 2]),
];

/// The README with a new table.
fn with_excerpt(readme: &str, chapters: &[Chapter]) -> Option<String> {
    let (before, rest) = readme.split_once("<!-- versus -->\n")?;
    let (_, after) = rest.split_once("<!-- end of versus -->\n")?;
    let mut table = String::from("| | stubborn-io | perconn |\n|---|---|---|\n");
    for (name, text, columns) in EXCERPT {
        let (_, cells) = chapters.iter().flat_map(|chapter| &chapter.rows).find(|(row, _)| row == name)?;
        let [stubborn, perconn] = columns.map(|column| cells.get(column));
        table += &format!("| {text} | {} | {} |\n", stubborn?, perconn?);
    }
    Some(format!("{before}<!-- versus -->\n{table}<!-- end of versus -->\n{after}"))
}

/// The machine on which the figures were measured.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("Measured on {cores} cores of {model}, {} {}.", std::env::consts::OS, kernel.trim())
}
