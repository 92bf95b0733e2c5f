//! Panics of the program's own hooks and dialers: they are contained, and the connection keeps working.

use std::sync::Arc;
use std::time::Duration;

use perconn::{Conn, Event, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::close;
use crate::support::{Recorder, Server, in_time, next_event, quick, reset};

#[tokio::test]
async fn panics_in_hooks_are_contained_and_reported() {
    let server = Server::start().await;
    let reported = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&reported);
    let builder = server.client().on_event(|_| panic!("from the event hook")).logger(move |error| {
        log.lock().unwrap().push(error.to_string());
        panic!("from the logger");
    });
    let (conn, mut peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    for _ in 0..3 {
        in_time("write", conn.write_all(b"ping")).await.unwrap();
        in_time("peer", peer.read_exact(&mut [0; 4])).await.unwrap();
        reset(peer);
        assert!(in_time("read", conn.read(&mut [0; 4])).await.is_err());
        peer = server.accept().await;
    }
    close(&conn).await;
    let reported = reported.lock().unwrap();
    assert!(reported.iter().any(|text| text == "the event hook panicked: from the event hook"), "{reported:?}");
    assert!(reported.iter().any(|text| text.starts_with("read on link 1")), "{reported:?}");
}

#[tokio::test]
async fn dial_future_that_panics_on_drop_is_a_failed_dial() {
    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("the dial is dropped");
        }
    }
    let (recorder, mut events) = Recorder::new();
    let dialer = dial_fn(|| async {
        let _guard = PanicsOnDrop;
        std::future::pending::<std::io::Result<TcpStream>>().await
    });
    let builder = quick(Conn::builder("panics").dialer(dialer)).dial_timeout(Duration::from_millis(5));
    let conn = builder.on_event(recorder.hook()).build().unwrap();
    next_event(&mut events, |event| matches!(event, Event::DialFailed { attempt: 3, .. }).then_some(())).await;
    close(&conn).await;
}

#[tokio::test]
async fn dialer_that_panics_is_a_failed_dial() {
    let server = Server::start().await;
    let address = server.address;
    let mut dials = 0;
    let dialer = dial_fn(move || {
        dials += 1;
        assert_ne!(dials, 1, "the closure panics");
        async move {
            assert_ne!(dials, 2, "the future panics");
            TcpStream::connect(address).await
        }
    });
    let (recorder, mut events) = Recorder::new();
    let conn = quick(server.client().dialer(dialer)).on_event(recorder.hook()).build().unwrap();
    for text in ["the closure panics", "the future panics"] {
        let cause = next_event(&mut events, |event| match event {
            Event::DialFailed { cause, .. } => Some(Arc::clone(cause)),
            _ => None,
        });
        let cause = cause.await;
        let source = std::error::Error::source(&*cause).unwrap().to_string();
        assert!(source.contains("the dialer panicked") && source.contains(text), "{source}");
    }
    in_time("connected", conn.connected()).await.unwrap();
}
