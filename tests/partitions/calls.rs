//! What the tests write and how they are told.

use std::io;
use std::time::{Duration, Instant};

use perconn::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::{inside, soon};

/// Begins each call.
const MARK: u32 = u32::from_be_bytes(*b"CALL");
/// The bytes of one call.
pub const CALL: usize = 64 << 10;

/// The first bytes of the call of this number, as the server reports them.
pub fn head(number: u32) -> u64 {
    u64::from(MARK) << 32 | u64::from(number)
}

fn call(number: u32) -> Vec<u8> {
    // No part of the rest looks like a beginning.
    let mut bytes = vec![b'.'; CALL];
    bytes[..8].copy_from_slice(&head(number).to_be_bytes());
    bytes
}

/// Writes one call after the other until a call is told of a break.
pub async fn call_until_told(stream: &mut (impl AsyncWrite + Unpin), next: &mut u32) -> Told {
    loop {
        let bytes = call(*next);
        *next += 1;
        if let Err(error) = stream.write_all(&bytes).await {
            return Told::by(error);
        }
    }
}

/// One call on a live link.
pub async fn call_once(stream: &mut (impl AsyncWrite + Unpin), next: &mut u32) {
    let bytes = call(*next);
    *next += 1;
    soon("a call", stream.write_all(&bytes)).await.unwrap();
}

/// Writes until the buffers are full and a write waits: nothing has gone on for a while. Returns when the last did.
pub async fn fill(stream: &mut (impl AsyncWrite + Unpin)) -> Instant {
    let mut last = Instant::now();
    let bytes = vec![b'.'; CALL];
    while let Ok(outcome) = timeout(Duration::from_millis(200), stream.write(&bytes)).await {
        outcome.unwrap();
        last = Instant::now();
    }
    last
}

/// Bytes there and back over an echo server: afterwards, all of them are acknowledged.
pub async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    soon("echo", async {
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
    })
    .await;
}

/// A break, as an operation was told of it.
#[derive(Debug)]
pub struct Told {
    pub at: Instant,
    pub kind: io::ErrorKind,
    pub generation: u64,
    pub unacknowledged: Option<u64>,
}

impl Told {
    pub fn by(error: io::Error) -> Self {
        let at = Instant::now();
        match inside(&error) {
            Error::IoError { generation, unacknowledged, .. } => {
                Self { at, kind: error.kind(), generation: *generation, unacknowledged: *unacknowledged }
            }
            other => panic!("not a break: {other:?}"),
        }
    }

    /// Waits for bytes that do not come.
    pub async fn reading(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        match soon("a read is told", stream.read(&mut [0; 64])).await {
            Err(error) => Self::by(error),
            Ok(n) => panic!("read {n} bytes"),
        }
    }

    /// The break of the first link, for want of an answer.
    #[track_caller]
    pub fn is_timeout(&self) {
        assert_eq!((self.kind, self.generation), (io::ErrorKind::TimedOut, 1), "{self:?}");
    }
}
