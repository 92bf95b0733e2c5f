//! The cost of idle connections. Each candidate is a process of its own, so that memory freed by one does not serve the next.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;

use super::candidates::{conn, raw, stubborn};
use super::harness::{Kind, Server, allow_descriptors, this_program};
use super::table::{Cell, Chapter, Spread, progress};

const COUNT: usize = 10_000;
const ROUNDS: usize = 3;
const CANDIDATES: [&str; 4] = ["raw", "stubborn", "perconn", "shared"];
const WATCHED: Duration = Duration::from_secs(3);

#[cfg(target_os = "linux")]
pub(crate) fn measure() -> Vec<Chapter> {
    let mut found = [const { Vec::new() }; CANDIDATES.len()];
    for _ in 0..ROUNDS {
        for (candidate, found) in CANDIDATES.iter().zip(&mut found) {
            let server = Server::start(Kind::Hold);
            let output =
                this_program(&["as-idle", candidate, &COUNT.to_string(), &server.address.to_string()]).output();
            let output = output.expect("this program can be started again");
            let text = String::from_utf8_lossy(&output.stdout);
            let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            assert_eq!(
                numbers.len(),
                2,
                "{candidate} printed {text:?} and {}; expected two numbers",
                String::from_utf8_lossy(&output.stderr)
            );
            found.push((numbers[0], numbers[1]));
        }
    }
    let bytes = found.each_ref().map(|found| Spread::of(found.iter().map(|(bytes, _)| *bytes)).median);
    let wakeups = found.each_ref().map(|found| Spread::of(found.iter().map(|(_, wakeups)| *wakeups)).median);
    let rows = vec![
        row("bytes of memory each", bytes),
        row("bytes above the bare stream", bytes.map(|each| each - bytes[0])),
        row("wake-ups of all together in 3 s", wakeups),
    ];
    vec![Chapter {
        title: "10,000 idle connections",
        reading: "The growth of the process's resident memory (the kernel's own is not in it); the median of 3 processes.",
        columns: vec!["`TcpStream`", "stubborn-io", "perconn", "`SharedConn`"],
        rows,
    }]
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn measure() -> Vec<Chapter> {
    eprintln!("skipped: memory and wake-ups are read in /proc, which only Linux has");
    Vec::new()
}

fn row(name: &str, values: [f64; CANDIDATES.len()]) -> (String, Vec<Cell>) {
    let cells = values.map(Cell::Count).to_vec();
    progress(name, &cells);
    (name.to_owned(), cells)
}

/// The counted process: prints the bytes of each connection and the number of wake-ups.
pub(crate) fn hold(candidate: &str, count: &str, server: &str) -> ExitCode {
    let (Ok(count), Ok(server)) = (count.parse(), server.parse()) else { return ExitCode::FAILURE };
    allow_descriptors();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        match candidate {
            "raw" => keep(count, async || raw(server).await).await,
            "stubborn" => keep(count, async || stubborn(server).await).await,
            "perconn" => keep(count, async || conn(server).await).await,
            "shared" => keep(count, async || conn(server).await.into_shared()).await,
            _ => ExitCode::FAILURE,
        }
    })
}

async fn keep<C>(count: usize, mut connect: impl AsyncFnMut() -> C) -> ExitCode {
    // The first allocations of the runtime and the allocator belong to no candidate.
    let warm_up = (connect().await, connect().await);
    let mut kept = Vec::with_capacity(count);
    let before = status("VmRSS:");
    for _ in 0..count {
        kept.push(connect().await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let bytes = (status("VmRSS:") - before) as f64 * 1024.0 / count as f64;
    // Another thread keeps the time, so that this one has no timer to wake up for.
    let watch = thread::spawn(move || {
        thread::sleep(WATCHED / 10);
        let before = status("voluntary_ctxt_switches:");
        thread::sleep(WATCHED);
        println!("{bytes:.0} {}", status("voluntary_ctxt_switches:") - before);
        std::process::exit(0);
    });
    let _all = (warm_up, kept, watch);
    std::future::pending().await
}

/// A number in `/proc/self/status`, which describes the first thread of this process.
fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
