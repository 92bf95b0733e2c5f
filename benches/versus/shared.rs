//! Many tasks that write through one connection, each waiting until its bytes are accepted.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perconn::Conn;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::candidates::{raw, stubborn};
use super::harness::{Kind, Server, alternate, pin_to_core};
use super::table::{Cell, Chapter, Spread, progress};

const BYTES: [u8; 64] = [7; 64];

pub(crate) fn writers() -> Vec<Chapter> {
    let mut rows = Vec::new();
    for workers in [1, 2] {
        let server = if workers == 1 { Server::start(Kind::Drain) } else { Server::start_anywhere(Kind::Drain) };
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers)
            .on_thread_start(move || {
                if workers == 1 {
                    pin_to_core(0);
                }
            })
            .enable_all()
            .build()
            .expect("a runtime can be made");
        for tasks in [1, 8, 64, 512] {
            let calls = 16_384 / tasks;
            let times = alternate::<5>(61, |candidate| run(&runtime, candidate, server.address, tasks, calls));
            let [mutex, stubborn, channel, shared, alone] = &times;
            let name = format!(
                "{tasks} task{}, {workers} worker{}",
                if tasks == 1 { "" } else { "s" },
                if workers == 1 { "" } else { "s" }
            );
            let cells = vec![
                Cell::Nanoseconds(Spread::of_each(mutex, calls * tasks)),
                Cell::Speed(Spread::of_speed(mutex, stubborn)),
                Cell::Speed(Spread::of_speed(mutex, channel)),
                Cell::Speed(Spread::of_speed(mutex, shared)),
                if tasks == 1 { Cell::Speed(Spread::of_speed(alone, shared)) } else { Cell::none() },
            ];
            progress(&name, &cells);
            rows.push((name, cells));
        }
    }
    vec![Chapter {
        title: "Many tasks writing 64 B each through one connection, each waiting until its bytes are taken",
        reading: "The time of a write through `Arc<Mutex<TcpStream>>`, and the speed beside it: of stubborn-io behind the \
                  same; of a task that writes what comes through an `mpsc` channel, 64 at once at most, and answers through \
                  `oneshot`s; of `SharedConn` with `job_queue_size(64)` (the default is 10), and that also beside a bare \
                  stream that its only task owns.",
        columns: vec![
            "mutex + `TcpStream`",
            "mutex + stubborn-io",
            "channel + task",
            "`SharedConn`",
            "beside the bare stream",
        ],
        rows,
    }]
}

fn run(runtime: &Runtime, candidate: usize, server: SocketAddr, tasks: usize, calls: usize) -> Duration {
    runtime.block_on(async {
        match candidate {
            0 => {
                let stream = Arc::new(Mutex::new(raw(server).await));
                crowd(tasks, || {
                    let stream = Arc::clone(&stream);
                    async move {
                        for _ in 0..calls {
                            stream.lock().await.write_all(&BYTES).await.expect("the link holds");
                        }
                    }
                })
                .await
            }
            1 => {
                let stream = Arc::new(Mutex::new(stubborn(server).await));
                crowd(tasks, || {
                    let stream = Arc::clone(&stream);
                    async move {
                        for _ in 0..calls {
                            stream.lock().await.write_all(&BYTES).await.expect("the link holds");
                        }
                    }
                })
                .await
            }
            2 => {
                let (jobs, queue) = mpsc::channel(64);
                tokio::spawn(write_together(raw(server).await, queue));
                crowd(tasks, || {
                    let jobs = jobs.clone();
                    async move {
                        for _ in 0..calls {
                            let (done, outcome) = oneshot::channel();
                            jobs.send((BYTES.to_vec(), done)).await.expect("the task is there");
                            outcome.await.expect("the task answers");
                        }
                    }
                })
                .await
            }
            3 => {
                let conn = Conn::builder(server).job_queue_size(64).connect().await.expect("the server is there");
                let conn = conn.into_shared();
                crowd(tasks, || {
                    let conn = conn.clone();
                    async move {
                        for _ in 0..calls {
                            conn.write_all(&BYTES).await.expect("the link holds");
                        }
                    }
                })
                .await
            }
            _ => {
                let mut stream = Some(raw(server).await);
                crowd(1, || {
                    let stream = stream.take();
                    async move {
                        let mut stream = stream.expect("there is one task");
                        for _ in 0..calls {
                            stream.write_all(&BYTES).await.expect("the link holds");
                        }
                    }
                })
                .await
            }
        }
    })
}

/// The usual way to share a stream between many tasks: one task writes what the others send it.
async fn write_together(mut stream: TcpStream, mut queue: mpsc::Receiver<(Vec<u8>, oneshot::Sender<()>)>) {
    let (mut jobs, mut bytes) = (Vec::new(), Vec::new());
    while queue.recv_many(&mut jobs, 64).await > 0 {
        bytes.clear();
        for (job, _) in &jobs {
            bytes.extend_from_slice(job);
        }
        stream.write_all(&bytes).await.expect("the link holds");
        for (_, done) in jobs.drain(..) {
            let _ = done.send(());
        }
    }
}

/// Starts many tasks, and returns the time until all have ended.
async fn crowd<F: Future<Output = ()> + Send + 'static>(tasks: usize, mut task: impl FnMut() -> F) -> Duration {
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks).map(|_| tokio::spawn(task())).collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    start.elapsed()
}
