//! Servers in processes of their own, cores, and rounds.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// What a server does with each connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Sends back what it reads.
    Echo,
    /// Discards what it reads.
    Drain,
    /// Discards what it reads, and sends as fast as it can.
    Flood,
    /// Keeps the connection open.
    Hold,
}

const KINDS: [(Kind, &str); 4] =
    [(Kind::Echo, "echo"), (Kind::Drain, "drain"), (Kind::Flood, "flood"), (Kind::Hold, "hold")];

/// A server process. It dies when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Server {
    /// Starts one on a core of its own, if there are two.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::launch(kind, ([127, 0, 0, 1], 0).into(), "1")
    }

    /// Starts one on any core.
    pub(crate) fn start_anywhere(kind: Kind) -> Self {
        Self::launch(kind, ([127, 0, 0, 1], 0).into(), "any")
    }

    fn launch(kind: Kind, address: SocketAddr, core: &str) -> Self {
        let name = KINDS.iter().find(|(known, _)| *known as u8 == kind as u8).map_or("", |(_, name)| *name);
        let mut process = this_program(&["as-server", name, &address.to_string(), core])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let output = process.stdout.as_mut().expect("its output is a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("the server says where it listens");
        let address =
            line.trim().parse().unwrap_or_else(|_| panic!("the server printed {line:?}; expected its address"));
        Self { address, process }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command that starts this program again in another role.
pub(crate) fn this_program(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a file"));
    command.args(arguments);
    command
}

/// The server's process.
pub(crate) fn serve(kind: &str, address: &str, core: &str) -> ExitCode {
    let Some((kind, _)) = KINDS.into_iter().find(|(_, name)| *name == kind) else { return ExitCode::FAILURE };
    if core == "1" {
        pin_to_core(1);
    }
    allow_descriptors();
    // Ends with the benchmark, also if that is killed.
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let listener = TcpListener::bind(address).expect("the address is free");
    println!("{}", listener.local_addr().expect("a bound socket has an address"));
    let mut held = Vec::new();
    for stream in listener.incoming() {
        let stream = stream.expect("a connection can be accepted");
        match kind {
            Kind::Hold => held.push(stream),
            _ => drop(thread::spawn(move || serve_connection(kind, stream))),
        }
    }
    ExitCode::SUCCESS
}

/// Serves a connection until it ends.
fn serve_connection(kind: Kind, mut stream: TcpStream) {
    let mut buffer = vec![0; 1 << 18];
    if let Kind::Flood = kind {
        let mut source = stream.try_clone().expect("a socket can be shared");
        thread::spawn(move || while source.write(&[1; 1 << 16]).is_ok_and(|n| n > 0) {});
    }
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if matches!(kind, Kind::Echo) && stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// A runtime on the calling thread, which is pinned to a core of its own.
pub(crate) fn one_thread() -> Runtime {
    pin_to_core(0);
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// Pins the calling thread, and the threads and processes it starts from now on, to a core. Does nothing if there is no such core.
#[cfg(target_os = "linux")]
pub(crate) fn pin_to_core(core: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin_to_core(_core: usize) {}

/// Raises the limit of open files as far as the system lets this process.
pub(crate) fn allow_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// Runs each candidate once a round. Each round begins with another one, and every second round reverses the order, so that
/// no candidate always follows the same one. Returns the times of each, by round.
pub(crate) fn alternate<const N: usize>(rounds: usize, mut run: impl FnMut(usize) -> Duration) -> [Vec<Duration>; N] {
    let mut times = [const { Vec::new() }; N];
    for round in 0..rounds {
        for turn in 0..N {
            let turn = if round % 2 == 0 { turn } else { N - 1 - turn };
            let candidate = (round + turn) % N;
            times[candidate].push(run(candidate));
        }
    }
    times
}
