//! Pending and ready: who is woken, when, and what a task's budget does.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::unconstrained;

use crate::side::{Count, Log, Side, alike, turns};
use crate::support::{reset, soon};

/// One poll of a read, outside of the task's budget.
async fn poll_read(side: &mut Side, waker: &Waker, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
    let poll = poll_fn(|_| Poll::Ready(Pin::new(&mut *side).poll_read(&mut Context::from_waker(waker), buf)));
    unconstrained(poll).await
}

/// The same of a write.
async fn poll_write(side: &mut Side, waker: &Waker, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
    let poll = poll_fn(|_| Poll::Ready(Pin::new(&mut *side).poll_write(&mut Context::from_waker(waker), bytes)));
    unconstrained(poll).await
}

fn note<T: std::fmt::Debug>(log: &mut Log, step: &str, poll: Poll<std::io::Result<T>>) {
    log.note(step, poll.map(|outcome| outcome.map_err(|error| error.kind())));
}

#[tokio::test]
async fn waiting_read_is_woken_once_when_bytes_arrive_and_not_before() {
    let log = alike(async |side, mut peer, log| {
        let mut memory = [0; 8];
        let mut buf = ReadBuf::new(&mut memory);
        for round in 0..3 {
            let (count, waker) = Count::new();
            note(log, "nothing there", poll_read(side, &waker, &mut buf).await);
            turns(20).await;
            log.note("woken", count.get());
            peer.write_all(b"ab").await.unwrap();
            count.woken("the reader").await;
            turns(20).await;
            log.note("woken", count.get());
            note(log, "something there", poll_read(side, &waker, &mut buf).await);
            note(log, "drained", poll_read(side, &waker, &mut buf).await);
            log.note("filled", buf.filled().len() - 2 * round);
        }
    })
    .await;
    let round = [
        "nothing there: Pending",
        "woken: 0",
        "woken: 1",
        "something there: Ready(Ok(()))",
        "drained: Pending",
        "filled: 2",
    ];
    assert_eq!(log.lines(), [round; 3].concat());
}

#[tokio::test]
async fn reader_that_was_polled_last_is_the_one_that_is_woken() {
    let log = alike(async |side, mut peer, log| {
        let mut memory = [0; 8];
        let mut buf = ReadBuf::new(&mut memory);
        let ((first, first_waker), (second, second_waker)) = (Count::new(), Count::new());
        note(log, "first", poll_read(side, &first_waker, &mut buf).await);
        note(log, "second", poll_read(side, &second_waker, &mut buf).await);
        note(log, "first again", poll_read(side, &first_waker, &mut buf).await);
        note(log, "second again", poll_read(side, &second_waker, &mut buf).await);
        peer.write_all(b"a").await.unwrap();
        second.woken("the second reader").await;
        turns(20).await;
        log.note("woken", (first.get(), second.get()));
        note(log, "read", poll_read(side, &second_waker, &mut buf).await);
    })
    .await;
    assert_eq!(log.lines()[4..], ["woken: (0, 1)", "read: Ready(Ok(()))"]);
}

#[tokio::test]
async fn waiting_read_is_woken_by_the_peers_close_and_by_its_reset() {
    for is_reset in [false, true] {
        let log = alike(async |side, peer, log| {
            let mut memory = [0; 8];
            let mut buf = ReadBuf::new(&mut memory);
            let (count, waker) = Count::new();
            note(log, "nothing there", poll_read(side, &waker, &mut buf).await);
            turns(20).await;
            log.note("woken", count.get());
            if is_reset {
                reset(peer);
            } else {
                drop(peer);
            }
            count.woken("the reader").await;
            note(log, "ended", poll_read(side, &waker, &mut buf).await);
        })
        .await;
        let ended = if is_reset { "ended: Ready(Err(ConnectionReset))" } else { "ended: Ready(Ok(()))" };
        assert_eq!(log.lines(), ["nothing there: Pending", "woken: 0", ended]);
    }
}

/// Writes until the kernel takes no more, and says how much it took.
async fn fill(side: &mut Side, waker: &Waker) -> usize {
    let chunk = vec![7; 64 << 10];
    let mut taken = 0;
    loop {
        match poll_write(side, waker, &chunk).await {
            Poll::Ready(n) => taken += n.unwrap(),
            Poll::Pending => return taken,
        }
    }
}

#[tokio::test]
async fn writer_waits_for_a_peer_that_reads_nothing_and_goes_on_when_it_reads() {
    let log = alike(async |side, mut peer, log| {
        let (count, waker) = Count::new();
        let mut taken = fill(side, &waker).await;
        log.note("something was taken", taken > 0);
        // The kernel may still shift bytes from one buffer into the other, and take some more.
        loop {
            turns(20).await;
            match fill(side, &waker).await {
                0 => break,
                more => taken += more,
            }
        }
        let woken = count.get();
        turns(20).await;
        log.note("woken in vain", count.get() - woken);
        note(log, "an empty write", poll_write(side, &waker, b"").await);
        let mut buf = vec![0; taken];
        log.outcome("the peer's read", peer.read_exact(&mut buf).await.map(|n| n == taken));
        soon("the writer is woken", async {
            while count.get() == woken {
                tokio::task::yield_now().await;
            }
        })
        .await;
        note(log, "write", poll_write(side, &waker, b"last").await);
        log.outcome("the peer's read", peer.read_exact(&mut buf[..4]).await);
        log.note("received", &buf[..4]);
    })
    .await;
    assert_eq!(
        log.lines(),
        [
            "something was taken: true",
            "woken in vain: 0",
            "an empty write: Pending",
            "the peer's read: Ok(true)",
            "write: Ready(Ok(4))",
            "the peer's read: Ok(4)",
            "received: [108, 97, 115, 116]",
        ]
    );
}

#[tokio::test]
async fn full_send_buffer_does_not_keep_the_reader_from_reading() {
    let log = alike(async |side, mut peer, log| {
        let (_, waker) = Count::new();
        fill(side, &waker).await;
        peer.write_all(b"heard").await.unwrap();
        let mut buf = [0; 5];
        log.outcome("read", side.read_exact(&mut buf).await);
        log.note("bytes", buf);
    })
    .await;
    assert_eq!(log.lines()[0], "read: Ok(5)");
}

/// A cancelled operation leaves nothing behind.
#[tokio::test]
async fn cancelled_read_takes_nothing_from_the_next() {
    let log = alike(async |side, mut peer, log| {
        for _ in 0..3 {
            let mut buf = [0; 8];
            let mut read = tokio_test::task::spawn(side.read(&mut buf));
            log.note("pending", read.poll().is_pending());
            drop(read);
            peer.write_all(b"abc").await.unwrap();
            log.outcome("read", side.read_exact(&mut buf[..3]).await);
            log.note("bytes", &buf[..3]);
        }
    })
    .await;
    assert_eq!(log.lines()[..2], ["pending: true", "read: Ok(3)"]);
}

/// Tokio lets a task do 128 operations that are ready before it must let others run.
#[tokio::test]
async fn operations_that_are_always_ready_use_up_the_tasks_budget() {
    let log = alike(async |side, mut peer, log| {
        peer.write_all(&[1; 1_000]).await.unwrap();
        // Nothing else is done in the turn in which it is counted.
        side.read_exact(&mut [0; 2]).await.unwrap();
        turns(1).await;
        let reads = poll_fn(|cx| {
            let mut byte = [0];
            let mut count = 0;
            while Pin::new(&mut *side).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_ready() {
                count += 1;
            }
            Poll::Ready(count)
        });
        log.note("reads in one turn", reads.await);
        turns(1).await;
        let writes = poll_fn(|cx| {
            let mut count = 0;
            while Pin::new(&mut *side).poll_write(cx, b"x").is_ready() {
                count += 1;
            }
            Poll::Ready(count)
        });
        log.note("writes in one turn", writes.await);
    })
    .await;
    assert_eq!(log.lines(), ["reads in one turn: 128", "writes in one turn: 128"]);
}

#[tokio::test]
async fn loop_of_ready_reads_and_writes_lets_other_tasks_run() {
    let log = alike(async |side, mut peer, log| {
        peer.write_all(&[1; 10_000]).await.unwrap();
        let other = tokio::spawn(async {
            let mut turns = 0_u32;
            loop {
                tokio::task::yield_now().await;
                turns += 1;
                if turns == 20 {
                    return;
                }
            }
        });
        let mut calls = 0;
        while !other.is_finished() {
            side.read_u8().await.unwrap();
            side.write_u8(1).await.unwrap();
            calls += 2;
        }
        log.note("the other task had its turns in time", calls < 10_000);
    })
    .await;
    assert_eq!(log.lines(), ["the other task had its turns in time: true"]);
}
