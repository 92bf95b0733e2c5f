//! How many instructions a call takes in the program (not in the kernel), counted by valgrind's callgrind: the same
//! figure on each run, whatever else the machine does.

use std::process::{Command, ExitCode};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Builder;

use super::candidates::{conn, raw, stubborn};
use super::harness::{Kind, Server, pin_to_core};
use super::table::{Cell, Chapter, progress};

const CANDIDATES: [&str; 5] = ["raw", "stubborn", "perconn", "half", "shared"];
const OPERATIONS: [(&str, Kind); 3] = [("write", Kind::Drain), ("read", Kind::Flood), ("echo", Kind::Echo)];

/// Two runs of different length: what they differ in is the calls, and not the start.
const SHORT: u64 = 1_000;
const LONG: u64 = 11_000;

pub(crate) fn measure() -> Vec<Chapter> {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: instructions are counted by valgrind, which is not installed");
        return Vec::new();
    }
    // All on one core: then an echo is never there before it is waited for.
    pin_to_core(0);
    let mut rows = Vec::new();
    for (operation, kind) in OPERATIONS {
        let server = Server::start_anywhere(kind);
        let cells = CANDIDATES.map(|candidate| {
            if candidate == "shared" && operation != "write" {
                return Cell::none();
            }
            let count = |calls| instructions(candidate, operation, calls, &server.address.to_string());
            match (count(SHORT), count(LONG)) {
                (Some(short), Some(long)) => Cell::Count((long - short) as f64 / (LONG - SHORT) as f64),
                _ => Cell::none(),
            }
        });
        let name = format!("{operation} of 64 B");
        progress(&name, &cells);
        rows.push((name, cells.to_vec()));
    }
    vec![Chapter {
        title: "Instructions",
        reading: "In user space, for each call, by valgrind's callgrind; of `SharedConn` with a single caller.",
        columns: vec!["`TcpStream`", "stubborn-io", "perconn", "perconn, half", "`SharedConn`"],
        rows,
    }]
}

fn instructions(candidate: &str, operation: &str, calls: u64, server: &str) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .args(["as-hot", candidate, operation, &calls.to_string(), server])
        .output()
        .ok()?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    if count.is_none() {
        eprintln!("callgrind counted nothing: {report}");
    }
    count
}

/// The counted process.
pub(crate) fn run(candidate: &str, operation: &str, calls: &str, server: &str) -> ExitCode {
    let (Ok(calls), Ok(server)) = (calls.parse(), server.parse()) else { return ExitCode::FAILURE };
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        match candidate {
            "raw" => repeat(&mut raw(server).await, operation, calls).await,
            "stubborn" => repeat(&mut stubborn(server).await, operation, calls).await,
            "perconn" => repeat(&mut conn(server).await, operation, calls).await,
            "half" => {
                let (reader, writer) = conn(server).await.into_split();
                repeat(&mut tokio::io::join(reader, writer), operation, calls).await;
            }
            "shared" => {
                let shared = conn(server).await.into_shared();
                for _ in 0..calls {
                    shared.write_all(&[7; 64]).await.expect("the link holds");
                }
            }
            _ => {}
        }
    });
    ExitCode::SUCCESS
}

async fn repeat(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), operation: &str, calls: u64) {
    let mut buffer = [7; 64];
    for _ in 0..calls {
        if operation != "read" {
            stream.write_all(&buffer).await.expect("the link holds");
        }
        if operation != "write" {
            stream.read_exact(&mut buffer).await.expect("the link holds");
        }
    }
}
