//! The quiet time of a connection whose handler reads while it writes, used while the acceptor stops.
//!
//! A handler that reads, answers and reads again has answered everything when it waits for the next request. One that waits for
//! requests while it answers earlier ones shows no such moment: HTTP/2, pipelining, a proxy. Its connection counts as idle when
//! nothing has passed for a while.
//!
//! Next: [`super::stream`], which asks before a read ends a connection that drains.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Since when a connection is quiet.
#[derive(Debug, Default)]
pub(super) struct QuietTime {
    /// The last read has to wait.
    read_waits: bool,
    /// When bytes have passed last. `None` as long as nothing was written while a read waited.
    since: Option<Instant>,
    /// Set while a stop waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl QuietTime {
    /// A read has to wait.
    pub(super) fn note_read_waits(&mut self) {
        self.read_waits = true;
    }

    /// A read has got bytes.
    pub(super) fn note_read(&mut self) {
        self.read_waits = false;
        if let Some(since) = &mut self.since {
            *since = Instant::now();
        }
    }

    /// Bytes were written.
    pub(super) fn note_written(&mut self) {
        if self.read_waits || self.since.is_some() {
            self.since = Some(Instant::now());
        }
    }

    /// `Ready` if the connection has been quiet for this long, or if that does not matter. Otherwise the task is woken when
    /// it has.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let Some(since) = self.since else { return Poll::Ready(()) };
        let over = since + limit;
        if Instant::now() < over {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(over)));
            if timer.deadline() != over {
                timer.as_mut().reset(over);
            }
            ready!(timer.as_mut().poll(cx));
        }
        self.timer = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    async fn wait(quiet: &mut QuietTime) -> Duration {
        let start = Instant::now();
        poll_fn(|cx| quiet.poll_over(cx, LIMIT)).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn handler_that_takes_turns_need_not_be_quiet() {
        let mut quiet = QuietTime::default();
        for _ in 0..3 {
            quiet.note_read_waits();
            quiet.note_read();
            quiet.note_written();
        }
        quiet.note_read_waits();
        assert_eq!(wait(&mut quiet).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn handler_that_writes_while_a_read_waits_must_be_quiet() {
        let mut quiet = QuietTime::default();
        quiet.note_read_waits();
        quiet.note_written();
        assert!(wait(&mut quiet).await >= LIMIT);
        assert_eq!(wait(&mut quiet).await, Duration::ZERO);
        // For good, and reads count as well.
        quiet.note_read();
        assert!(wait(&mut quiet).await >= LIMIT);
        quiet.note_written();
        assert!(wait(&mut quiet).await >= LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn wait_starts_over_when_bytes_pass() {
        let mut quiet = QuietTime::default();
        quiet.note_read_waits();
        quiet.note_written();
        assert!(tokio::time::timeout(LIMIT / 2, poll_fn(|cx| quiet.poll_over(cx, LIMIT))).await.is_err());
        quiet.note_written();
        assert!(wait(&mut quiet).await >= LIMIT);
    }
}
