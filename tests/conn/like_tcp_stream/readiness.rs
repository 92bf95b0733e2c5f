//! Pending and ready: which waker is woken, when, and what the cooperative budget does.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::unconstrained;

use super::comparison::{Endpoint, Log, WakeCounter, compare, yield_times};
use crate::support::{in_time, reset};

/// Polls a read once, without the cooperative budget.
async fn poll_read(stream: &mut Endpoint, waker: &Waker, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
    let poll = poll_fn(|_| Poll::Ready(Pin::new(&mut *stream).poll_read(&mut Context::from_waker(waker), buf)));
    unconstrained(poll).await
}

/// Polls a write once, without the cooperative budget.
async fn poll_write(stream: &mut Endpoint, waker: &Waker, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
    let poll = poll_fn(|_| Poll::Ready(Pin::new(&mut *stream).poll_write(&mut Context::from_waker(waker), bytes)));
    unconstrained(poll).await
}

fn note<T: std::fmt::Debug>(log: &mut Log, step: &str, poll: Poll<std::io::Result<T>>) {
    log.note(step, poll.map(|outcome| outcome.map_err(|error| error.kind())));
}

#[tokio::test]
async fn waiting_read_is_woken_once_when_bytes_arrive_and_not_before() {
    let log = compare(async |stream, mut peer, log| {
        let mut memory = [0; 8];
        let mut buf = ReadBuf::new(&mut memory);
        for round in 0..3 {
            let (count, waker) = WakeCounter::new();
            note(log, "no bytes", poll_read(stream, &waker, &mut buf).await);
            yield_times(20).await;
            log.note("woken", count.get());
            peer.write_all(b"ab").await.unwrap();
            count.wait_until_woken("the reader").await;
            yield_times(20).await;
            log.note("woken", count.get());
            note(log, "bytes", poll_read(stream, &waker, &mut buf).await);
            note(log, "drained", poll_read(stream, &waker, &mut buf).await);
            log.note("filled", buf.filled().len() - 2 * round);
        }
    })
    .await;
    let round = ["no bytes: Pending", "woken: 0", "woken: 1", "bytes: Ready(Ok(()))", "drained: Pending", "filled: 2"];
    assert_eq!(log.lines(), [round; 3].concat());
}

#[tokio::test]
async fn only_the_last_waker_of_a_read_is_woken() {
    let log = compare(async |stream, mut peer, log| {
        let mut memory = [0; 8];
        let mut buf = ReadBuf::new(&mut memory);
        let ((first, first_waker), (second, second_waker)) = (WakeCounter::new(), WakeCounter::new());
        note(log, "first", poll_read(stream, &first_waker, &mut buf).await);
        note(log, "second", poll_read(stream, &second_waker, &mut buf).await);
        note(log, "first again", poll_read(stream, &first_waker, &mut buf).await);
        note(log, "second again", poll_read(stream, &second_waker, &mut buf).await);
        peer.write_all(b"a").await.unwrap();
        second.wait_until_woken("the second reader").await;
        yield_times(20).await;
        log.note("woken", (first.get(), second.get()));
        note(log, "read", poll_read(stream, &second_waker, &mut buf).await);
    })
    .await;
    assert_eq!(log.lines()[4..], ["woken: (0, 1)", "read: Ready(Ok(()))"]);
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "poll(2) hangs up at a close, too, so a read half yields once before it reports it"
)]
async fn waiting_read_is_woken_by_the_peers_close_and_by_its_reset() {
    for is_reset in [false, true] {
        let log = compare(async |stream, peer, log| {
            let mut memory = [0; 8];
            let mut buf = ReadBuf::new(&mut memory);
            let (count, waker) = WakeCounter::new();
            note(log, "no bytes", poll_read(stream, &waker, &mut buf).await);
            yield_times(20).await;
            log.note("woken", count.get());
            if is_reset {
                reset(peer);
            } else {
                drop(peer);
            }
            count.wait_until_woken("the reader").await;
            note(log, "ended", poll_read(stream, &waker, &mut buf).await);
        })
        .await;
        let ended = if is_reset { "ended: Ready(Err(ConnectionReset))" } else { "ended: Ready(Ok(()))" };
        assert_eq!(log.lines(), ["no bytes: Pending", "woken: 0", ended]);
    }
}

/// Writes until the kernel accepts no more, and returns how many bytes it accepted.
async fn fill(stream: &mut Endpoint, waker: &Waker) -> usize {
    let chunk = vec![7; 64 << 10];
    let mut taken = 0;
    loop {
        match poll_write(stream, waker, &chunk).await {
            Poll::Ready(n) => taken += n.unwrap(),
            Poll::Pending => return taken,
        }
    }
}

#[tokio::test]
async fn writer_waits_for_a_peer_that_reads_nothing_and_continues_when_it_reads() {
    let log = compare(async |stream, mut peer, log| {
        let (count, waker) = WakeCounter::new();
        let mut taken = fill(stream, &waker).await;
        log.note("the kernel accepted bytes", taken > 0);
        // The kernel may still move bytes from one buffer to the other, and accept some more.
        loop {
            yield_times(20).await;
            match fill(stream, &waker).await {
                0 => break,
                more => taken += more,
            }
        }
        let woken = count.get();
        yield_times(20).await;
        log.note("woken without room", count.get() - woken);
        note(log, "an empty write", poll_write(stream, &waker, b"").await);
        let mut buf = vec![0; taken];
        log.outcome("the peer's read", peer.read_exact(&mut buf).await.map(|n| n == taken));
        in_time("the writer is woken", async {
            while count.get() == woken {
                tokio::task::yield_now().await;
            }
        })
        .await;
        note(log, "write", poll_write(stream, &waker, b"last").await);
        log.outcome("the peer's read", peer.read_exact(&mut buf[..4]).await);
        log.note("received", &buf[..4]);
    })
    .await;
    assert_eq!(
        log.lines(),
        [
            "the kernel accepted bytes: true",
            "woken without room: 0",
            "an empty write: Pending",
            "the peer's read: Ok(true)",
            "write: Ready(Ok(4))",
            "the peer's read: Ok(4)",
            "received: [108, 97, 115, 116]",
        ]
    );
}

#[tokio::test]
async fn full_send_buffer_does_not_block_the_reader() {
    let log = compare(async |stream, mut peer, log| {
        let (_, waker) = WakeCounter::new();
        fill(stream, &waker).await;
        peer.write_all(b"bytes").await.unwrap();
        let mut buf = [0; 5];
        log.outcome("read", stream.read_exact(&mut buf).await);
        log.note("bytes", buf);
    })
    .await;
    assert_eq!(log.lines()[0], "read: Ok(5)");
}

/// A cancelled operation leaves nothing behind.
#[tokio::test]
async fn cancelled_read_takes_no_bytes_from_the_next() {
    let log = compare(async |stream, mut peer, log| {
        for _ in 0..3 {
            let mut buf = [0; 8];
            let mut read = tokio_test::task::spawn(stream.read(&mut buf));
            log.note("pending", read.poll().is_pending());
            drop(read);
            peer.write_all(b"abc").await.unwrap();
            log.outcome("read", stream.read_exact(&mut buf[..3]).await);
            log.note("bytes", &buf[..3]);
        }
    })
    .await;
    assert_eq!(log.lines()[..2], ["pending: true", "read: Ok(3)"]);
}

/// Tokio lets a task do 128 ready operations in a row, then makes it yield.
#[tokio::test]
async fn operations_that_are_always_ready_use_up_the_tasks_budget() {
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(&[1; 1_000]).await.unwrap();
        // The counted operations get a whole budget.
        stream.read_exact(&mut [0; 2]).await.unwrap();
        yield_times(1).await;
        let reads = poll_fn(|cx| {
            let mut byte = [0];
            let mut count = 0;
            while Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_ready() {
                count += 1;
            }
            Poll::Ready(count)
        });
        log.note("reads in one budget", reads.await);
        yield_times(1).await;
        let writes = poll_fn(|cx| {
            let mut count = 0;
            while Pin::new(&mut *stream).poll_write(cx, b"x").is_ready() {
                count += 1;
            }
            Poll::Ready(count)
        });
        log.note("writes in one budget", writes.await);
    })
    .await;
    assert_eq!(log.lines(), ["reads in one budget: 128", "writes in one budget: 128"]);
}

#[tokio::test]
async fn loop_of_ready_reads_and_writes_lets_other_tasks_run() {
    let log = compare(async |stream, mut peer, log| {
        peer.write_all(&[1; 10_000]).await.unwrap();
        let other = tokio::spawn(async {
            let mut yields = 0_u32;
            loop {
                tokio::task::yield_now().await;
                yields += 1;
                if yields == 20 {
                    return;
                }
            }
        });
        let mut calls = 0;
        while !other.is_finished() {
            stream.read_u8().await.unwrap();
            stream.write_u8(1).await.unwrap();
            calls += 2;
        }
        log.note("the other task ran in time", calls < 10_000);
    })
    .await;
    assert_eq!(log.lines(), ["the other task ran in time: true"]);
}
