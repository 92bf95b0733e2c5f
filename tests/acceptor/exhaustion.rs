//! At the limit of descriptors: no spin, few lines, and soon back.
//!
//! The acceptor is a process of its own, as it lives under a limit of its own. It is this test binary.

use std::process::Stdio;
use std::time::{Duration, Instant};

use perconn::acceptor::{Acceptor, Event};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::sleep;

use crate::support::in_time;
use crate::world::{echo, exchange};

const DESCRIPTORS: usize = 64;
const CLIENTS: usize = 100;
const CHILD: &str = "PERCONN_TEST_EXHAUSTION";

#[tokio::test]
#[ignore = "the acceptor that the other test starts"]
async fn server() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let acceptor = Acceptor::builder("127.0.0.1:0")
        .logger(|error| eprintln!("logged {error}"))
        .on_event(|event| match event {
            Event::Paused { cause, .. } => eprintln!("paused {}", cause.raw_os_error().unwrap_or_default()),
            Event::Resumed { .. } => eprintln!("resumed"),
            _ => {}
        })
        .handler(echo)
        .build()
        .unwrap();
    eprintln!("port {}", acceptor.local_addr().unwrap().port());
    // The end of the test is the end of its standard input.
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    eprintln!("failed {}", acceptor.stats().accepts_failed);
    std::process::exit(0);
}

async fn start() -> (Child, Lines<BufReader<ChildStderr>>, u16) {
    let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" --exact exhaustion::server --ignored --nocapture");
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = in_time("it listens", lines.next_line()).await.unwrap().unwrap_or_default();
    let port = line.strip_prefix("port ").unwrap_or_else(|| panic!("it says: {line}")).parse().unwrap();
    (child, lines, port)
}

/// In ticks of a hundredth of a second, as Linux counts them.
fn processor_time(child: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id().unwrap())).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = rest.split_whitespace().collect();
    // The 14th and the 15th field of proc(5), the first two of which are before the rest.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn without_descriptors_it_waits_without_spinning_and_resumes_within_200_ms() {
    let (mut child, mut lines, port) = start().await;
    let mut served = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = in_time("connect", TcpStream::connect(("127.0.0.1", port))).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        match tokio::time::timeout(
            Duration::from_millis(if waiting.is_empty() { 2000 } else { 1 }),
            stream.read_exact(&mut answer),
        )
        .await
        {
            Ok(outcome) => {
                outcome.unwrap();
                served.push(stream);
            }
            Err(_) => waiting.push(stream),
        }
    }
    assert!((30..DESCRIPTORS).contains(&served.len()), "{}", served.len());

    // It does nothing while it waits.
    let before = processor_time(&child);
    sleep(Duration::from_secs(2)).await;
    let ticks = processor_time(&child) - before;
    assert!(ticks <= 10, "{ticks} hundredths of a second in 2 s");
    // Those who are served do not notice.
    exchange(&mut served[0]).await.unwrap();

    // Relief: as many as go, so many are served soon.
    let mut worst = Duration::ZERO;
    for _ in 0..5 {
        served.truncate(served.len() - 2);
        let start = Instant::now();
        for mut stream in waiting.drain(..2) {
            in_time("relief", stream.read_exact(&mut [0; 4])).await.unwrap();
            served.push(stream);
        }
        worst = worst.max(start.elapsed());
    }
    assert!(worst < Duration::from_millis(200), "{worst:?}");

    drop((served, waiting, child.stdin.take()));
    let (mut told, mut failed) = (Vec::new(), 0);
    while let Some(line) = in_time("its last words", lines.next_line()).await.unwrap() {
        match line.strip_prefix("failed ") {
            Some(number) => failed = number.parse().unwrap(),
            None => told.push(line),
        }
    }
    // Ten times a second at most, and the steps up to that at each new beginning.
    assert!((20..150).contains(&failed), "{failed}");
    let mut kinds =
        ["logged ", "paused 24", "resumed"].map(|kind| told.iter().filter(|line| line.starts_with(kind)).count());
    kinds.sort_unstable();
    assert_eq!((kinds, told.len()), ([1, 1, 1], 3), "{told:?}");
    println!("resumed within {worst:?} at worst, {ticks} ticks, {failed} accepts failed");
}
