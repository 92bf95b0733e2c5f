//! Streams of the program's own dialer that behave as no socket does.
//!
//! Next: `hooks`, for the program's own hooks.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use perconn::postgres::{ListenerBuilder, Message};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::helpers::{EventLog, next, on_one_and_two_threads, outage, payload, quick, until};
use crate::scripted_server::{ScriptedServer, error_response, notification};
use crate::support::in_time;

/// A stream with a fault that the test sets.
struct FaultyStream(TcpStream, Arc<Mutex<StreamFault>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamFault {
    None,
    /// The next read panics.
    Panic,
    /// The next write fails.
    FailOnce(io::ErrorKind),
    /// A write says that it has taken more than it was given.
    TakeTooMuch,
    /// All writes fail.
    Fail(io::ErrorKind),
}

impl AsyncRead for FaultyStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let is_panic = {
            let mut fault = self.1.lock().unwrap();
            let is_panic = *fault == StreamFault::Panic;
            if is_panic {
                *fault = StreamFault::None;
            }
            is_panic
        };
        assert!(!is_panic, "the read panics");
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let fault = *self.1.lock().unwrap();
        match fault {
            StreamFault::FailOnce(kind) => {
                *self.1.lock().unwrap() = StreamFault::None;
                Poll::Ready(Err(kind.into()))
            }
            StreamFault::TakeTooMuch => Poll::Ready(Ok(bytes.len() + 1)),
            StreamFault::Fail(kind) => Poll::Ready(Err(kind.into())),
            StreamFault::None | StreamFault::Panic => Pin::new(&mut self.0).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A builder for a listener over such streams, and the fault of the streams.
fn faulty(scripted: &ScriptedServer) -> (ListenerBuilder, Arc<Mutex<StreamFault>>) {
    let fault = Arc::new(Mutex::new(StreamFault::None));
    let (shared, address) = (Arc::clone(&fault), scripted.address);
    let dialer = perconn::dial_fn(move || {
        let shared = Arc::clone(&shared);
        async move { Ok(FaultyStream(TcpStream::connect(address).await?, shared)) }
    });
    (quick(scripted.config_without_host()).dialer(dialer), fault)
}

#[test]
fn stream_that_panics_is_a_loss() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let (builder, fault) = faulty(&scripted);
        let mut listener = builder.build().unwrap();
        let mut peer = scripted.accept_login().await;
        until("up", async || listener.is_connected()).await;
        *fault.lock().unwrap() = StreamFault::Panic;
        peer.send(&notification("a", "1")).await;
        let mut peer = scripted.accept_login().await;
        let cause = outage(&mut listener).await;
        assert!(cause.with_causes().to_string().contains("panicked"), "{cause:?}");
        let (pong, _) = tokio::join!(listener.ping(), peer.answer_query());
        pong.unwrap();
    });
}

#[test]
fn stream_that_panics_at_the_final_message_is_closed_and_closed_is_reported() {
    on_one_and_two_threads(async || {
        let (scripted, event_log) = (ScriptedServer::start().await, EventLog::default());
        let (builder, fault) = faulty(&scripted);
        let listener = builder.on_event(event_log.hook()).build().unwrap();
        let _peer = scripted.accept_login().await;
        until("up", async || listener.is_connected()).await;
        *fault.lock().unwrap() = StreamFault::Panic;
        in_time("close", listener.close()).await;
        until("it is reported", async || event_log.kinds().last().is_some_and(|kind| kind == "closed")).await;
    });
}

#[test]
fn error_that_asks_to_try_again_is_no_loss() {
    on_one_and_two_threads(async || {
        for kind in [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted] {
            let scripted = ScriptedServer::start().await;
            let (builder, fault) = faulty(&scripted);
            let mut listener = builder.build().unwrap();
            let mut peer = scripted.accept_login().await;
            until("up", async || listener.is_connected()).await;
            *fault.lock().unwrap() = StreamFault::FailOnce(kind);
            let (pong, _) = tokio::join!(listener.ping(), peer.answer_query());
            pong.unwrap();
            peer.send(&notification("a", "1")).await;
            assert_eq!(payload(&mut listener).await, "1");
            assert_eq!(listener.generation(), 1);
        }
    });
}

#[test]
fn everything_that_has_arrived_is_read_although_writes_fail() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let (builder, fault) = faulty(&scripted);
        let mut listener = builder.queue(10).build().unwrap();
        let mut peer = scripted.accept_login().await;
        until("up", async || listener.is_connected()).await;
        let mut final_bytes: Vec<u8> = (0..100).flat_map(|number| notification("a", &number.to_string())).collect();
        final_bytes.extend(error_response("FATAL", "57P01"));
        peer.send(&final_bytes).await;
        assert_eq!(payload(&mut listener).await, "0");
        *fault.lock().unwrap() = StreamFault::Fail(io::ErrorKind::BrokenPipe);
        let handle = listener.handle();
        let pinging = tokio::spawn(async move { handle.ping().await });
        for number in 1..100 {
            if number % 20 == 0 {
                // The reader is so far behind that the query is sent without waiting for it.
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
            assert_eq!(payload(&mut listener).await, number.to_string());
        }
        let Message::Lost { cause, .. } = next(&mut listener).await else { panic!("expected a loss") };
        assert_eq!(cause.code().unwrap().code(), "57P01");
        assert!(in_time("the ping", pinging).await.unwrap().is_err());
    });
}

#[test]
fn stream_that_takes_more_than_it_was_given_fails_the_login_with_both_numbers() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let (builder, fault) = faulty(&scripted);
        *fault.lock().unwrap() = StreamFault::TakeTooMuch;
        let error = in_time("connect", builder.connect()).await.unwrap_err();
        let text = error.with_causes().to_string();
        assert!(text.contains("the stream says that it has taken ") && text.contains(" that it was given"), "{text}");
    });
}
