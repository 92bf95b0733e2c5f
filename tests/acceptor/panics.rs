//! Panics of the program's own code that an acceptor calls, besides its handlers and hooks.

use std::error::Error;
use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use perconn::acceptor::{EndReason, Event, LineConn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{LONG, MEGABYTE, client, echo, event, figures, local, recorder, send_that_waits, served};
use crate::support::in_time;

/// Panics without a message on the terminal.
fn quiet_panic(text: &'static str) -> ! {
    resume_unwind(Box::new(text))
}

/// A waker that panics.
fn panicking_waker() -> Waker {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            quiet_panic("a waker");
        }
    }

    Waker::from(Arc::new(Panics))
}

/// An error that panics when it is dropped.
#[derive(Debug)]
struct Bomb;

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bomb")
    }
}

impl Error for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        quiet_panic("the drop of an error");
    }
}

#[tokio::test]
async fn panic_of_a_waker_in_closed_keeps_neither_the_stop_nor_another_waiter() {
    for is_served in [false, true] {
        let acceptor = Arc::new(local().handler(echo).build().unwrap());
        let stream = if is_served { Some(served(&acceptor).await) } else { None };
        let waiting = || {
            let acceptor = Arc::clone(&acceptor);
            tokio::spawn(async move { acceptor.closed().await })
        };
        let first = waiting();
        tokio::task::yield_now().await;
        let mut panics = pin!(acceptor.closed());
        assert!(panics.as_mut().poll(&mut Context::from_waker(&panicking_waker())).is_pending());
        let mut waiters = vec![first];
        waiters.extend((0..3).map(|_| waiting()));
        tokio::task::yield_now().await;
        in_time("the stop", acceptor.stop(LONG)).await;
        for waiter in waiters {
            in_time("another waiter", waiter).await.unwrap().unwrap();
        }
        in_time("the waiter itself", panics).await.unwrap();
        drop(stream);
    }
}

#[tokio::test]
async fn error_of_a_handler_that_panics_when_it_is_dropped_costs_no_slot() {
    let (hook, mut events) = recorder();
    let builder = local().acceptors(1).first_byte_timeout(Duration::from_millis(1)).on_event(hook);
    let acceptor = builder
        .handler(async |mut stream, _| {
            let _ = stream.read(&mut [0]).await;
            Err(io::Error::other(Bomb))
        })
        .build()
        .unwrap();
    let mut ended = async || {
        let reason = event(&mut events, |event| match event {
            Event::Closed { reason: EndReason::Failed(error), .. } => Some(error.to_string()),
            Event::Closed { reason, .. } => Some(format!("{reason:?}")),
            _ => None,
        });
        reason.await
    };
    for _ in 0..2 {
        // The handler's error is replaced by the reason for it.
        let stream = client(&acceptor).await;
        assert_eq!(ended().await, "TimedOut");
        figures(&acceptor, "the slot is free", |stats| stats.busy == 0).await;
        drop(stream);
    }
    assert_eq!(in_time("the stop", acceptor.stop(LONG)).await, Default::default());
}

#[tokio::test]
async fn handler_whose_error_and_future_both_panic_when_they_are_dropped_counts_as_panicked() {
    struct FailsAtOnce;

    impl Future for FailsAtOnce {
        type Output = io::Result<()>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other(Bomb)))
        }
    }

    impl Drop for FailsAtOnce {
        fn drop(&mut self) {
            quiet_panic("the drop of a handler");
        }
    }

    let acceptor = local().handler(|_, _| FailsAtOnce).build().unwrap();
    let _stream = client(&acceptor).await;
    let stats = figures(&acceptor, "it has ended", |stats| stats.accepted == 1 && stats.busy == 0).await;
    assert_eq!((stats.panicked, stats.cut), (1, 0), "{stats:?}");
}

#[tokio::test]
async fn panic_of_a_waker_that_waits_to_send_does_not_reach_the_task_that_sends() {
    let kept: Arc<Mutex<Option<LineConn>>> = Arc::default();
    let keeper = Arc::clone(&kept);
    let acceptor = local()
        .line_handler(move |_, conn| {
            *keeper.lock().unwrap() = Some(conn.clone());
            async move { conn.send("welcome").await }
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"hello\n").await.unwrap();
    in_time("the welcome", stream.read_exact(&mut [0; 8])).await.unwrap();
    let conn = kept.lock().unwrap().take().unwrap();
    let (sent_before, sends) = send_that_waits(&conn).await;
    {
        let mut waits = pin!(conn.send("next"));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&panicking_waker())).is_pending());
        let mut received = vec![0; (sent_before + 1) * (MEGABYTE + 1)];
        let (sent, read) = in_time("the line", async { tokio::join!(sends, stream.read_exact(&mut received)) }).await;
        assert_eq!((sent.is_ok(), read.is_ok()), (true, true));
    }
    in_time("a later line", conn.send("last")).await.unwrap();
    conn.close();
    assert_eq!(crate::common::rest(&mut stream).await.unwrap(), "last\n");
}
