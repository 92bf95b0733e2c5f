//! A server that dies and returns, played by a proxy: the time to the first echo, and the dials of many clients at once.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use perconn::testing::{Cut, FaultProxy};
use perconn::{Conn, Event};
use stubborn_io::strategies::ExpBackoffStrategy;
use stubborn_io::{ReconnectOptions, StubbornTcpStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::harness::{Kind, Server, allow_descriptors};
use super::table::{Cell, Chapter, Spread, progress};

const CLIENTS: usize = 1_000;

pub(crate) fn measure() -> Vec<Chapter> {
    allow_descriptors();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be made");
    let mut rows = vec![first_echo(&runtime)];
    rows.extend(storm(&runtime));
    vec![Chapter {
        title: "The server dies and returns",
        reading: "From the moment it listens again to the first echo: redials after 10 to 200 ms, 25 outages of 0.3 to 0.8 s, \
                  both clients in the same ones (perconn with \
                  `stable_after` of 0.1 s). And 1,000 clients at once: redials after 0.1 to 2 s, an outage of 3 s.",
        columns: vec!["stubborn-io", "perconn"],
        rows,
    }]
}

fn first_echo(runtime: &Runtime) -> (String, Vec<Cell>) {
    const MIN: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_millis(200);
    let server = Server::start(Kind::Echo);
    let proxy = proxy(&server);
    let address = proxy.addr();
    let (stubborn, conn) = runtime.block_on(async {
        let stubborn = StubbornTcpStream::connect_with_options(address, stubborn_options(MIN, MAX)).await;
        let conn = Conn::builder(address).retry_min(MIN).retry_max(MAX).stable_after(MIN * 10).connect().await;
        (stubborn.expect("the server is there"), conn.expect("the server is there"))
    });
    let mut tasks = JoinSet::new();
    let mut echoes = |client: Client| {
        let (sender, echoes) = channel();
        match client {
            Client::Stubborn(stream) => tasks.spawn_on(echo_forever(stream, sender), runtime.handle()),
            Client::Perconn(conn) => tasks.spawn_on(echo_forever(conn, sender), runtime.handle()),
        };
        echoes
    };
    let clients = [echoes(Client::Stubborn(stubborn)), echoes(Client::Perconn(conn))];
    let mut times = [const { Vec::new() }; 2];
    for outage in 0..25 {
        thread::sleep(MAX * 2);
        die(&proxy);
        thread::sleep(Duration::from_millis(300 + outage * 20));
        proxy.heal();
        let back = Instant::now();
        for (echoes, times) in clients.iter().zip(&mut times) {
            times.push(first_after(back, echoes).as_secs_f64() * 1e3);
        }
    }
    let cells: Vec<Cell> = times.into_iter().map(|times| Cell::Milliseconds(Spread::of(times))).collect();
    let name = "first echo after the return".to_owned();
    progress(&name, &cells);
    (name, cells)
}

fn proxy(server: &Server) -> FaultProxy {
    FaultProxy::start_blocking(server.address).expect("there is a port")
}

/// The server is gone: its links are closed, and dials are refused.
fn die(proxy: &FaultProxy) {
    proxy.refuse();
    proxy.cut(Cut::Close);
}

enum Client {
    Stubborn(StubbornTcpStream<SocketAddr>),
    Perconn(Conn),
}

fn stubborn_options(min: Duration, max: Duration) -> ReconnectOptions {
    ReconnectOptions::new().with_retries_generator(move || ExpBackoffStrategy::new(min, 2.0, 0.05).with_max(max))
}

fn first_after(moment: Instant, echoes: &Receiver<Instant>) -> Duration {
    let after = echoes.iter().find(|echo| *echo > moment);
    after.expect("the client goes on").duration_since(moment)
}

/// Sends a request every millisecond, through all breaks. It stops waiting for an answer after 50 ms, since the request may
/// have been lost with a link.
async fn echo_forever(mut stream: impl AsyncRead + AsyncWrite + Unpin, sender: Sender<Instant>) {
    loop {
        let echo = async {
            stream.write_all(&[7; 64]).await?;
            stream.read_exact(&mut [0; 64]).await
        };
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(50), echo).await {
            let _ = sender.send(Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The moments at which dials ended, and whether they succeeded.
type Dials = Arc<Mutex<Vec<(Instant, bool)>>>;

/// The dials of many clients in one outage.
struct Storm {
    /// The most dials within 10 ms, and within 100 ms after the server's return.
    busiest: usize,
    busiest_after: usize,
    /// From the server's return until all clients were connected.
    all_back: Duration,
}

fn storm(runtime: &Runtime) -> [(String, Vec<Cell>); 3] {
    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(2);
    let stubborn = outage_of_many(runtime, async |address, dials: Dials, tasks| {
        let [up, failed] = [true, false].map(|outcome| {
            let dials = Arc::clone(&dials);
            move || record(&dials, outcome)
        });
        let options = stubborn_options(MIN, MAX).with_on_connect_callback(up).with_on_connect_fail_callback(failed);
        let stream = StubbornTcpStream::connect_with_options(address, options).await;
        tasks.spawn(read_forever(stream.expect("the server is there")));
    });
    let perconn = outage_of_many(runtime, async |address, dials: Dials, tasks| {
        let builder = Conn::builder(address).retry_min(MIN).retry_max(MAX).stable_after(MIN * 10).logger(|_| {});
        let conn = builder.on_event(move |event| match event {
            Event::Connected { .. } | Event::Reconnected { .. } => record(&dials, true),
            Event::DialFailed { .. } => record(&dials, false),
            _ => {}
        });
        tasks.spawn(read_forever(conn.connect().await.expect("the server is there")));
    });
    let both = [&stubborn, &perconn];
    let row = |name: &str, cells: [Cell; 2]| {
        let name = format!("{CLIENTS} clients: {name}");
        progress(&name, &cells);
        (name, cells.to_vec())
    };
    [
        row("dials in the busiest 10 ms", both.map(|storm| Cell::Count(storm.busiest as f64))),
        row("dials in the busiest 100 ms after the return", both.map(|storm| Cell::Count(storm.busiest_after as f64))),
        row("all are back after", both.map(|storm| Cell::text(format!("{:.1} s", storm.all_back.as_secs_f64())))),
    ]
}

fn record(dials: &Dials, outcome: bool) {
    if let Ok(mut dials) = dials.lock() {
        dials.push((Instant::now(), outcome));
    }
}

async fn read_forever(mut stream: impl AsyncRead + Unpin) {
    loop {
        // An error reports a break. The next call uses the next link.
        let _ = stream.read(&mut [0; 64]).await;
    }
}

fn outage_of_many(runtime: &Runtime, mut connect: impl AsyncFnMut(SocketAddr, Dials, &mut JoinSet<()>)) -> Storm {
    let server = Server::start(Kind::Hold);
    let proxy = proxy(&server);
    let address = proxy.addr();
    let dials = Dials::default();
    let mut tasks = JoinSet::new();
    runtime.block_on(async {
        for _ in 0..CLIENTS {
            connect(address, Arc::clone(&dials), &mut tasks).await;
        }
    });
    thread::sleep(Duration::from_millis(1_500));
    let recorded = || dials.lock().expect("nobody panics").clone();
    let first = recorded().len();
    die(&proxy);
    thread::sleep(Duration::from_secs(3));
    proxy.heal();
    let back = Instant::now();
    let up = || recorded()[first..].iter().filter(|(_, outcome)| *outcome).count();
    while up() < CLIENTS {
        assert!(back.elapsed() < Duration::from_secs(60), "only {} of {CLIENTS} clients are back", up());
        thread::sleep(Duration::from_millis(20));
    }
    let mut moments: Vec<Instant> = recorded()[first..].iter().map(|(moment, _)| *moment).collect();
    moments.sort();
    runtime.block_on(tasks.shutdown());
    let after = &moments[moments.partition_point(|moment| *moment < back)..];
    Storm {
        busiest: most_within(Duration::from_millis(10), &moments),
        busiest_after: most_within(Duration::from_millis(100), after),
        all_back: moments.last().map_or(Duration::ZERO, |last| last.saturating_duration_since(back)),
    }
}

/// The largest number of moments within any interval of this length. The moments are in ascending order.
fn most_within(stretch: Duration, moments: &[Instant]) -> usize {
    let within = |from: usize| moments[from..].partition_point(|moment| *moment < moments[from] + stretch);
    (0..moments.len()).map(within).max().unwrap_or(0)
}
