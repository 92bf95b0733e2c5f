//! Streams of a dialer of the user's that do what no socket does.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use perconn::postgres::{ListenerBuilder, Message};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::fake::{Fake, error, notification};
use crate::support::in_time;
use crate::world::{Diary, next, on_one_and_two_threads, outage, payload, quick, until};

/// A stream that does as it is told.
struct Odd(TcpStream, Arc<Mutex<Oddity>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Oddity {
    None,
    /// The next read panics.
    Panic,
    /// The next write fails.
    FailOnce(io::ErrorKind),
    /// All writes fail.
    Fail(io::ErrorKind),
}

impl AsyncRead for Odd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let is_panic = {
            let mut oddity = self.1.lock().unwrap();
            let is_panic = *oddity == Oddity::Panic;
            if is_panic {
                *oddity = Oddity::None;
            }
            is_panic
        };
        assert!(!is_panic, "as it is told");
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Odd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let oddity = *self.1.lock().unwrap();
        match oddity {
            Oddity::FailOnce(kind) => {
                *self.1.lock().unwrap() = Oddity::None;
                Poll::Ready(Err(kind.into()))
            }
            Oddity::Fail(kind) => Poll::Ready(Err(kind.into())),
            Oddity::None | Oddity::Panic => Pin::new(&mut self.0).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A listener over such streams, and what tells them what to do.
fn odd(fake: &Fake) -> (ListenerBuilder, Arc<Mutex<Oddity>>) {
    let oddity = Arc::new(Mutex::new(Oddity::None));
    let (told, address) = (Arc::clone(&oddity), fake.address);
    let dialer = perconn::dial_fn(move || {
        let told = Arc::clone(&told);
        async move { Ok(Odd(TcpStream::connect(address).await?, told)) }
    });
    (quick(fake.config_without_host()).dialer(dialer), oddity)
}

#[test]
fn stream_that_panics_is_a_loss() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let (builder, oddity) = odd(&fake);
        let mut listener = builder.build().unwrap();
        let mut talk = fake.welcome().await;
        until("up", async || listener.is_connected()).await;
        *oddity.lock().unwrap() = Oddity::Panic;
        talk.send(&notification("a", "1")).await;
        let mut talk = fake.welcome().await;
        let cause = outage(&mut listener).await;
        assert!(cause.with_causes().to_string().contains("panicked"), "{cause:?}");
        let (pong, _) = tokio::join!(listener.ping(), talk.obey());
        pong.unwrap();
    });
}

#[test]
fn stream_that_panics_at_the_goodbye_is_closed_and_the_listener_says_so() {
    on_one_and_two_threads(async || {
        let (fake, diary) = (Fake::start().await, Diary::default());
        let (builder, oddity) = odd(&fake);
        let listener = builder.on_event(diary.hook()).build().unwrap();
        let _talk = fake.welcome().await;
        until("up", async || listener.is_connected()).await;
        *oddity.lock().unwrap() = Oddity::Panic;
        in_time("close", listener.close()).await;
        until("it is told", async || diary.words().last().is_some_and(|word| word == "closed")).await;
    });
}

#[test]
fn stream_that_says_try_again_is_tried_again() {
    on_one_and_two_threads(async || {
        for kind in [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted] {
            let fake = Fake::start().await;
            let (builder, oddity) = odd(&fake);
            let mut listener = builder.build().unwrap();
            let mut talk = fake.welcome().await;
            until("up", async || listener.is_connected()).await;
            *oddity.lock().unwrap() = Oddity::FailOnce(kind);
            let (pong, _) = tokio::join!(listener.ping(), talk.obey());
            pong.unwrap();
            talk.send(&notification("a", "1")).await;
            assert_eq!(payload(&mut listener).await, "1");
            assert_eq!(listener.generation(), 1);
        }
    });
}

#[test]
fn what_has_arrived_is_read_to_the_end_though_writes_fail() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let (builder, oddity) = odd(&fake);
        let mut listener = builder.queue(10).build().unwrap();
        let mut talk = fake.welcome().await;
        until("up", async || listener.is_connected()).await;
        let mut last_words: Vec<u8> = (0..100).flat_map(|number| notification("a", &number.to_string())).collect();
        last_words.extend(error("FATAL", "57P01"));
        talk.send(&last_words).await;
        assert_eq!(payload(&mut listener).await, "0");
        *oddity.lock().unwrap() = Oddity::Fail(io::ErrorKind::BrokenPipe);
        let handle = listener.handle();
        let asking = tokio::spawn(async move { handle.ping().await });
        for number in 1..100 {
            if number % 20 == 0 {
                // So far behind that the question is sent all the same.
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
            assert_eq!(payload(&mut listener).await, number.to_string());
        }
        let Message::Lost { cause, .. } = next(&mut listener).await else { panic!("expected a loss") };
        assert_eq!(cause.code().unwrap().code(), "57P01");
        assert!(in_time("the question", asking).await.unwrap().is_err());
    });
}
