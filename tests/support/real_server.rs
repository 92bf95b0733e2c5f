//! Real servers, each a process of its own on a free port, with its files in a temporary folder. They are killed without a
//! word (SIGKILL), or by a signal of the test's choice, and started again at the same address.

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

use crate::support::HANG;

/// A server that is stopped, and whose folder is removed, when the test is over, however it ends.
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
    is_over: bool,
    /// What has to be done when the server is over, with its folder.
    clean_up: Option<fn(&Path)>,
}

impl RealServer {
    /// Starts what `command` makes of a folder and a port. (It makes the files in the folder, too.)
    pub fn start<C: Fn() -> Command + Send + 'static>(name: &str, command: impl FnOnce(&Path, u16) -> C) -> Self {
        let number = next_number();
        Self::start_numbered(number, name, free_address(number), command)
    }

    /// The same, at an address that the test has chosen.
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
        let process =
            Process { address, folder: folder.clone(), command: nothing, child: None, is_over: false, clean_up: None };
        // From here on, the folder is removed.
        let server = Self { address, folder: folder.clone(), process: Arc::new(Mutex::new(process)) };
        let command = Box::new(command(&folder, address.port()));
        server.lock().command = command;
        server.lock().start();
        server
    }

    /// Kills the server. It stays away until it is started again.
    pub fn kill(&self) {
        self.lock().kill();
    }

    /// Starts the server, unless it runs, and waits until it listens.
    pub fn start_again(&self) {
        self.lock().start();
    }

    /// Kills the server, and lets it start again in another thread.
    pub fn kill_and_restart(&self) {
        self.lock().kill();
        let process = Arc::clone(&self.process);
        thread::spawn(move || lock(&process).start());
    }

    /// Asks the server to end, and waits until it has.
    pub fn end_by(&self, signal: Signal) {
        self.lock().end_by(signal);
    }

    /// Stops all its processes: they keep their sockets, and do nothing.
    pub fn freeze(&self) {
        self.lock().signal_all(Signal::STOP);
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&self) {
        self.lock().signal_all(Signal::CONT);
    }

    /// Does this with the folder when the server is over, before the folder is removed.
    pub fn clean_up_by(&self, clean_up: fn(&Path)) {
        self.lock().clean_up = Some(clean_up);
    }

    /// What it has said since it was started.
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
        if self.is_over || self.child.is_some() {
            return;
        }
        let begin = Instant::now();
        let mut before = String::new();
        loop {
            let log = File::create(self.folder.join("log")).unwrap();
            let mut command = (self.command)();
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            let child = self.child.insert(command.spawn().unwrap());
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect_timeout(&self.address, HANG / 10).is_ok() {
                    return;
                }
                if begin.elapsed() >= HANG {
                    let state = |what| fs::read_to_string(format!("/proc/{}/{what}", child.id())).unwrap_or_default();
                    let log = log_in(&self.folder);
                    panic!("does not listen: {} {}\n{log}\nthe one before:\n{before}", state("stat"), state("wchan"));
                }
                thread::sleep(Duration::from_millis(5));
            }
            // What is left of the one before (its port, its shared memory) may take a moment to go.
            before = log_in(&self.folder);
            assert!(begin.elapsed() < HANG, "does not start: {before}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the process and its children, none of which can say another word.
    fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if child.try_wait().unwrap().is_some() {
            return;
        }
        let parent = Pid::from_child(&child);
        // A stopped parent has no more children, and does not see them die; the children do not see it die.
        kill_process(parent, Signal::STOP).unwrap();
        let children = children(child.id());
        for child in &children {
            let _ = kill_process(*child, Signal::KILL);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // A child may hold the listening socket to its end.
        while children.iter().any(|child| lives(*child)) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn end_by(&mut self, signal: Signal) {
        let Some(child) = &mut self.child else { return };
        let begin = Instant::now();
        kill_process(Pid::from_child(child), signal).unwrap();
        while child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < HANG, "does not end by {signal:?}");
            thread::sleep(Duration::from_millis(1));
        }
        self.child = None;
    }

    fn signal_all(&self, signal: Signal) {
        let Some(parent) = &self.child else { return };
        // The parent first: it has no more children once it is stopped.
        let _ = kill_process(Pid::from_child(parent), signal);
        for child in children(parent.id()) {
            let _ = kill_process(child, signal);
        }
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let mut process = self.lock();
        process.is_over = true;
        process.kill();
        if let Some(clean_up) = process.clean_up {
            clean_up(&process.folder);
        }
        if thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
        // What was killed may still be on its way out.
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

/// Whether a process has not yet exited. (The orphan that has, may wait for long to be collected.)
fn lives(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

/// A port below those that the kernel gives to clients: one of these could be taken while the server is down, or
/// connect to itself.
fn free_address(number: u32) -> SocketAddr {
    let first = std::process::id().wrapping_mul(37).wrapping_add(number);
    let ports = (0..10_000).map(|step| 20_000 + (first.wrapping_add(step * 101) % 10_000) as u16);
    let free =
        ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).find(|address| TcpListener::bind(address).is_ok());
    free.expect("a free port")
}

/// The path of a program, or a line that says that the test is skipped.
pub fn program(test: &str, name: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = folders
        .iter()
        .copied()
        .chain(path.split(':'))
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        // Not by `eprintln!`, which the harness would keep to itself.
        let _ = writeln!(io::stderr(), "skipped: {test}: there is no {name}");
    }
    found
}
