//! Giving up: after `max_retries`, or after a failed `connect`, operations report it and nothing dials again.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use perconn::{Conn, Error, Event, Status, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Recorder, Server, in_time, next_event, perconn_error, quick, reset};

#[tokio::test]
async fn every_operation_after_giving_up_reports_it() {
    let (recorder, mut events) = Recorder::new();
    let mut server = Server::start().await;
    let builder = server.client().max_retries(3).on_event(recorder.hook());
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let (mut read, mut write) = conn.unwrap().into_split();
    server.stop();
    reset(peer);
    next_event(&mut events, |event| matches!(event, Event::GaveUp { attempts: 3, .. }).then_some(())).await;
    let dials = recorder.events().iter().filter(|event| matches!(event, Event::DialFailed { .. })).count();
    assert_eq!(dials, 3);
    assert!(matches!(perconn_error(&read.read(&mut [0; 4]).await.unwrap_err()), Error::IoError { generation: 1, .. }));
    assert!(matches!(perconn_error(&write.write(b"x").await.unwrap_err()), Error::IoError { generation: 1, .. }));
    for _ in 0..3 {
        assert!(matches!(perconn_error(&read.read(&mut [0; 4]).await.unwrap_err()), Error::GaveUp { attempts: 3, .. }));
        assert!(matches!(perconn_error(&write.write(b"x").await.unwrap_err()), Error::GaveUp { attempts: 3, .. }));
    }
    assert!(matches!(read.connected().await, Err(Error::GaveUp { .. })));
    assert_eq!(read.status(), Status::GaveUp);
    server.restart().await;
    read.dial_now();
    read.break_link(1);
    server.expect_no_dial(Duration::from_millis(100)).await;
    drop((read, write));
}

#[tokio::test]
async fn connect_that_fails_dials_once() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dials);
    let dialer = dial_fn(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Err::<TcpStream, _>(ErrorKind::ConnectionRefused.into()))
    });
    let (recorder, mut events) = Recorder::new();
    let builder = quick(Conn::builder("refused").dialer(dialer)).on_event(recorder.hook());
    drop(recorder);
    let error = in_time("connect", builder.connect()).await.unwrap_err();
    assert!(matches!(&error, Error::DialFailure { attempt: 1, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    while in_time("the actor's end", events.recv()).await.is_some() {}
    assert_eq!(dials.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn failed_connect_dials_once_even_if_polled_late() {
    let (recorder, mut events) = Recorder::new();
    let dials = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dials);
    let dialer = dial_fn(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Err::<TcpStream, _>(ErrorKind::ConnectionRefused.into()))
    });
    let builder = quick(Conn::builder("refused").dialer(dialer)).on_event(recorder.hook());
    let mut connect = tokio_test::task::spawn(builder.connect());
    assert!(connect.poll().is_pending());
    drop(recorder);
    let retry_in = next_event(&mut events, |event| match event {
        Event::DialFailed { retry_in, .. } => Some(*retry_in),
        _ => None,
    });
    assert_eq!(retry_in.await, None);
    next_event(&mut events, |event| matches!(event, Event::Closed).then_some(())).await;
    assert!(in_time("the actor has ended", events.recv()).await.is_none());
    assert!(matches!(in_time("connect", connect).await, Err(Error::DialFailure { .. })));
    assert_eq!(dials.load(Ordering::SeqCst), 1);
}
