//! What the tests write, and the breaks that operations report.

use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

use perconn::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::{in_time, perconn_error};

/// The first four bytes of each call.
const MARK: u32 = u32::from_be_bytes(*b"CALL");
/// The size of one call in bytes.
pub const CALL: usize = 64 << 10;

/// The first bytes of the call of this number, as the server reports them.
pub fn head(number: u32) -> u64 {
    u64::from(MARK) << 32 | u64::from(number)
}

fn call(number: u32) -> Vec<u8> {
    // No part of the rest looks like the start of a call.
    let mut bytes = vec![b'.'; CALL];
    bytes[..8].copy_from_slice(&head(number).to_be_bytes());
    bytes
}

/// Writes one call after the other until one reports a break.
pub async fn call_until_break(stream: &mut (impl AsyncWrite + Unpin), next: &mut u32) -> BreakReport {
    loop {
        let bytes = call(*next);
        *next += 1;
        if let Err(error) = stream.write_all(&bytes).await {
            return BreakReport::by(error);
        }
    }
}

/// Writes one call after the other, and goes on after a break.
pub async fn call_for_ever(stream: &mut (impl AsyncWrite + Unpin), next: &mut u32) -> Infallible {
    loop {
        call_until_break(stream, next).await;
    }
}

/// One call on a live link.
pub async fn call_once(stream: &mut (impl AsyncWrite + Unpin), next: &mut u32) {
    let bytes = call(*next);
    *next += 1;
    in_time("a call", stream.write_all(&bytes)).await.unwrap();
}

/// Writes until the buffers are full, so that a write waits 200 ms. Returns the time of the last write.
pub async fn fill(stream: &mut (impl AsyncWrite + Unpin)) -> Instant {
    let mut last = Instant::now();
    let bytes = vec![b'.'; CALL];
    while let Ok(outcome) = timeout(Duration::from_millis(200), stream.write(&bytes)).await {
        outcome.unwrap();
        last = Instant::now();
    }
    last
}

/// Sends bytes to an echo server and reads them back: afterwards, all of them are acknowledged.
pub async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    in_time("echo", async {
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
    })
    .await;
}

/// A break, as an operation reported it.
#[derive(Debug)]
pub struct BreakReport {
    pub at: Instant,
    pub kind: io::ErrorKind,
    pub generation: u64,
    pub unacknowledged: Option<u64>,
}

impl BreakReport {
    pub fn by(error: io::Error) -> Self {
        let at = Instant::now();
        match perconn_error(&error) {
            Error::IoError { generation, unacknowledged, .. } => {
                Self { at, kind: error.kind(), generation: *generation, unacknowledged: *unacknowledged }
            }
            other => panic!("expected IoError, got {other:?}"),
        }
    }

    /// Reads until the break. No byte may arrive before it.
    pub async fn reading(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        match in_time("a read reports the break", stream.read(&mut [0; 64])).await {
            Err(error) => Self::by(error),
            Ok(n) => panic!("read {n} bytes"),
        }
    }

    /// Asserts that this is the break of the first link by a timeout.
    #[track_caller]
    pub fn assert_timeout(&self) {
        assert_eq!((self.kind, self.generation), (io::ErrorKind::TimedOut, 1), "{self:?}");
    }
}
