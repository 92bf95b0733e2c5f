//! The test's handle of a server process.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};

use crate::net::{Net, PORT};
use crate::server::{Mode, REPORT, ROLE};
use crate::support::in_time;

/// A server on the server's machine. The drop kills it.
pub struct Server {
    process: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStderr>>,
    /// Reports that the test has not asked for yet.
    unread: Vec<String>,
}

/// The end of a link, as the server saw it.
#[derive(Debug)]
pub struct Ended {
    pub received: u64,
    /// "closed", or the kind of the error.
    pub how: String,
}

impl Server {
    pub async fn start(net: &Net, mode: Mode) -> Self {
        Self::start_at(net, mode, PORT).await
    }

    pub async fn start_at(net: &Net, mode: Mode, port: u16) -> Self {
        let mut process = Command::new("ip")
            .args(["netns", "exec", &net.names.server])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "server::process", "--ignored", "--nocapture"])
            .env(ROLE, format!("{mode:?} {port}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut server = Self { process, commands, lines, unread: Vec::new() };
        server.report("listening").await;
        server
    }

    // ===== reports =====

    /// Waits for the first report that starts with `prefix`, and returns the rest of it.
    async fn report(&mut self, prefix: &str) -> String {
        loop {
            let index = self.unread.iter().position(|report| report.starts_with(prefix));
            if let Some(index) = index {
                return self.unread.remove(index)[prefix.len()..].trim().to_owned();
            }
            let line = in_time(prefix, self.lines.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("the server ended before it reported: {prefix}"));
            match line.strip_prefix(REPORT) {
                Some(report) => self.unread.push(report.to_owned()),
                None => eprintln!("the server's stderr: {line}"),
            }
        }
    }

    /// Waits for the first bytes of the `number`th link, as a number.
    pub async fn began(&mut self, number: u32) -> u64 {
        self.report(&format!("link {number} began with ")).await.parse().unwrap()
    }

    /// Waits for the end of the `number`th link.
    pub async fn ended(&mut self, number: u32) -> Ended {
        let report = self.report(&format!("link {number} ended after ")).await;
        let (received, how) = report.split_once(' ').unwrap();
        Ended { received: received.parse().unwrap(), how: how.to_owned() }
    }

    // ===== commands and signals =====

    /// Lets a `Gate` accept, or a `Hoard` read.
    pub async fn open(&mut self) {
        self.commands.write_all(b"open\n").await.unwrap();
    }

    /// Writes a byte on each link.
    pub async fn poke(&mut self) {
        self.commands.write_all(b"poke\n").await.unwrap();
    }

    pub async fn kill(mut self) {
        in_time("the server's end", self.process.kill()).await.unwrap();
    }

    /// Stops the process, and waits until all of its threads have stopped.
    pub async fn stop(&self) {
        self.signal("STOP").await;
        let tasks = format!("/proc/{}/task", self.pid());
        let are_stopped = || {
            std::fs::read_dir(&tasks).unwrap().all(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
                stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
            })
        };
        let all_stopped = async {
            while !are_stopped() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        in_time("the server stops", all_stopped).await;
    }

    pub async fn resume(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().await.unwrap();
        assert!(kill.success(), "kill -{name}: {kill}");
    }

    fn pid(&self) -> u32 {
        self.process.id().expect("the server has ended")
    }
}
