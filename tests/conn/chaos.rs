//! A server that is killed again and again, in every way, while framed records flow; both ends check every byte.
//!
//! Each run has a seed. `PERCONN_CHAOS_SEED` repeats one run, and `PERCONN_CHAOS_LINKS` sets how many links each run
//! kills. Sockets and scheduler are real, so a seed repeats the plan and not every interleaving.

mod halves;
mod shared;
mod whole;

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use perconn::acceptor::Stream;
use perconn::{Builder, Conn, Dial, TcpDialer};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Links, in_time, quick, reset_link};

const HELLO: &[u8] = b"hello, client";
const MAX_PAYLOAD: usize = 40_000;

/// How a link ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kill {
    Reset,
    Close,
    /// Reads only a part of a record, then resets or closes.
    MidFrame {
        clean: bool,
    },
    /// Sends a part of the greeting, then resets or closes.
    MidSetUp {
        clean: bool,
    },
    /// Reads nothing while the client's write fills the buffers, then resets.
    FullBuffers,
}

/// How the next link ends, and after how many records.
fn plan(random: &mut SmallRng) -> (Kill, usize) {
    let clean = random.random_bool(0.5);
    let kill = match random.random_range(0..10) {
        0..=2 => Kill::Reset,
        3..=5 => Kill::Close,
        6..=7 => Kill::MidFrame { clean },
        8 => Kill::MidSetUp { clean },
        _ => Kill::FullBuffers,
    };
    // At least one record: once it has arrived, the client's set-up is over and the link is up.
    (kill, random.random_range(1..30))
}

fn links() -> usize {
    std::env::var("PERCONN_CHAOS_LINKS").map_or(40, |text| text.parse().expect("a number of links"))
}

fn seeds() -> Vec<u64> {
    match std::env::var("PERCONN_CHAOS_SEED") {
        Ok(text) => vec![text.parse().expect("a seed")],
        Err(_) => {
            let mut random: SmallRng = rand::make_rng();
            (0..8).map(|_| random.random_range(0..1_000_000)).collect()
        }
    }
}

/// One record: its number, its length, and bytes derived from the number.
fn record(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend((0..len).map(|i| (number as usize + i) as u8));
    bytes
}

/// Reads one record and checks every byte of it. An error means that the link ended, perhaps in the middle of a record.
async fn read_record(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u64> {
    let number = stream.read_u64().await?;
    let len = stream.read_u32().await? as usize;
    assert!(len <= MAX_PAYLOAD, "not the start of a record: number {number:#x}, length {len:#x}");
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).await?;
    for (i, byte) in payload.iter().enumerate() {
        assert_eq!(*byte, (number as usize + i) as u8, "record {number} is torn at byte {i} of {len}");
    }
    Ok(number)
}

/// Serves one link as planned, and pushes the number of each whole record to `received`.
async fn serve(mut stream: Stream, kill: Kill, records: usize, received: &Mutex<Vec<u64>>) -> io::Result<()> {
    if let Kill::MidSetUp { clean } = kill {
        stream.write_all(&HELLO[..5]).await?;
        return end(stream, clean);
    }
    stream.write_all(HELLO).await?;
    for _ in 0..records {
        let number = read_record(&mut stream).await?;
        received.lock().unwrap().push(number);
        stream.write_all(&number.to_be_bytes()).await?;
    }
    match kill {
        Kill::Reset => end(stream, false),
        Kill::MidFrame { clean } => {
            stream.read_exact(&mut [0; 10]).await?;
            end(stream, clean)
        }
        Kill::FullBuffers => {
            // Long enough for a busy writer to fill the buffers. The test holds as well if it does not.
            tokio::time::sleep(Duration::from_millis(20)).await;
            end(stream, false)
        }
        Kill::Close | Kill::MidSetUp { .. } => end(stream, true),
    }
}

fn end(stream: Stream, clean: bool) -> io::Result<()> {
    if clean {
        drop(stream);
    } else {
        reset_link(stream);
    }
    Ok(())
}

/// A client whose session begins with the server's greeting.
fn client(server: &Links) -> Builder<impl Dial<Stream = TcpStream>> {
    let address = server.address();
    let greeted = TcpDialer::new(address).and_then(|mut stream| async move {
        let mut hello = vec![0; HELLO.len()];
        stream.read_exact(&mut hello).await?;
        assert_eq!(hello, HELLO);
        Ok(stream)
    });
    quick(Conn::builder(address).dialer(greeted)).retry_max(Duration::from_millis(5))
}

/// How many breaks the client sees: a server that ends during the set-up makes no link.
fn expected_breaks(seed: u64) -> u64 {
    let mut random = SmallRng::seed_from_u64(seed);
    let plans = (0..links()).map(|_| plan(&mut random).0);
    plans.filter(|kill| !matches!(kill, Kill::MidSetUp { .. })).count() as u64
}

/// Returns the numbers of the records that arrived whole, link by link.
async fn run_server(mut server: Links, seed: u64) -> Vec<Vec<u64>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut seen = Vec::new();
    for _ in 0..links() {
        let stream = server.next().await;
        let (kill, records) = plan(&mut random);
        let received = Mutex::new(Vec::new());
        // The client may end the link before the plan does.
        let _ = in_time("a link", serve(stream, kill, records, &received)).await;
        seen.push(received.into_inner().unwrap());
    }
    // The last link serves until the client closes it.
    let stream = server.next().await;
    let received = Mutex::new(Vec::new());
    let _ = in_time("the last link", serve(stream, Kill::Close, usize::MAX, &received)).await;
    seen.push(received.into_inner().unwrap());
    seen
}
