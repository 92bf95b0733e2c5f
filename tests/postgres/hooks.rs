//! Hooks of the program that panic or block.
//!
//! Next: `custom_streams`, for streams of the program that do.

use std::io::Read;
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use perconn::postgres::{Error, Event, ListenerHandle, Message};

use crate::helpers::{EventLog, on_one_and_two_threads, outage, payload, quick, until};
use crate::scripted_server::{ScriptedServer, notification};
use crate::support::{HANG_LIMIT, in_time};

#[test]
fn panic_of_the_event_hook_goes_to_the_logger_and_the_listener_continues() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let logged: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&logged);
        let builder = quick(scripted.config()).on_event(|event| panic!("at {event}")).logger(move |error| {
            let text = error.to_string();
            let text = match error {
                Error::HookPanicked { hook, message, .. } => {
                    assert_eq!(text, format!("the {hook} hook panicked: {message}"));
                    format!("{hook}: {}", message.split([':', ',']).next().unwrap())
                }
                _ => text,
            };
            log.lock().unwrap().push(text);
        });
        let mut listener = builder.build().unwrap();
        let handle = listener.handle();
        let mut peer = scripted.accept_login().await;
        let (listened, _) = tokio::join!(handle.listen("a"), peer.answer_query());
        listened.unwrap();
        drop(peer);
        let mut peer = scripted.accept_login().await;
        assert_eq!(peer.answer_query().await, "LISTEN \"a\";");
        outage(&mut listener).await;
        peer.send(&notification("a", "after the panics")).await;
        assert_eq!(payload(&mut listener).await, "after the panics");
        in_time("close", listener.close()).await;
        until("closed is reported", async || logged.lock().unwrap().len() >= 5).await;
        let expected = [
            "event: at connected",
            "the connection was lost",
            "event: at disconnected",
            "event: at reconnected",
            "event: at closed",
        ];
        assert_eq!(*logged.lock().unwrap(), expected);
    });
}

#[test]
fn event_hook_sees_the_state_after_the_change() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let (handle, seen) = (Arc::new(OnceLock::<ListenerHandle>::new()), Arc::new(Mutex::new(Vec::new())));
        let (of_hook, log) = (Arc::clone(&handle), Arc::clone(&seen));
        let listener = quick(scripted.config()).max_retries(1).on_event(move |event| {
            let handle = of_hook.get().expect("it is set before the first connection");
            let state = (handle.is_connected(), handle.generation(), handle.status());
            log.lock().unwrap().push((event.to_string().split([':', ' ']).next().unwrap().to_owned(), state));
        });
        let mut listener = listener.build().unwrap();
        handle.set(listener.handle()).unwrap();
        drop(scripted.accept_login().await);
        let peer = scripted.accept_login().await;
        outage(&mut listener).await;
        drop((peer, scripted));
        while in_time("the end", listener.recv()).await.is_ok() {}
        until("the end is reported", async || seen.lock().unwrap().iter().any(|(kind, _)| kind == "gave")).await;
        let seen = seen.lock().unwrap().clone();
        let states: Vec<_> = seen
            .iter()
            .filter(|(kind, _)| kind != "attempt")
            .map(|(kind, (is_connected, generation, status))| format!("{kind} {is_connected} {generation} {status:?}"))
            .collect();
        let expected = [
            "connected true 1 Connected { generation: 1 }",
            "disconnected false 1 Disconnected { generation: 1 }",
            "reconnected true 2 Connected { generation: 2 }",
            "disconnected false 2 Disconnected { generation: 2 }",
            "gave false 2 GaveUp",
        ];
        assert_eq!(states, expected);
    });
}

#[test]
fn panic_of_the_logger_stops_neither_the_events_nor_the_listener() {
    on_one_and_two_threads(async || {
        let (scripted, event_log) = (ScriptedServer::start().await, EventLog::default());
        let builder = quick(scripted.config()).on_event(event_log.hook()).logger(|error| panic!("at {error}"));
        let mut listener = builder.build().unwrap();
        // A failed attempt and a loss: both are logged.
        drop(scripted.accept().await);
        let peer = scripted.accept_login().await;
        until("connected", async || listener.is_connected()).await;
        drop(peer);
        let mut peer = scripted.accept_login().await;
        outage(&mut listener).await;
        let (pong, _) = tokio::join!(listener.ping(), peer.answer_query());
        pong.unwrap();
        in_time("close", listener.close()).await;
        until("closed is reported", async || event_log.count("closed") == 1).await;
        assert_eq!(event_log.kinds(), ["attempt", "connected", "disconnected", "reconnected", "closed"]);
    });
}

#[test]
fn hooks_that_all_panic_do_no_harm() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let builder = quick(scripted.config()).on_event(|_| panic!("an event")).logger(|_| panic!("an error"));
        let mut listener = builder.build().unwrap();
        for generation in 1..5 {
            // One attempt that fails, and one that succeeds.
            drop(scripted.accept().await);
            let peer = scripted.accept_login().await;
            until("connected", async || listener.generation() == generation).await;
            drop(peer);
            if generation > 1 {
                assert!(matches!(in_time("Resynced", listener.recv()).await, Ok(Message::Resynced { .. })));
            }
            assert!(matches!(in_time("a loss", listener.recv()).await, Ok(Message::Lost { .. })));
        }
        in_time("close", listener.close()).await;
    });
}

#[test]
fn close_does_not_wait_for_a_hook_that_blocks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let scripted = ScriptedServer::start().await;
        let (release, released) = mpsc::channel::<()>();
        let (blocks, blocked) = mpsc::channel();
        let released = Mutex::new(released);
        let builder = quick(scripted.config()).on_event(move |_| {
            let _ = blocks.send(());
            let _ = released.lock().unwrap().recv();
        });
        let listener = builder.build().unwrap();
        let _peer = scripted.accept_login().await;
        // The blocked worker may be the one that drives the timers: no time limit of the runtime would run out.
        blocked.recv_timeout(HANG_LIMIT).unwrap();
        let (done, is_done) = mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            let is_hanging = is_done.recv_timeout(HANG_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            drop(release);
            is_hanging
        });
        listener.close().await;
        drop(done);
        assert!(!watchdog.join().unwrap(), "close waited for the hook");
    });
}

#[test]
fn socket_is_closed_when_close_returns_although_a_hook_blocks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let scripted = ScriptedServer::start().await;
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let builder = quick(scripted.config()).on_event(move |event| {
            if matches!(event, Event::Closed) {
                let _ = released.lock().unwrap().recv();
            }
        });
        let listener = builder.build().unwrap();
        let peer = scripted.accept_login().await;
        until("connected", async || listener.is_connected()).await;
        listener.close().await;
        // Read without the runtime: the hook may have blocked the worker that drives the sockets.
        let mut peer = peer.0.into_std().unwrap();
        peer.set_nonblocking(false).unwrap();
        peer.set_read_timeout(Some(HANG_LIMIT)).unwrap();
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).expect("the socket is closed");
        drop(release);
    });
}
