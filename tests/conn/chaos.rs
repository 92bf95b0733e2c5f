//! A proxy that cuts link after link, in every way, while framed records flow; both ends check every byte.
//!
//! Each run has a seed. `PERCONN_CHAOS_SEED` repeats one run, and `PERCONN_CHAOS_LINKS` sets how many links each run
//! cuts. Sockets and scheduler are real, so a seed repeats the plan and not every interleaving.

mod halves;
mod shared;
mod whole;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use perconn::acceptor::Stream;
use perconn::testing::{Cut, FaultProxy, Link, LinkEnd};
use perconn::{Builder, Conn, Dial, TcpDialer};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{Links, in_time, quick};

const HELLO: &[u8] = b"hello, client";
const MAX_PAYLOAD: usize = 40_000;

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

/// A server behind a proxy that cuts its links.
struct Chaos {
    proxy: Arc<FaultProxy>,
    /// The generation of the link that serves until the client closes it.
    last: u64,
    server: JoinHandle<Vec<Vec<u64>>>,
}

impl Chaos {
    /// Every link but the last is cut where it is certain whether the client's set-up is over: in the greeting, or behind
    /// a byte that the client sent or that answers one. A reset right behind the greeting might overtake it.
    async fn start(seed: u64) -> Self {
        println!("PERCONN_CHAOS_SEED={seed}");
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut script, mut stalls, mut served, mut last) = (Vec::new(), Vec::new(), 1, 1);
        for number in 0..links() {
            let cut = if random.random_bool(0.5) { Cut::Close } else { Cut::Reset };
            let most = 1_u64 << random.random_range(0..18);
            let sent = random.random_range(1..=most);
            let answered = HELLO.len() as u64 + 8 * random.random_range(u64::from(cut == Cut::Reset)..30);
            let kind = random.random_range(0..12);
            if random.random_bool(0.1) {
                script.push(Link::refuse().lasting(Duration::from_millis(5)));
            }
            script.push(match kind {
                0..4 => Link::pass().cut_after_from_server(answered, cut),
                4 => Link::pass().cut_after_from_server(answered + random.random_range(1..8), cut),
                5..8 => Link::pass().cut_after(sent, cut),
                8 => Link::pass().cut_after(sent, Cut::Stall),
                9 => Link::pass().cut_after_from_server(random.random_range(1..HELLO.len() as u64), cut),
                10 => Link::accept_and_close(),
                _ => Link::accept_and_reset(),
            });
            stalls.extend((kind == 8).then_some(number));
            last += u64::from(kind < 9);
            served += usize::from(kind < 10);
        }
        let server = Links::start();
        let proxy = Arc::new(FaultProxy::start(server.address()).await.unwrap());
        proxy.script(script);
        let stalled = Arc::clone(&proxy);
        let server =
            tokio::spawn(async move { tokio::join!(run_server(server, served), end_stalls(&stalled, stalls)).0 });
        Self { proxy, last, server }
    }

    /// A client whose session begins with the server's greeting.
    fn client(&self) -> Builder<impl Dial<Stream = TcpStream>> {
        let address = self.proxy.addr();
        let greeted = TcpDialer::new(address).and_then(|mut stream| async move {
            let mut hello = vec![0; HELLO.len()];
            stream.read_exact(&mut hello).await?;
            assert_eq!(hello, HELLO);
            Ok(stream)
        });
        quick(Conn::builder(address).dialer(greeted)).retry_max(Duration::from_millis(5))
    }

    /// When the client is gone: the numbers of the records that arrived whole, link by link, and the generations of the
    /// links that broke.
    async fn end(self) -> (Vec<Vec<u64>>, Vec<u64>) {
        let seen = in_time("the server", self.server).await.unwrap();
        let ledger = self.proxy.ledger();
        let cut = &ledger[..links()];
        assert!(cut.iter().all(|link| matches!(link.end, Some(LinkEnd::Cut(_)))), "{ledger:#?}");
        let broken = cut.iter().filter(|link| link.to_client >= HELLO.len() as u64).count() as u64;
        assert_eq!((ledger.len(), broken + 1), (links() + 1, self.last), "{ledger:#?}");
        (seen, (1..=broken).collect())
    }
}

/// Resets each stalled link.
async fn end_stalls(proxy: &FaultProxy, stalls: Vec<usize>) {
    for link in stalls {
        proxy.wait_for(move |links| links.get(link).is_some_and(|link| link.is_stalled)).await;
        // Long enough for a busy writer to fill the buffers. The test holds as well if it does not.
        tokio::time::sleep(Duration::from_millis(20)).await;
        proxy.cut(Cut::Reset);
    }
}

/// Serves this many links, and returns the numbers of the records that arrived whole, link by link.
async fn run_server(mut server: Links, links: usize) -> Vec<Vec<u64>> {
    let mut seen = Vec::new();
    for _ in 0..links {
        let (stream, mut received) = (server.next().await, Vec::new());
        // It ends with an error, as the link does.
        let _ = in_time("a link", serve(stream, &mut received)).await;
        seen.push(received);
    }
    seen
}

/// Greets, and acknowledges each whole record.
async fn serve(mut stream: Stream, received: &mut Vec<u64>) -> io::Result<()> {
    stream.write_all(HELLO).await?;
    loop {
        let number = read_record(&mut stream).await?;
        received.push(number);
        stream.write_all(&number.to_be_bytes()).await?;
    }
}
