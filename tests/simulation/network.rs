//! The network: wires with a client's end and a server's end, in memory and in virtual time.

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
use crate::journal::{End, Journal, Note};

/// All the wires of one schedule.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    choices: Choices,
    journal: Journal,
    weather: Weather,
    wires: Mutex<Vec<Wire>>,
    calm: AtomicBool,
    /// Woken when the weather turns calm.
    turn: Notify,
}

/// How bad the network is, in one schedule.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// What fits into a wire in each direction.
    pub capacity: usize,
    /// The chance in percent that a call on a stream is short, is pending for no reason, or fails.
    pub short: usize,
    pub fickle: usize,
    pub broken: usize,
    /// Whether the dialer tells the crate that a wire is closed.
    pub tells_close: bool,
}

/// One link, from the network's point of view.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<State>>);

pub struct State {
    pub number: u64,
    /// All that the client's end accepted, in order.
    pub accepted: Vec<u8>,
    /// How much of it the server has taken.
    pub consumed: usize,
    /// How many bytes the server has sent, and how many of them the client's end has given out.
    pub sent: u64,
    pub delivered: u64,
    pub last_delivery: Option<Instant>,
    pub end: Option<End>,
    /// The server has ended its side only, and goes on reading.
    pub is_half_closed: bool,
    /// Nothing passes for now.
    pub stalled: bool,
    pub client_shut: bool,
    pub client_dropped: bool,
    /// Bytes were written though the dialer had said that the wire is closed.
    pub written_when_closed: usize,
    to_client: VecDeque<u8>,
    capacity: usize,
    wakers: [Option<Waker>; 2],
    server: Arc<Notify>,
}

impl Network {
    pub fn new(choices: Choices, journal: Journal, weather: Weather) -> Self {
        let (calm, turn) = (AtomicBool::new(false), Notify::new());
        Self(Arc::new(Shared { choices, journal, weather, wires: Mutex::default(), calm, turn }))
    }

    pub fn lay(&self) -> Wire {
        let mut wires = self.0.wires.lock().unwrap();
        let wire = Wire(Arc::new(Mutex::new(State {
            number: wires.len() as u64 + 1,
            accepted: Vec::new(),
            consumed: 0,
            sent: 0,
            delivered: 0,
            last_delivery: None,
            end: None,
            is_half_closed: false,
            stalled: false,
            client_shut: false,
            client_dropped: false,
            written_when_closed: 0,
            to_client: VecDeque::new(),
            capacity: self.0.weather.capacity,
            wakers: [None, None],
            server: Arc::new(Notify::new()),
        })));
        wires.push(wire.clone());
        wire
    }

    pub fn stream(&self, wire: &Wire) -> Stream {
        Stream { wire: wire.clone(), network: self.clone() }
    }

    pub fn wires(&self) -> Vec<Wire> {
        self.0.wires.lock().unwrap().clone()
    }

    /// Whether many bytes pass in a reasonable time.
    pub fn is_wide(&self) -> bool {
        self.0.weather.capacity >= 1_000
    }

    pub fn is_calm(&self) -> bool {
        self.0.calm.load(Ordering::Relaxed)
    }

    /// From here on everything works.
    pub fn calm_down(&self) {
        self.0.journal.write(Note::Calm);
        self.0.calm.store(true, Ordering::Relaxed);
        for wire in self.wires() {
            wire.change(|state| state.stalled = false);
        }
        self.0.turn.notify_waiters();
    }

    /// Sleeps, but not beyond the turn of the weather.
    pub async fn sleep(&self, time: Duration) {
        let turn = self.0.turn.notified();
        if !self.is_calm() {
            let _ = tokio::time::timeout(time, turn).await;
        }
    }
}

impl Wire {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Changes the wire from the server's side, and wakes the client.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.lock();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Changes the wire from the client's side, and wakes the server.
    fn change_as_client(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.server.notify_one();
    }

    /// Waits for the client to do something.
    pub async fn changed(&self) {
        let server = Arc::clone(&self.lock().server);
        server.notified().await;
    }

    /// The server sends up to `n` bytes.
    pub fn send(&self, n: usize) {
        self.change(|state| {
            for _ in 0..n.min(state.capacity - state.to_client.len()) {
                let byte = server_byte(state.number, state.sent);
                state.to_client.push_back(byte);
                state.sent += 1;
            }
        });
    }

    /// The server takes up to `n` bytes.
    pub fn take(&self, n: usize) {
        self.change(|state| state.consumed = state.accepted.len().min(state.consumed + n));
    }

    /// The server ends its side, and may still read.
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

/// What the server sends at this place of this wire.
pub fn server_byte(wire: u64, position: u64) -> u8 {
    mix(wire << 32 | position) as u8
}

/// A number that looks random (the finalizer of SplitMix64).
pub fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The client's end of a wire.
pub struct Stream {
    wire: Wire,
    network: Network,
}

impl Stream {
    pub fn is_closed(&self) -> bool {
        self.network.0.weather.tells_close && self.wire.lock().end.is_some()
    }

    /// What can happen to any call. `None`: nothing.
    fn mood<T>(&self, cx: &Context<'_>) -> Option<Poll<io::Result<T>>> {
        let Shared { choices, weather, journal, .. } = &*self.network.0;
        if self.network.is_calm() {
            return None;
        }
        if choices.chance(weather.fickle) {
            cx.waker().wake_by_ref();
            return Some(Poll::Pending);
        }
        if choices.chance(weather.broken) {
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
                self.wire.end(End::Broke, journal);
            }
            return Some(Poll::Ready(Err(kind.into())));
        }
        None
    }

    fn length(&self, n: usize) -> usize {
        let Shared { choices, weather, .. } = &*self.network.0;
        if n > 1 && choices.chance(weather.short) { 1 + choices.below(n - 1) } else { n }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(outcome) = self.mood(cx) {
            return outcome;
        }
        let length = self.length(buf.remaining());
        let read = {
            let mut state = self.wire.lock();
            let n = length.min(state.to_client.len());
            match state.end {
                _ if state.stalled => 0,
                _ if n > 0 => {
                    let bytes: Vec<_> = state.to_client.drain(..n).collect();
                    buf.put_slice(&bytes);
                    state.delivered += n as u64;
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
            self.wire.lock().wakers[0] = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.wire.lock().server.notify_one();
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
        if let Some(outcome) = self.mood(cx) {
            return outcome;
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let length = self.length(bytes.len());
        let mut state = self.wire.lock();
        let room = state.capacity - (state.accepted.len() - state.consumed).min(state.capacity);
        let n = length.min(room);
        match state.end {
            Some(End::Reset | End::Broke) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            // As on a socket: the write is accepted and lost.
            Some(End::Close) if self.network.0.weather.tells_close => state.written_when_closed += length,
            Some(End::Close) if !state.is_half_closed => return Poll::Ready(Ok(length)),
            _ if state.stalled || (n == 0 && !bytes.is_empty()) => {
                state.wakers[1] = Some(cx.waker().clone());
                return Poll::Pending;
            }
            _ => {}
        }
        state.accepted.extend_from_slice(&bytes[..n]);
        state.server.notify_one();
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.mood(cx).unwrap_or(Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(outcome) = self.mood(cx) {
            return outcome;
        }
        self.wire.change_as_client(|state| state.client_shut = true);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.wire.change_as_client(|state| state.client_dropped = true);
    }
}
