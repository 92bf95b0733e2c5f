//! `perconn::blocking::Conn` beside the bare `std::net::TcpStream`, in one run.
//!
//! ```text
//! cargo bench -p perconn-benches --bench blocking
//! ```
//!
//! Rounds of the two alternate. It prints the medians and their ratio.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use perconn::blocking::Conn;

const ROUNDS: usize = 15;

fn main() {
    // `cargo test --benches` passes no `--bench`: one short round shows that it runs.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { ROUNDS } else { 1 };
    compare("echo of 64 B, a round trip", "µs", rounds, |stream| {
        const TRIPS: u32 = 5_000;
        let mut bytes = [7; 64];
        let start = Instant::now();
        for _ in 0..TRIPS {
            stream.write_all(&bytes).unwrap();
            stream.read_exact(&mut bytes).unwrap();
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(TRIPS)
    });
    compare("write of 64 B, a call", "µs", rounds, |stream| bulk_write(stream, 64, 200_000));
    compare("write of 64 KiB, a call", "µs", rounds, |stream| bulk_write(stream, 64 << 10, 8_000));
    compare("read into 64 B, a call", "µs", rounds, |stream| bulk_read(stream, 64, 200_000));
    compare("read into 64 KiB, a MiB", "µs", rounds, |stream| bulk_read(stream, 64 << 10, 500) / 64.0 * 1024.0);
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Starts a server. The first byte that it reads says what it does: see [`answer`].
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = stream.read(&mut buffer)?;
        match buffer[0] {
            // 7 is echoed, 8 is discarded, and 9 orders the server to send.
            7 => stream.write_all(&buffer[..n])?,
            9 => {
                let total = u64::from_be_bytes(buffer[1..9].try_into().unwrap());
                let block = [8; 64 << 10];
                let mut left = total as usize;
                while left > 0 {
                    left -= stream.write(&block[..left.min(block.len())])?;
                }
            }
            _ if n == 0 => return Ok(()),
            // A 1 marks the end of a bulk write.
            _ if buffer[n - 1] == 1 => stream.write_all(&[1])?,
            _ => {}
        }
    }
}

fn bulk_write(stream: &mut dyn Stream, size: usize, calls: u32) -> f64 {
    let bytes = vec![8; size];
    let start = Instant::now();
    for _ in 0..calls {
        stream.write_all(&bytes).unwrap();
    }
    stream.write_all(&[8, 1]).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    start.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

fn bulk_read(stream: &mut dyn Stream, size: usize, calls: u32) -> f64 {
    let total = size as u64 * u64::from(calls);
    let mut order = vec![9];
    order.extend(total.to_be_bytes());
    let mut buffer = vec![0; size];
    let start = Instant::now();
    stream.write_all(&order).unwrap();
    let mut left = total;
    while left > 0 {
        left -= stream.read(&mut buffer).unwrap() as u64;
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

fn compare(what: &str, unit: &str, rounds: usize, run: impl Fn(&mut dyn Stream) -> f64) {
    let address = serve();
    let mut bare = TcpStream::connect(address).unwrap();
    bare.set_nodelay(true).unwrap();
    let mut conn = Conn::builder(address).nodelay(true).connect_blocking().unwrap();
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        figures[0].push(run(&mut bare));
        thread::sleep(Duration::from_millis(1));
        figures[1].push(run(&mut conn));
    }
    let [bare, conn] = figures.map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    });
    println!("{what:<28} std {bare:>8.2} {unit}   blocking::Conn {conn:>8.2} {unit}   ratio {:.2}", conn / bare);
}
