//! The simulated network: links in memory and in virtual time, with a client end and a server end.
//!
//! Next: `server.rs`, which drives the server ends.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::choices::Choices;
use crate::journal::{End, Journal, Note, Passed};
use crate::message;

/// All links of one schedule.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    choices: Choices,
    journal: Journal,
    faults: FaultRates,
    links: Mutex<Vec<Link>>,
    is_healthy: AtomicBool,
    /// Notified when the faults stop.
    healthy: Notify,
}

/// How often calls fail in one schedule, and other properties of its network.
#[derive(Clone, Copy, Debug)]
pub struct FaultRates {
    /// How many bytes fit into a link in each direction.
    pub capacity: usize,
    /// The chance in percent that a call on a stream is short, is pending without a reason, or fails.
    pub short: usize,
    pub spurious_pending: usize,
    pub io_error: usize,
    /// Whether `Dial::is_closed` reports that a link is closed.
    pub reports_close: bool,
}

/// One link.
#[derive(Clone)]
pub struct Link(Arc<Mutex<LinkState>>);

pub struct LinkState {
    pub number: u64,
    /// All bytes that the client end accepted, in order.
    pub accepted: Vec<u8>,
    /// How many of them the server has read.
    pub consumed: usize,
    /// All bytes that the server has sent, and how many of them the client has read.
    pub sent: Vec<u8>,
    pub delivered: usize,
    pub last_delivery: Option<Instant>,
    pub end: Option<End>,
    /// The server has closed its own direction and goes on reading.
    pub is_half_closed: bool,
    /// No byte passes at the moment.
    pub stalled: bool,
    pub client_shut: bool,
    pub client_dropped: bool,
    /// How many bytes were written after `is_closed` had reported the close.
    pub written_when_closed: usize,
    /// How many of the bytes that the server has read were requests that it has answered.
    answered: usize,
    /// Answers that did not fit into the link yet.
    answers: VecDeque<u8>,
    to_client: VecDeque<u8>,
    capacity: usize,
    wakers: [Option<Waker>; 2],
    server: Arc<Notify>,
}

impl Network {
    pub fn new(choices: Choices, journal: Journal, faults: FaultRates) -> Self {
        let (is_healthy, healthy) = (AtomicBool::new(false), Notify::new());
        Self(Arc::new(Shared { choices, journal, faults, links: Mutex::default(), is_healthy, healthy }))
    }

    /// A new link, which a dial has made.
    pub fn open_link(&self) -> Link {
        let mut links = self.0.links.lock().unwrap();
        let link = Link(Arc::new(Mutex::new(LinkState {
            number: links.len() as u64 + 1,
            accepted: Vec::new(),
            consumed: 0,
            sent: Vec::new(),
            delivered: 0,
            last_delivery: None,
            end: None,
            is_half_closed: false,
            stalled: false,
            client_shut: false,
            client_dropped: false,
            written_when_closed: 0,
            answered: 0,
            answers: VecDeque::new(),
            to_client: VecDeque::new(),
            capacity: self.0.faults.capacity,
            wakers: [None, None],
            server: Arc::new(Notify::new()),
        })));
        links.push(link.clone());
        link
    }

    pub fn stream(&self, link: &Link) -> Stream {
        Stream { link: link.clone(), network: self.clone() }
    }

    pub fn links(&self) -> Vec<Link> {
        self.0.links.lock().unwrap().clone()
    }

    /// The bytes that have passed on the links up to this number, and which of these links still have a stream.
    pub fn passed(&self, number: u64) -> (Passed, Vec<u64>) {
        let links = self.links();
        let links = &links[..number as usize];
        let kept = links.iter().map(Link::lock).filter(|link| !link.client_dropped).map(|link| link.number);
        (Passed::on(links), kept.collect())
    }

    /// Whether large messages pass in reasonable time.
    pub fn is_wide(&self) -> bool {
        self.0.faults.capacity >= 1_000
    }

    pub fn is_healthy(&self) -> bool {
        self.0.is_healthy.load(Ordering::Relaxed)
    }

    /// From now on everything works.
    pub fn stop_faults(&self) {
        self.0.journal.write(Note::FaultsStopped);
        self.0.is_healthy.store(true, Ordering::Relaxed);
        for link in self.links() {
            link.change(|state| state.stalled = false);
        }
        self.0.healthy.notify_waiters();
    }

    /// Sleeps for `time`, or until the faults stop.
    pub async fn sleep(&self, time: Duration) {
        let healthy = self.0.healthy.notified();
        if !self.is_healthy() {
            let _ = tokio::time::timeout(time, healthy).await;
        }
    }
}

impl Link {
    pub fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.0.lock().unwrap()
    }

    /// Changes the link as the server, and wakes the client.
    pub fn change(&self, change: impl FnOnce(&mut LinkState)) {
        let wakers = {
            let mut state = self.lock();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Changes the link as the client, and wakes the server.
    fn change_as_client(&self, change: impl FnOnce(&mut LinkState)) {
        let mut state = self.lock();
        change(&mut state);
        state.server.notify_one();
    }

    /// Waits for the client to change the link.
    pub async fn changed(&self) {
        let server = Arc::clone(&self.lock().server);
        server.notified().await;
    }

    /// The server sends up to `n` bytes.
    pub fn send(&self, n: usize) {
        self.change(|state| {
            for _ in 0..n.min(state.capacity - state.to_client.len()) {
                state.push(server_byte(state.number, state.sent.len() as u64));
            }
        });
    }

    /// The server answers the requests that it has read whole: each with its number.
    pub fn answer(&self) {
        self.change(|state| {
            while let Some((number, length)) = message::first_whole(&state.accepted[state.answered..state.consumed]) {
                state.answered += length;
                state.answers.extend(number.to_be_bytes());
            }
            while state.to_client.len() < state.capacity {
                let Some(byte) = state.answers.pop_front() else { break };
                state.push(byte);
            }
        });
    }

    /// The server reads up to `n` bytes.
    pub fn take(&self, n: usize) {
        self.change(|state| state.consumed = state.accepted.len().min(state.consumed + n));
    }

    /// The server closes its own direction, and can still read.
    pub fn half_close(&self, journal: &Journal) {
        self.lock().is_half_closed = true;
        self.end(End::Close, journal);
    }

    pub fn end(&self, end: End, journal: &Journal) {
        let number = self.lock().number;
        journal.write(Note::Ended(number, end));
        self.change(|state| {
            state.end.get_or_insert(end);
            state.stalled = false;
        });
    }
}

impl Passed {
    /// The bytes that have passed on these links.
    pub fn on(links: &[Link]) -> Self {
        let (mut written, mut read) = (0, 0);
        for link in links {
            let link = link.lock();
            written += link.accepted.len();
            read += link.delivered;
        }
        Self { written, read }
    }
}

impl LinkState {
    /// The server sends one byte.
    fn push(&mut self, byte: u8) {
        self.to_client.push_back(byte);
        self.sent.push(byte);
    }
}

/// The byte that the server sends at this position of this link, unless it answers requests.
fn server_byte(link: u64, position: u64) -> u8 {
    mix(link << 32 | position) as u8
}

/// A number that looks random: the finalizer of SplitMix64.
pub fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The client end of a link.
pub struct Stream {
    link: Link,
    network: Network,
}

impl Stream {
    pub fn is_closed(&self) -> bool {
        self.network.0.faults.reports_close && self.link.lock().end.is_some()
    }

    /// Makes a call pending or fail by chance. `None`: the call goes on.
    fn inject_fault<T>(&self, cx: &Context<'_>) -> Option<Poll<io::Result<T>>> {
        let Shared { choices, faults, journal, .. } = &*self.network.0;
        if self.network.is_healthy() {
            return None;
        }
        if choices.chance(faults.spurious_pending) {
            cx.waker().wake_by_ref();
            return Some(Poll::Pending);
        }
        if choices.chance(faults.io_error) {
            use io::ErrorKind::{
                BrokenPipe, ConnectionReset, Interrupted, Other, PermissionDenied, TimedOut, WouldBlock,
            };
            let kind = choices.pick(&[
                ConnectionReset,
                TimedOut,
                BrokenPipe,
                Other,
                PermissionDenied,
                Interrupted,
                WouldBlock,
            ]);
            if !matches!(kind, Interrupted | WouldBlock) {
                self.link.end(End::Broke, journal);
            }
            return Some(Poll::Ready(Err(kind.into())));
        }
        None
    }

    /// How much of `n` bytes a call handles: by chance, not all of them.
    fn length(&self, n: usize) -> usize {
        let Shared { choices, faults, .. } = &*self.network.0;
        if n > 1 && choices.chance(faults.short) { 1 + choices.below(n - 1) } else { n }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(outcome) = self.inject_fault(cx) {
            return outcome;
        }
        let length = self.length(buf.remaining());
        let read = {
            let mut state = self.link.lock();
            let n = length.min(state.to_client.len());
            match state.end {
                _ if state.stalled => 0,
                _ if n > 0 => {
                    let bytes: Vec<_> = state.to_client.drain(..n).collect();
                    buf.put_slice(&bytes);
                    state.delivered += n;
                    state.last_delivery = Some(Instant::now());
                    n
                }
                Some(End::Close) => return Poll::Ready(Ok(())),
                Some(End::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Some(End::Broke) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                None => 0,
            }
        };
        if read == 0 {
            self.link.lock().wakers[0] = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.link.lock().server.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(outcome) = self.inject_fault(cx) {
            return outcome;
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let length = self.length(bytes.len());
        let mut state = self.link.lock();
        let room = state.capacity - (state.accepted.len() - state.consumed).min(state.capacity);
        let n = length.min(room);
        match state.end {
            Some(End::Reset | End::Broke) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            // As on a socket: the write is accepted and lost.
            Some(End::Close) if self.network.0.faults.reports_close => state.written_when_closed += length,
            Some(End::Close) if !state.is_half_closed => return Poll::Ready(Ok(length)),
            _ if state.stalled || (n == 0 && !bytes.is_empty()) => {
                state.wakers[1] = Some(cx.waker().clone());
                return Poll::Pending;
            }
            _ => {}
        }
        if n > 0 && state.accepted.is_empty() {
            self.network.0.journal.write(Note::FirstBytes(state.number));
        }
        state.accepted.extend_from_slice(&bytes[..n]);
        state.server.notify_one();
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inject_fault(cx).unwrap_or(Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(outcome) = self.inject_fault(cx) {
            return outcome;
        }
        self.link.change_as_client(|state| state.client_shut = true);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.link.change_as_client(|state| state.client_dropped = true);
    }
}
