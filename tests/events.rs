//! Events, logger, status and counters that can be trusted.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::{Conn, Error, Event, Status};
use support::{Recorder, Server, in_time, next_event, quick, reset};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn events_tell_the_whole_story_in_order() {
    let mut server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let logged = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&logged);
    let builder = server.client().on_event(recorder.hook());
    let builder = builder.logger(move |error| log.lock().unwrap().push(error.to_string()));
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    server.stop();
    reset(peer);
    assert!(in_time("read", conn.read_u8()).await.is_err());
    next_event(&mut events, |event| matches!(event, Event::DialFailed { attempt: 2, .. }).then_some(())).await;
    server.restart().await;
    let _peer = server.accept().await;
    in_time("connected", conn.connected()).await.unwrap();
    in_time("close", conn.close()).await;

    let events = recorder.events();
    assert!(matches!(events[0], Event::Connected { generation: 1, attempt: 1, .. }), "{:?}", events[0]);
    let Event::Disconnected { generation: 1, cause, retry_in: Some(delay), lived, .. } = &events[1] else {
        panic!("{:?}", events[1]);
    };
    assert!(matches!(&**cause, Error::IoError { generation: 1, .. }));
    assert!(*delay <= Duration::from_millis(5) && *lived > Duration::ZERO);
    let failed = &events[2..events.len() - 2];
    for (n, event) in failed.iter().enumerate() {
        assert!(matches!(event, Event::DialFailed { attempt, .. } if *attempt == n as u32 + 1), "{event:?}");
    }
    let up = &events[events.len() - 2];
    assert!(matches!(up, Event::Reconnected { generation: 2, attempt, .. } if *attempt == failed.len() as u32 + 1));
    assert!(matches!(events[events.len() - 1], Event::Closed));

    let logged = logged.lock().unwrap();
    assert_eq!(logged.len(), 1 + failed.len(), "one line for the break, one for each failed dial: {logged:?}");
    assert_eq!(logged[0], format!("read on link 1 to {} failed", server.address));
    assert_eq!(logged[1], format!("dial 1 to {} failed", server.address));
}

#[tokio::test]
async fn break_is_logged_once_though_several_notice_it() {
    let server = Server::start().await;
    let (recorder, mut events) = Recorder::new();
    let (conn, mut peer) = tokio::join!(server.client().on_event(recorder.hook()).connect(), server.accept());
    let (mut read, mut write) = conn.unwrap().into_split();
    for generation in 2..=10 {
        reset(peer);
        let both = async { tokio::join!(read.read_u8(), tokio::io::AsyncWriteExt::write_all(&mut write, b"x")) };
        assert!(in_time("both halves", both).await.0.is_err());
        peer = server.accept().await;
        next_event(&mut events, |event| {
            matches!(event, Event::Reconnected { generation: g, .. } if *g == generation).then_some(())
        })
        .await;
        // Takes the error of a write that was too early to see the reset.
        while in_time("write", tokio::io::AsyncWriteExt::write_all(&mut write, b"x")).await.is_err() {}
    }
    let mut is_up = false;
    for event in recorder.events() {
        match event {
            Event::Connected { .. } | Event::Reconnected { .. } => assert!(!std::mem::replace(&mut is_up, true)),
            Event::Disconnected { .. } => assert!(std::mem::replace(&mut is_up, false)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn status_never_says_connected_after_an_error_was_told() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    let status = conn.watch_status();
    for generation in 1..=50 {
        assert_eq!(conn.generation(), generation);
        assert!(conn.is_connected());
        reset(peer);
        assert!(in_time("read", conn.read_u8()).await.is_err());
        // The actor has not run since: this is what the operation itself wrote down.
        match status.current() {
            Status::Connected { generation: g, .. } => assert!(g > generation),
            Status::Disconnected { generation: g, .. } => assert_eq!(g, generation),
            other => panic!("{other:?}"),
        }
        peer = server.accept().await;
        in_time("connected", conn.connected()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_hook_delays_the_redial_and_nothing_else() {
    let server = Server::start().await;
    let (leave, may_leave) = std::sync::mpsc::channel::<()>();
    let may_leave = Mutex::new(may_leave);
    let builder = server.client().on_event(move |event| {
        if matches!(event, Event::Disconnected { .. }) {
            let _ = may_leave.lock().unwrap().recv_timeout(support::HANG_LIMIT);
        }
    });
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let (mut read, mut write) = conn.unwrap().into_split();
    reset(peer);
    // Both halves are told while the hook sleeps.
    assert!(in_time("read", read.read_u8()).await.is_err());
    assert!(in_time("write", tokio::io::AsyncWriteExt::write_all(&mut write, b"x")).await.is_err());
    assert!(!read.is_connected());
    leave.send(()).unwrap();
    let _peer = server.accept().await;
    in_time("connected", read.connected()).await.unwrap();
}

#[tokio::test]
async fn handles_and_settings_have_a_readable_debug_form() {
    let server = Server::start().await;
    let (conn, _peer) = server.pair().await;
    let address = format!("address: \"{}\"", server.address);
    let text = format!("{conn:?}");
    assert!(text.starts_with("Conn {") && text.contains(&address) && text.contains("generation: 1"), "{text}");
    let (read, write) = conn.into_split();
    assert!(format!("{read:?}").starts_with("ReadHalf {") && format!("{write:?}").starts_with("WriteHalf {"));
    let text = format!("{:?}", quick(Conn::builder("db:5432")));
    assert!(text.contains("db:5432") && text.contains("retry_min: 5ms"), "{text}");
}
