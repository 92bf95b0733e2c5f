//! Real servers, each a process of its own on a free port, with its files in a temporary folder. A test kills them with
//! SIGKILL or another signal, and starts them again at the same address.

#![allow(dead_code, unreachable_pub)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::HANG_LIMIT;

/// A server. Its drop kills it and removes its folder, even when the test panics.
pub struct RealServer {
    pub address: SocketAddr,
    pub folder: PathBuf,
    process: Arc<Mutex<Process>>,
}

struct Process {
    address: SocketAddr,
    folder: PathBuf,
    command: Box<dyn Fn() -> Command + Send>,
    child: Option<Child>,
    is_finished: bool,
    /// Called with the folder after the last kill.
    clean_up: Option<fn(&Path)>,
}

impl RealServer {
    /// Starts the command that `command` returns for a folder and a port. `command` also makes the files in the folder.
    pub fn start<C: Fn() -> Command + Send + 'static>(name: &str, command: impl FnOnce(&Path, u16) -> C) -> Self {
        let number = next_number();
        Self::start_numbered(number, name, free_address(number), command)
    }

    /// The same, at an address that the test chooses.
    pub fn start_at<C: Fn() -> Command + Send + 'static>(
        address: SocketAddr,
        name: &str,
        command: impl FnOnce(&Path, u16) -> C,
    ) -> Self {
        Self::start_numbered(next_number(), name, address, command)
    }

    fn start_numbered<C: Fn() -> Command + Send + 'static>(
        number: u32,
        name: &str,
        address: SocketAddr,
        command: impl FnOnce(&Path, u16) -> C,
    ) -> Self {
        let folder = std::env::temp_dir().join(format!("perconn-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let nothing = Box::new(|| unreachable!("the server has no command yet"));
        let process = Process {
            address,
            folder: folder.clone(),
            command: nothing,
            child: None,
            is_finished: false,
            clean_up: None,
        };
        // From here on, a drop removes the folder.
        let server = Self { address, folder: folder.clone(), process: Arc::new(Mutex::new(process)) };
        let command = Box::new(command(&folder, address.port()));
        server.lock().command = command;
        server.lock().start();
        server
    }

    /// Kills the server. It stays down until [`Self::start_again`].
    pub fn kill(&self) {
        self.lock().kill();
    }

    /// Starts the server unless it runs, and waits until it listens.
    pub fn start_again(&self) {
        self.lock().start();
    }

    /// Kills the server, and starts it again in another thread.
    pub fn kill_and_restart(&self) {
        self.lock().kill();
        let process = Arc::clone(&self.process);
        thread::spawn(move || lock(&process).start());
    }

    /// Sends a signal to the server, and waits until it has exited.
    pub fn end_by(&self, signal: Signal) {
        self.lock().end_by(signal);
    }

    /// Stops all processes of the server: they keep their sockets and do nothing.
    pub fn freeze(&self) {
        self.lock().signal_all(Signal::STOP);
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&self) {
        self.lock().signal_all(Signal::CONT);
    }

    /// Calls `clean_up` with the folder after the last kill, before the folder is removed.
    pub fn clean_up_by(&self, clean_up: fn(&Path)) {
        self.lock().clean_up = Some(clean_up);
    }

    /// The output of the server since its last start.
    pub fn log(&self) -> String {
        log_in(&self.folder)
    }

    fn lock(&self) -> MutexGuard<'_, Process> {
        lock(&self.process)
    }
}

fn log_in(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn next_number() -> u32 {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn lock(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    /// Starts the server and waits until it listens.
    fn start(&mut self) {
        if self.is_finished || self.child.is_some() {
            return;
        }
        let begin = Instant::now();
        let mut earlier_log = String::new();
        loop {
            let log = File::create(self.folder.join("log")).unwrap();
            let mut command = (self.command)();
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            let child = self.child.insert(command.spawn().unwrap());
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect_timeout(&self.address, HANG_LIMIT / 10).is_ok() {
                    return;
                }
                if begin.elapsed() >= HANG_LIMIT {
                    let state = |what| fs::read_to_string(format!("/proc/{}/{what}", child.id())).unwrap_or_default();
                    let log = log_in(&self.folder);
                    panic!(
                        "does not listen: {} {}\n{log}\nthe process before:\n{earlier_log}",
                        state("stat"),
                        state("wchan")
                    );
                }
                thread::sleep(Duration::from_millis(5));
            }
            // The port or the shared memory of the process before may be freed late.
            earlier_log = log_in(&self.folder);
            assert!(begin.elapsed() < HANG_LIMIT, "does not start: {earlier_log}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the process and its children, so that none of them sends another byte.
    fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if child.try_wait().unwrap().is_some() {
            return;
        }
        let parent = Pid::from_child(&child);
        // A stopped parent starts no more children and does not see them die, and they do not see it die.
        kill_process(parent, Signal::STOP).unwrap();
        let children = children(child.id());
        for child in &children {
            let _ = kill_process(*child, Signal::KILL);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // A child may hold the listening socket until it exits.
        while children.iter().any(|child| is_running(*child)) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn end_by(&mut self, signal: Signal) {
        let Some(child) = &mut self.child else { return };
        let begin = Instant::now();
        kill_process(Pid::from_child(child), signal).unwrap();
        while child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < HANG_LIMIT, "does not end by {signal:?}");
            thread::sleep(Duration::from_millis(1));
        }
        self.child = None;
    }

    fn signal_all(&self, signal: Signal) {
        let Some(parent) = &self.child else { return };
        // The parent first: once it is stopped, it starts no more children.
        let _ = kill_process(Pid::from_child(parent), signal);
        for child in children(parent.id()) {
            let _ = kill_process(child, signal);
        }
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let mut process = self.lock();
        process.is_finished = true;
        process.kill();
        if let Some(clean_up) = process.clean_up {
            clean_up(&process.folder);
        }
        if thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
        // A killed process may still be exiting.
        for _ in 0..100 {
            if fs::remove_dir_all(&process.folder).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn children(process: u32) -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect()
}

/// Whether a process has not exited yet. An orphan that has may stay a zombie for long.
fn is_running(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

/// A free port below the range that the kernel gives to clients. While the server is down, a port of that range could
/// be taken, or a client on it could connect to itself.
fn free_address(number: u32) -> SocketAddr {
    let first = std::process::id().wrapping_mul(37).wrapping_add(number);
    let ports = (0..10_000).map(|step| 20_000 + (first.wrapping_add(step * 101) % 10_000) as u16);
    let free =
        ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).find(|address| TcpListener::bind(address).is_ok());
    free.expect("a free port")
}

/// The path of a program. If there is none, prints a line that the test is skipped.
pub fn program(test: &str, name: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = folders
        .iter()
        .copied()
        .chain(path.split(':'))
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        // The test harness would capture `eprintln!`.
        let _ = writeln!(io::stderr(), "skipped: {test}: there is no {name}");
    }
    found
}
