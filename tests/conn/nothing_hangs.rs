//! Promise 5: nothing hangs. After `close`, after giving up, after a panic in a hook or dialer, and when the runtime
//! shuts down, every operation returns a clear error at once, and nothing dials again. Closing works at any moment.

mod blocked_threads;
mod close;
mod foreign_panics;
mod giving_up;
mod panics;
mod runtime_shutdown;
mod shutdown;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use perconn::{Conn, Error, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{SLOWNESS, in_time, perconn_error};

/// Long enough for a loaded machine, and far below every delay and timeout that `close` must not wait for.
const PROMPT: Duration = Duration::from_secs(2 * SLOWNESS as u64);

/// Every operation fails at once with `ClosedConnection`.
async fn assert_closed(conn: &mut Conn<impl Stream>) {
    let start = Instant::now();
    for _ in 0..2 {
        for outcome in [
            in_time("read", conn.read(&mut [0; 4])).await.map(drop),
            in_time("write", conn.write(b"x")).await.map(drop),
            in_time("flush", conn.flush()).await,
            in_time("shutdown", conn.shutdown()).await,
        ] {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotConnected);
            assert!(matches!(perconn_error(&error), Error::ClosedConnection), "{error:?}");
        }
        assert!(matches!(in_time("connected", conn.connected()).await, Err(Error::ClosedConnection)));
        conn.dial_now();
        conn.break_link(conn.generation());
        conn.abandon();
        assert!(!conn.is_connected());
        assert_eq!(conn.status(), Status::Closed);
    }
    assert!(start.elapsed() < PROMPT);
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Closes within `PROMPT`, twice.
async fn close(conn: &Conn<impl Stream>) {
    let start = Instant::now();
    in_time("close", conn.close()).await;
    in_time("the second close", conn.close()).await;
    assert!(start.elapsed() < PROMPT, "close took {:?}", start.elapsed());
}
