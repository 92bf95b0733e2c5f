//! One connection with one caller, or with a reader and a writer.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::candidates::{ALL, SplitWorkload, Workload, run, run_split};
use super::harness::{Kind, Server, alternate, one_thread};
use super::table::{Cell, Chapter, Spread, progress};

const COLUMNS: [&str; 3] = ["`TcpStream`", "stubborn-io", "perconn"];

/// Sizes of a call, and how many calls make a round of a few milliseconds.
const SIZES: [(&str, usize, usize); 3] = [("64 B", 64, 3_000), ("1 KiB", 1 << 10, 2_000), ("64 KiB", 1 << 16, 100)];

struct Echo {
    count: usize,
}

impl Workload for Echo {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) -> Duration {
        let mut answer = [0; 64];
        let mut rounds = async |count| {
            for _ in 0..count {
                stream.write_all(&[7; 64]).await.expect("the link holds");
                stream.read_exact(&mut answer).await.expect("the link holds");
            }
        };
        rounds(self.count / 10).await;
        let start = Instant::now();
        rounds(self.count).await;
        start.elapsed()
    }
}

struct Write {
    size: usize,
    count: usize,
}

impl Workload for Write {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) -> Duration {
        let bytes = vec![7; self.size];
        write(&mut stream, &bytes, self.count / 10).await;
        write(&mut stream, &bytes, self.count).await
    }
}

struct Read {
    size: usize,
    count: usize,
}

impl Workload for Read {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) -> Duration {
        let mut buffer = vec![0; self.size];
        read(&mut stream, &mut buffer, self.count / 10).await;
        read(&mut stream, &mut buffer, self.count).await
    }
}

/// Reads and writes at once, in two tasks.
struct Both {
    size: usize,
    count: usize,
}

impl SplitWorkload for Both {
    async fn run<R, W>(&self, mut reader: R, mut writer: W) -> Duration
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let Self { size, count } = *self;
        let start = Instant::now();
        let reads = tokio::spawn(async move { read(&mut reader, &mut vec![0; size], count).await });
        let writes = tokio::spawn(async move { write(&mut writer, &vec![7; size], count).await });
        reads.await.expect("the reader ends well");
        writes.await.expect("the writer ends well");
        start.elapsed()
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8], count: usize) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        stream.write_all(bytes).await.expect("the link holds");
    }
    start.elapsed()
}

async fn read(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8], count: usize) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        stream.read_exact(buffer).await.expect("the link holds");
    }
    start.elapsed()
}

/// A row: the time of the bare stream, the speed of the others.
fn row(name: String, count: usize, times: &[Vec<Duration>; 3]) -> (String, Vec<Cell>) {
    let [raw, stubborn, perconn] = times;
    let cells = vec![
        Cell::Nanoseconds(Spread::of_each(raw, count)),
        Cell::Speed(Spread::of_speed(raw, stubborn)),
        Cell::Speed(Spread::of_speed(raw, perconn)),
    ];
    progress(&name, &cells);
    (name, cells)
}

pub(crate) fn echo() -> Vec<Chapter> {
    const COUNT: usize = 300;
    let server = Server::start(Kind::Echo);
    let runtime = one_thread();
    let job = Echo { count: COUNT };
    let times = alternate(201, |candidate| runtime.block_on(run(ALL[candidate], server.address, &job)));
    vec![Chapter {
        title: "Echo",
        reading: "The time of a round trip, and the speed beside the bare stream's.",
        columns: COLUMNS.to_vec(),
        rows: vec![row("echo of 64 B".into(), COUNT, &times)],
    }]
}

pub(crate) fn bulk() -> Vec<Chapter> {
    let runtime = one_thread();
    let mut rows = Vec::new();
    let server = Server::start(Kind::Drain);
    for (name, size, count) in SIZES {
        let job = Write { size, count };
        let times = alternate(201, |candidate| runtime.block_on(run(ALL[candidate], server.address, &job)));
        rows.push(row(format!("write {name}"), count, &times));
    }
    let server = Server::start(Kind::Flood);
    for (name, size, count) in SIZES {
        let job = Read { size, count };
        let times = alternate(201, |candidate| runtime.block_on(run(ALL[candidate], server.address, &job)));
        rows.push(row(format!("read {name}"), count, &times));
    }
    vec![Chapter {
        title: "Bulk, one task",
        reading: "The time of a call on the bare stream, and the speed beside it.",
        columns: COLUMNS.to_vec(),
        rows,
    }]
}

pub(crate) fn halves() -> Vec<Chapter> {
    let runtime = one_thread();
    let server = Server::start(Kind::Flood);
    let mut rows = Vec::new();
    for (name, size, count) in SIZES {
        let job = Both { size, count };
        let times = alternate(201, |candidate| runtime.block_on(run_split(ALL[candidate], server.address, &job)));
        rows.push(row(format!("read and write {name}"), count, &times));
    }
    vec![Chapter {
        title: "Bulk, a reader and a writer in two tasks",
        reading: "The time of a read and a write on the halves of the bare stream, and the speed beside it. \
                  (stubborn-io has no halves of its own: `tokio::io::split`.)",
        columns: COLUMNS.to_vec(),
        rows,
    }]
}
