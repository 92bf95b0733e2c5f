//! Links that are cut at a random byte, again and again; every frame is checked at both ends.
//!
//! Each run has a seed. `PERCONN_CHAOS_SEED` repeats one, `PERCONN_CHAOS_LINKS` sets how many links each run cuts. The
//! sockets and the scheduler are real, so a seed repeats the plan but not every interleaving.

use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use perconn::Conn;
use perconn::codec::{Framed, FramedError};
use perconn::testing::{Cut, FaultProxy, Link};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio_util::bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::FramedRead;

use super::support::{Links, in_time, quick};
use super::{Numbered, broken};

fn links() -> u64 {
    std::env::var("PERCONN_CHAOS_LINKS").map_or(100, |text| text.parse().expect("a number of links"))
}

fn seed() -> u64 {
    match std::env::var("PERCONN_CHAOS_SEED") {
        Ok(text) => text.parse().expect("a seed"),
        Err(_) => rand::make_rng::<SmallRng>().random_range(0..1_000_000),
    }
}

/// A payload: the link, the number, and bytes that follow from these two.
fn payload(link: u64, number: u64, len: usize) -> Bytes {
    let mut payload = BytesMut::new();
    payload.put_u64(link);
    payload.put_u64(number);
    payload.extend((0..len).map(|i| (link + number) as u8 ^ i as u8));
    payload.freeze()
}

/// Checks every byte of a payload. Returns its link and its number.
fn check(mut frame: Bytes) -> (u64, u64) {
    let (link, number) = (frame.get_u64(), frame.get_u64());
    for (i, byte) in frame.iter().enumerate() {
        assert_eq!(*byte, (link + number) as u8 ^ i as u8, "frame {number} of link {link} is torn at byte {i}");
    }
    (link, number)
}

/// A random length: mostly small, sometimes more than a buffer holds.
fn length(random: &mut SmallRng) -> usize {
    if random.random_bool(0.1) { random.random_range(0..50_000) } else { random.random_range(0..200) }
}

/// What the server sends on a link: its frames, as they stand on the link.
fn served(seed: u64, link: u64) -> BytesMut {
    let mut random = SmallRng::seed_from_u64(seed ^ (link << 32));
    let (mut codec, mut bytes) = (Numbered::new(), BytesMut::new());
    for number in 0..random.random_range(1..20) {
        bytes.extend_from_slice(&codec.bytes(&payload(link, number, length(&mut random))));
    }
    bytes
}

/// Cuts each link but the last at a random byte. A half-close still passes all that the client sends until it closes. A
/// reset comes after some bytes of the client: if it overtook the end of the dial, there would be no link.
fn script(seed: u64) -> Vec<Link> {
    let mut random = SmallRng::seed_from_u64(seed);
    let cut = |link| {
        if random.random_bool(0.5) {
            let place = random.random_range(1..=served(seed, link).len() as u64);
            Link::pass().cut_after_from_server(place, Cut::HalfClose)
        } else {
            let most = 1_u64 << random.random_range(5..15);
            Link::pass().cut_after(random.random_range(1..=most), Cut::Reset)
        }
    };
    (1..=links()).map(cut).collect()
}

/// Reads whole frames until the link ends. The last frame may be cut off. Returns their numbers.
async fn receive(stream: impl AsyncRead + Unpin) -> Vec<u64> {
    let mut frames = FramedRead::new(stream, Numbered::new());
    let mut numbers = Vec::new();
    while let Some(frame) = frames.next().await {
        match frame {
            Ok(frame) => numbers.push(check(frame).1),
            Err(error) => {
                assert_ne!(
                    error.kind(),
                    std::io::ErrorKind::InvalidData,
                    "the link did not begin with a frame: {error}"
                );
                break;
            }
        }
    }
    numbers
}

/// Serves one link after the other, each until the client ends it. Signals `last_up` when the last one has sent its frames.
/// Returns the numbers of the frames that arrived on each.
async fn run_server(mut server: Links, seed: u64, last_up: oneshot::Sender<()>) -> Vec<Vec<u64>> {
    let mut last_up = Some(last_up);
    let mut seen = Vec::new();
    for link in 1..=links() + 1 {
        let (read, mut write) = tokio::io::split(server.next().await);
        let send = async {
            // It fails if the link is cut before.
            let _ = write.write_all(&served(seed, link)).await;
            if link > links() {
                last_up.take().map(|last_up| last_up.send(()));
            }
        };
        seen.push(in_time("a link", async { tokio::join!(receive(read), send) }).await.0);
    }
    seen
}

/// Reads until the first frame of the last link, and checks every item.
async fn read_frames<T>(mut stream: T) -> T
where
    T: Stream<Item = Result<Bytes, FramedError<std::io::Error>>> + Unpin,
{
    let (mut link, mut number) = (1, 0);
    let mut is_at_end = false;
    loop {
        match in_time("an item", stream.next()).await.expect("the stream has ended") {
            Ok(frame) => {
                assert!(!is_at_end, "the codec has refused the rest of this link");
                assert_eq!(check(frame), (link, number), "a frame is missing, or comes after the wrong break");
                number += 1;
                if link > links() {
                    return stream;
                }
            }
            // A clean close in the middle of a frame.
            Err(FramedError::Codec(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::Other, "{error}");
                is_at_end = true;
            }
            Err(error) => {
                assert_eq!(broken(error).0, link, "breaks are reported once, in order");
                (link, number, is_at_end) = (link + 1, 0, false);
            }
        }
    }
}

/// The outcome of one frame, as its sender sees it.
#[derive(Clone, Copy, PartialEq)]
enum Sent {
    Fed,
    Flushed,
    Failed,
}

/// Writes frames until the last link has taken some. Returns the reported breaks and the outcome of each frame.
async fn write_frames<T>(mut sink: T, seed: u64, mut last_up: oneshot::Receiver<()>) -> (T, Vec<u64>, Vec<Sent>)
where
    T: Sink<Bytes, Error = FramedError<std::io::Error>> + Unpin,
{
    let mut random = SmallRng::seed_from_u64(!seed);
    let (mut sent, mut reported, mut left) = (Vec::new(), Vec::new(), None);
    while left != Some(0) {
        if left.is_none() && last_up.try_recv().is_ok() {
            // Enough to get past the unreported breaks, and onto the last link.
            left = Some(50);
        }
        let frame = payload(0, sent.len() as u64, length(&mut random));
        let (success, outcome) = if random.random_bool(0.3) {
            (Sent::Fed, in_time("feed", sink.feed(frame)).await)
        } else {
            (Sent::Flushed, in_time("send", sink.send(frame)).await)
        };
        match outcome {
            Ok(()) => {
                sent.push(success);
                left = left.map(|left: u32| left - 1);
            }
            Err(error) => {
                sent.push(Sent::Failed);
                reported.push(broken(error).0);
            }
        }
        if random.random_bool(0.05) {
            tokio::task::yield_now().await;
        }
    }
    in_time("flush", sink.flush()).await.unwrap();
    (sink, reported, sent)
}

struct Run {
    _proxy: FaultProxy,
    seed: u64,
    framed: Framed<Numbered>,
    server: tokio::task::JoinHandle<Vec<Vec<u64>>>,
    last_up: oneshot::Receiver<()>,
}

async fn start() -> Run {
    let seed = seed();
    println!("PERCONN_CHAOS_SEED={seed}");
    let server = Links::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    proxy.script(script(seed));
    let conn =
        quick(Conn::builder(proxy.addr())).retry_min(Duration::from_millis(1)).retry_max(Duration::from_millis(3));
    let (sender, last_up) = oneshot::channel();
    let server = tokio::spawn(run_server(server, seed, sender));
    let framed = Framed::with_factory(conn.build().unwrap(), Numbered::new);
    Run { _proxy: proxy, seed, framed, server, last_up }
}

/// Asserts that whole frames arrived on every link, in order, none twice, and that no frame was lost silently.
fn check_delivery(seen: &[Vec<u64>], reported: &[u64], sent: &[Sent]) {
    let all: Vec<_> = seen.concat();
    assert!(all.is_sorted_by(|a, b| a < b), "frames came out of order, or twice: {all:?}");
    assert_eq!(all.last(), Some(&(sent.len() as u64 - 1)), "the last frame was confirmed and its link is up");
    assert!(reported.is_sorted_by(|a, b| a < b), "a break was reported twice: {reported:?}");
    for link in seen {
        for (i, number) in link.iter().map(|number| *number as usize).enumerate() {
            // If there was no flush and no error between this frame and the one before it, both went the same way. An error
            // right after them is excluded as well: with a `SplitSink` it may concern the first frame only.
            let is_pair = number > 0 && sent[number - 1] == Sent::Fed;
            if is_pair && sent[number] != Sent::Failed && sent.get(number + 1) != Some(&Sent::Failed) {
                assert!(i > 0 && link[i - 1] as usize == number - 1, "frame {} was lost silently", number - 1);
            }
        }
    }
}

async fn halves() {
    let Run { _proxy, seed, framed, server, last_up } = start().await;
    let (read, write) = framed.into_split();
    let reader = tokio::spawn(read_frames(read));
    let writer = tokio::spawn(write_frames(write, seed, last_up));
    let read = reader.await.unwrap();
    let (write, reported, sent) = writer.await.unwrap();
    drop((read, write));
    check_delivery(&server.await.unwrap(), &reported, &sent);
    assert_eq!(reported, (1..=links()).collect::<Vec<_>>(), "the write half reports each break");
}

async fn whole() {
    let Run { _proxy, seed, framed, server, last_up } = start().await;
    let (sink, stream) = framed.split();
    let reader = tokio::spawn(read_frames(stream));
    let writer = tokio::spawn(write_frames(sink, seed, last_up));
    let stream = reader.await.unwrap();
    let (sink, reported, sent) = writer.await.unwrap();
    drop((sink, stream));
    check_delivery(&server.await.unwrap(), &reported, &sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_in_two_tasks_survive_links_cut_at_random_bytes() {
    halves().await;
}

#[tokio::test]
async fn halves_on_one_thread_survive_links_cut_at_random_bytes() {
    halves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_in_two_tasks_survives_links_cut_at_random_bytes() {
    whole().await;
}

#[tokio::test]
async fn whole_on_one_thread_survives_links_cut_at_random_bytes() {
    whole().await;
}
