//! The gate on the hot paths: how many instructions a call takes in user space, counted by valgrind's callgrind.
//!
//! ```text
//! cargo run --profile gate -p perconn-benches --bin instructions              counts, and compares with benches/instructions.txt
//! cargo run --profile gate -p perconn-benches --bin instructions -- --save    counts, and writes that file
//! ```
//!
//! A path that grew by more than [`LIMIT`] fails. Unlike a time, a count does not depend on what else the machine does. It does depend on
//! the compiler, so the file names the version that built what it counted; with another version nothing is compared.
//!
//! Each count is the difference of a [`LONG`] and a [`SHORT`] run, so the start of the program is not in it. Client and
//! server are one thread, and everything a call waits for has arrived before the call; but for the lines, where each is waited for.
//!
//! Next: [`run`], the paths; then [`compare`], what fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use perconn::acceptor::{Acceptor, LineConn};
use perconn::pool::Pool;
use perconn::{Conn, SharedConn};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// The counted paths. `TcpStream` is what the others stand beside.
const PATHS: [&str; 10] = [
    "TcpStream write",
    "TcpStream read",
    "Conn write",
    "Conn read",
    "half write",
    "half read",
    "SharedConn write",
    "pool get and put",
    "bare line",
    "acceptor line",
];

/// How much a count may grow.
const LIMIT: f64 = 0.02;

/// Batches of a run.
const SHORT: u64 = 20;
const LONG: u64 = 120;

/// Calls between two looks at the other end. A socket's buffers hold the bytes of this many calls.
const BATCH: usize = 64;

/// Runs of each length, of which the smallest count is taken: `Conn` asks the kernel for a close once in each tick of
/// the clock, and a slow run has more ticks.
const RUNS: usize = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["run", path, batches] => {
            run(path, batches.parse().expect("the number of batches is a number"));
            ExitCode::SUCCESS
        }
        [] => gate(false),
        ["--save"] => gate(true),
        _ => {
            eprintln!("instructions: unexpected arguments {arguments:?}; expected none, or --save");
            ExitCode::from(2)
        }
    }
}

fn gate(save: bool) -> ExitCode {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: instruction counts need valgrind, which is not installed");
        return ExitCode::SUCCESS;
    }
    let counts = PATHS.map(|path| (path, count(path)));
    let toolchain = toolchain();
    if save {
        let mut text = String::from(
            "# Instructions in user space for each call. Written by\n\
             # cargo run --profile gate -p perconn-benches --bin instructions -- --save\n",
        );
        let _ = writeln!(text, "toolchain: {toolchain}");
        for (path, count) in counts {
            println!("{path:<18} {count:>8.1}");
            let _ = writeln!(text, "{path}: {count:.1}");
        }
        std::fs::write(file(), text).expect("the file can be written");
        println!("wrote {}", file().display());
        return ExitCode::SUCCESS;
    }
    let recorded = recorded();
    let is_same_toolchain = recorded.get("toolchain") == Some(&toolchain);
    let is_passed = compare(&counts, &recorded);
    if !is_same_toolchain {
        let other = recorded.get("toolchain").map_or("nothing", String::as_str);
        println!("skipped: instruction counts are recorded with {other}, and this is {toolchain}");
        return ExitCode::SUCCESS;
    }
    if is_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints each count beside the recorded one. Returns whether none grew beyond the limit.
fn compare(counts: &[(&str, f64)], recorded: &BTreeMap<String, String>) -> bool {
    let mut is_passed = true;
    println!("{:<18} {:>9} {:>9} {:>8}", "", "recorded", "now", "change");
    for (path, now) in counts {
        let Some(before) = recorded.get(*path).and_then(|text| text.parse::<f64>().ok()) else {
            println!("{path:<18} {:>9} {now:>9.1}   FAILED: not recorded; --save records it", "-");
            is_passed = false;
            continue;
        };
        let change = now / before - 1.0;
        let verdict = if change > LIMIT {
            is_passed = false;
            format!("   FAILED: more than {:.0} % above the recorded count", LIMIT * 100.0)
        } else if change < -LIMIT {
            "   better; --save records it".to_owned()
        } else {
            String::new()
        };
        println!("{path:<18} {before:>9.1} {now:>9.1} {:>+7.2} %{verdict}", change * 100.0);
    }
    is_passed
}

/// Instructions of a call.
fn count(path: &str) -> f64 {
    let least = |batches| (0..RUNS).map(|_| callgrind(path, batches)).min().expect("there is a run");
    (least(LONG) - least(SHORT)) as f64 / ((LONG - SHORT) * BATCH as u64) as f64
}

/// Instructions of a process.
fn callgrind(path: &str, batches: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("this program has a file"))
        .args(["run", path, &batches.to_string()])
        .output()
        .expect("valgrind can be started");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path}: {report}");
    let collected = report.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count.unwrap_or_else(|| panic!("{path}: callgrind counted nothing: {report}"))
}

/// The counted process.
fn run(path: &str, batches: u64) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let (server, address) = listen();
    runtime.block_on(async {
        match path {
            "TcpStream write" => write(raw(address).await, &server, batches).await,
            "TcpStream read" => read(raw(address).await, &server, batches).await,
            "Conn write" => write(conn(address).await, &server, batches).await,
            "Conn read" => read(conn(address).await, &server, batches).await,
            "half write" => {
                let (_reader, writer) = conn(address).await.into_split();
                write(writer, &server, batches).await;
            }
            "half read" => {
                let (reader, _writer) = conn(address).await.into_split();
                read(reader, &server, batches).await;
            }
            "SharedConn write" => write_shared(conn(address).await.into_shared(), &server, batches).await,
            "pool get and put" => get_and_put(address, batches).await,
            "bare line" => answer_lines(&server, batches).await,
            "acceptor line" => accept_lines(batches).await,
            _ => panic!("{path:?}: no such path; expected one of {PATHS:?}"),
        }
    });
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    (listener, address)
}

async fn raw(server: SocketAddr) -> TcpStream {
    TcpStream::connect(server).await.expect("the server is there")
}

async fn conn(server: SocketAddr) -> Conn {
    Conn::connect(server).await.expect("the server is there")
}

async fn write(mut stream: impl AsyncWrite + Unpin, server: &TcpListener, batches: u64) {
    let (mut peer, _) = server.accept().expect("the client has connected");
    for _ in 0..batches {
        for _ in 0..BATCH {
            stream.write_all(&[7; 64]).await.expect("the link holds");
        }
        peer.read_exact(&mut [0; 64 * BATCH]).expect("the link holds");
    }
}

async fn read(mut stream: impl AsyncRead + Unpin, server: &TcpListener, batches: u64) {
    let (mut peer, _) = server.accept().expect("the client has connected");
    let mut buffer = [0; 64];
    for _ in 0..batches {
        peer.write_all(&[7; 64 * BATCH]).expect("the link holds");
        for _ in 0..BATCH {
            stream.read_exact(&mut buffer).await.expect("the link holds");
        }
    }
}

/// A single caller.
async fn write_shared(conn: SharedConn, server: &TcpListener, batches: u64) {
    let (mut peer, _) = server.accept().expect("the client has connected");
    for _ in 0..batches {
        for _ in 0..BATCH {
            conn.write_all(&[7; 64]).await.expect("the link holds");
        }
        peer.read_exact(&mut [0; 64 * BATCH]).expect("the link holds");
    }
}

/// A connection that is free, with the look at it before it is handed out. The kernel accepts it for the server.
async fn get_and_put(server: SocketAddr, batches: u64) {
    let pool = Pool::new(1).expect("a pool of one is possible");
    let resource = pool.resource(server).expect("the address is good");
    for _ in 0..batches {
        for _ in 0..BATCH {
            drop(resource.get().await.expect("the link holds"));
        }
    }
}

/// The answer to a line, by a loop as people write it.
async fn answer_lines(server: &TcpListener, batches: u64) {
    let address = server.local_addr().expect("a bound socket has an address");
    let done = exchange_lines(address, batches);
    let (stream, _) = server.accept().expect("the client connects");
    stream.set_nonblocking(true).expect("a socket can be set");
    let mut stream = TcpStream::from_std(stream).expect("there is a runtime");
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(mut line) = lines.next_line().await.expect("the link holds") {
        line.push('\n');
        writer.write_all(line.as_bytes()).await.expect("the link holds");
    }
    done.await.expect("the client came to its end");
}

/// The same by an acceptor.
async fn accept_lines(batches: u64) {
    let builder = Acceptor::builder("127.0.0.1:0");
    let acceptor =
        builder.line_handler(async |line, conn: LineConn| conn.send(line).await).build().expect("a port is free");
    exchange_lines(acceptor.local_addr().expect("a TCP listener has one"), batches)
        .await
        .expect("the client came to its end");
}

/// A client in a thread of its own, which sends a line when the last one is answered. Its part of the count is two system calls.
fn exchange_lines(server: SocketAddr, batches: u64) -> oneshot::Receiver<()> {
    let (done, all_done) = oneshot::channel();
    std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(server).expect("the server is there");
        let line = b"measure channel 7 in millivolts\n";
        let mut answer = [0; 32];
        for _ in 0..batches * BATCH as u64 {
            stream.write_all(line).expect("the link holds");
            stream.read_exact(&mut answer).expect("the link holds");
        }
        assert_eq!(&answer, line);
        drop(stream);
        let _ = done.send(());
    });
    all_done
}

/// What the counts depend on besides the source: the compiler and the processor's architecture.
fn toolchain() -> String {
    let output = Command::new("rustc").arg("--version").output().expect("rustc can be started");
    format!("{} on {}", String::from_utf8_lossy(&output.stdout).trim(), std::env::consts::ARCH)
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt")
}

/// The recorded counts, and the toolchain.
fn recorded() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
