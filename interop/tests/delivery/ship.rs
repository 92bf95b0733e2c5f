//! The example `ship` as its users run it: lines through killed servers, followed files, restarts of the program itself.
//!
//! `cargo test --workspace` builds the examples before it runs this.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::numbered::tag;
use crate::real_server::RealServer;
use crate::relp::server;
use crate::rsyslog::arrived;
use crate::support::in_time;

const LINES: u64 = 20_000;

fn ship(args: &[&str]) -> Command {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/ship");
    assert!(path.exists(), "{path:?} is missing: first `cargo build --workspace --all-features --examples`");
    let mut command = Command::new(path);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn relp_url(server: &RealServer) -> String {
    format!("relp://{}", server.address)
}

/// Waits for the end of the program, and returns its last line and its exit status.
async fn ended(child: Child) -> (String, Option<i32>) {
    let output = in_time("the end of ship", child.wait_with_output()).await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (text.lines().last().unwrap_or_default().to_owned(), output.status.code())
}

/// Waits until the server has written this line.
async fn has_arrived(server: &RealServer, number: u64) {
    let file = server.folder.join("arrived");
    let what = format!("line {number}");
    let there = async {
        while !fs::read_to_string(&file).is_ok_and(|text| text.contains(&tag(number))) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    in_time(&what, there).await;
}

#[tokio::test]
async fn lines_of_standard_input_arrive_through_kills_of_the_server() {
    let Some(server) = server("ship, standard input") else { return };
    let mut child = ship(&[&relp_url(&server), "--capacity", "100"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for number in 1..=LINES {
        in_time("a line that is held back", stdin.write_all(format!("{}\n", tag(number)).as_bytes())).await.unwrap();
        if number % (LINES / 4) == 0 && number < LINES {
            server.kill_and_restart();
        }
    }
    drop(stdin);
    let (last, code) = ended(child).await;
    assert_eq!((last, code), (format!("ship: {LINES} accepted: {LINES} answered"), Some(0)));
    let arrived = arrived(&server, LINES).await;
    assert_eq!((arrived.lost, arrived.in_order), (0, true), "{arrived}");
}

#[tokio::test]
async fn line_that_does_not_arrive_is_said_and_is_the_exit_status() {
    // Nobody listens there.
    let mut child = ship(&["relp://127.0.0.1:9", "--drain", "100ms"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo, without an end").await.unwrap();
    assert_eq!(ended(child).await, ("ship: 2 accepted: 2 unsent".to_owned(), Some(1)));
}

/// A log file that is written and rotated.
struct Log {
    folder: PathBuf,
    path: PathBuf,
    lines: u64,
}

impl Log {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("perconn-ship-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { path: folder.join("app.log"), folder, lines: 0 }
    }

    fn append(&mut self, count: u64) {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).unwrap();
        for number in self.lines + 1..=self.lines + count {
            writeln!(file, "{}", tag(number)).unwrap();
        }
        self.lines += count;
    }

    fn rotate(&self) {
        fs::rename(&self.path, self.folder.join("app.log.1")).unwrap();
    }

    fn args(&self) -> [&str; 2] {
        ["--file", self.path.to_str().unwrap()]
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn terminate(child: &Child) {
    let id = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
}

#[tokio::test]
async fn followed_file_arrives_through_rotations_kills_and_restarts_of_both() {
    let Some(server) = server("ship, a followed file") else { return };
    let url = relp_url(&server);
    let mut log = Log::new("follow");
    log.append(3_000);
    let [file, path] = log.args().map(str::to_owned);
    let start = || ship(&[&url, &file, &path]).spawn().unwrap();

    let child = start();
    has_arrived(&server, 3_000).await;
    server.kill_and_restart();
    log.append(3_000);
    log.rotate();
    log.append(3_000);
    has_arrived(&server, 9_000).await;
    terminate(&child);
    assert_eq!(ended(child).await, ("ship: 9000 accepted: 9000 answered".to_owned(), Some(0)));

    // Nobody follows it, and it is rotated meanwhile.
    log.append(3_000);
    log.rotate();
    log.append(3_000);
    let mut child = start();
    has_arrived(&server, 12_000).await;
    // A killed shipper sends some lines again, and leaves none out.
    child.kill().await.unwrap();
    log.append(3_000);
    let child = ship(&[&url, &file, &path, "--once"]).spawn().unwrap();
    let (last, code) = ended(child).await;
    assert_eq!(code, Some(0), "{last}");

    // A truncated file is begun anew: it is shorter than before.
    let child = start();
    fs::write(&log.path, "").unwrap();
    log.append(3_000);
    has_arrived(&server, log.lines).await;
    terminate(&child);
    assert_eq!(ended(child).await, ("ship: 3000 accepted: 3000 answered".to_owned(), Some(0)));
    let arrived = arrived(&server, log.lines).await;
    assert_eq!((arrived.lost, arrived.in_order), (0, true), "{arrived}");
}

#[tokio::test]
async fn wrong_arguments_are_named() {
    for (args, expected) in [
        (&[][..], "expected a server"),
        (&["host:514"], "\"host:514\": expected relp://HOST:PORT"),
        (&["relp://127.0.0.1"], "127.0.0.1"),
        (&["tcp://127.0.0.1:99999"], "127.0.0.1:99999"),
        (&["tcp://127.0.0.1:9", "--capacity", "0"], "capacity 0"),
        (&["tcp://127.0.0.1:9", "--capacity", "many"], "\"many\": expected a number of lines"),
        (&["tcp://127.0.0.1:9", "--drain", "5"], "\"5\": expected a time such as"),
        (&["tcp://127.0.0.1:9", "--when-full", "explode"], "\"explode\": expected wait"),
        (&["tcp://127.0.0.1:9", "--tag", "two words"], "\"two words\": expected 1 to 48"),
        (&["tcp://127.0.0.1:9", "--once"], "are for a --file"),
        (&["tcp://127.0.0.1:9", "tcp://127.0.0.1:10"], "unexpected \"tcp://127.0.0.1:10\""),
        (&["--fast"], "unknown option \"--fast\""),
    ] {
        let output = in_time("the end", ship(args).output()).await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(expected) && text.ends_with("Try --help.\n"), "{args:?}: {text}");
    }
    for path in ["/nowhere/app.log", "/proc"] {
        let output = in_time("the end", ship(&["tcp://127.0.0.1:9", "--file", path]).output()).await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && text.contains(path), "{text}");
    }
    let help = ship(&["--help"]).output().await.unwrap();
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("Usage: ship"));
}
