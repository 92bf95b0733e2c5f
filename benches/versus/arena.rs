//! Where it happens: servers in processes of their own, cores, and rounds.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// What a server does with each connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Sends back what it gets.
    Echo,
    /// Throws away what it gets.
    Drain,
    /// Throws away what it gets, and sends as fast as it can.
    Flood,
    /// Keeps it open.
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
    /// On a core of its own, if there are two.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::launch(kind, ([127, 0, 0, 1], 0).into(), "1")
    }

    /// On whichever core is free.
    pub(crate) fn start_anywhere(kind: Kind) -> Self {
        Self::launch(kind, ([127, 0, 0, 1], 0).into(), "any")
    }

    pub(crate) fn start_at(kind: Kind, address: SocketAddr) -> Self {
        Self::launch(kind, address, "any")
    }

    fn launch(kind: Kind, address: SocketAddr, core: &str) -> Self {
        let name = KINDS.iter().find(|(known, _)| *known as u8 == kind as u8).map_or("", |(_, name)| *name);
        let mut process = myself(&["as-server", name, &address.to_string(), core])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let output = process.stdout.as_mut().expect("its output is a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("the server says where it listens");
        let address = line.trim().parse().unwrap_or_else(|_| panic!("the server says {line:?}, and not its address"));
        Self { address, process }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// This program, to be started again in another role.
pub(crate) fn myself(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a file"));
    command.args(arguments);
    command
}

/// The server's process.
pub(crate) fn serve(kind: &str, address: &str, core: &str) -> ExitCode {
    let Some((kind, _)) = KINDS.into_iter().find(|(_, name)| *name == kind) else { return ExitCode::FAILURE };
    if core == "1" {
        stay_on_core(1);
    }
    allow_descriptors();
    // When the benchmark is killed, so is this.
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
            _ => drop(thread::spawn(move || attend(kind, stream))),
        }
    }
    ExitCode::SUCCESS
}

/// Until the connection ends.
fn attend(kind: Kind, mut stream: TcpStream) {
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

/// A runtime of one thread, this one, on a core of its own.
pub(crate) fn one_thread() -> Runtime {
    stay_on_core(0);
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// Keeps the calling thread, and what it starts from now on, on a core. If there is no such core, nothing changes.
#[cfg(target_os = "linux")]
pub(crate) fn stay_on_core(core: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn stay_on_core(_core: usize) {}

/// As many open files as the system lets this process have.
pub(crate) fn allow_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// Lets contestants take turns: each runs once a round, another one begins, and every other round goes backwards, so that
/// nobody always follows the same one. Returns the times of each, by round.
pub(crate) fn take_turns<const N: usize>(rounds: usize, mut run: impl FnMut(usize) -> Duration) -> [Vec<Duration>; N] {
    let mut times = [const { Vec::new() }; N];
    for round in 0..rounds {
        for turn in 0..N {
            let turn = if round % 2 == 0 { turn } else { N - 1 - turn };
            let contestant = (round + turn) % N;
            times[contestant].push(run(contestant));
        }
    }
    times
}
