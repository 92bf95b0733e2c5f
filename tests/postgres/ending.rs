//! The end of a listener: by close or drop at any moment, by `max_retries`, or with its runtime.
//!
//! Next: `hooks`, for hooks that panic or block.

use std::future::pending;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use perconn::dial_fn;
use perconn::postgres::{Error, Listener, Message};
use tokio::net::TcpStream;

use crate::helpers::{EventLog, on_one_and_two_threads, quick, until};
use crate::scripted_server::ScriptedServer;
use crate::support::{in_time, refused_address};

/// What the listener is doing when it is closed.
const MOMENTS: [&str; 7] = ["at once", "dialing", "waiting", "starting up", "listening", "querying", "connected"];

/// A listener at one of these moments, and the server's end of its connection, which must stay open.
async fn at(
    moment: &str,
    scripted: &ScriptedServer,
    event_log: &EventLog,
) -> (Listener, Option<crate::scripted_server::ServerConn>) {
    let builder = quick(scripted.config()).on_event(event_log.hook());
    let slow = Duration::from_secs(3600);
    match moment {
        "at once" => (builder.build().unwrap(), None),
        "dialing" => {
            let (sender, mut dialed) = tokio::sync::mpsc::unbounded_channel();
            let dialer = dial_fn(move || {
                let _ = sender.send(());
                pending::<std::io::Result<TcpStream>>()
            });
            let listener = builder.dialer(dialer).build().unwrap();
            in_time("it dials", dialed.recv()).await.unwrap();
            (listener, None)
        }
        "waiting" => {
            let mut config = scripted.config_without_host();
            let refused = refused_address().await;
            config.host(refused.ip().to_string()).port(refused.port());
            let builder = quick(config).retry_min(slow).retry_max(slow).on_event(event_log.hook());
            let listener = builder.build().unwrap();
            until("it waits", async || event_log.count("attempt") == 1).await;
            (listener, None)
        }
        "starting up" => {
            let listener = builder.build().unwrap();
            let mut peer = scripted.accept().await;
            peer.read_startup().await;
            (listener, Some(peer))
        }
        "listening" => {
            let listener = builder.build().unwrap();
            let mut peer = scripted.accept_login().await;
            let (listened, _) = tokio::join!(listener.listen("a"), peer.answer_query());
            listened.unwrap();
            drop(peer);
            let mut peer = scripted.accept_login().await;
            peer.read_query().await.unwrap();
            (listener, Some(peer))
        }
        "querying" => {
            let listener = builder.build().unwrap();
            let mut peer = scripted.accept_login().await;
            let handle = listener.handle();
            tokio::spawn(async move { handle.listen("a").await });
            peer.read_query().await.unwrap();
            (listener, Some(peer))
        }
        _ => {
            let listener = builder.build().unwrap();
            let peer = scripted.accept_login().await;
            until("connected", async || listener.is_connected()).await;
            (listener, Some(peer))
        }
    }
}

#[test]
fn close_is_prompt_at_any_moment() {
    on_one_and_two_threads(async || {
        for moment in MOMENTS {
            let (scripted, event_log) = (ScriptedServer::start().await, EventLog::default());
            let (mut listener, peer) = at(moment, &scripted, &event_log).await;
            let handle = listener.handle();
            let listen = tokio::spawn(async move { handle.listen("waiting").await });
            tokio::task::yield_now().await;
            let begin = Instant::now();
            in_time(moment, listener.close()).await;
            assert!(begin.elapsed() < Duration::from_secs(5), "{moment}: {:?}", begin.elapsed());
            assert!(matches!(in_time(moment, listen).await.unwrap(), Err(Error::Closed)), "{moment}");
            assert!(matches!(in_time(moment, listener.recv()).await, Err(Error::Closed)), "{moment}");
            assert!(matches!(listener.listen("a").await, Err(Error::Closed)), "{moment}");
            assert!(matches!(listener.unlisten("a").await, Err(Error::Closed)), "{moment}");
            assert!(matches!(listener.ping().await, Err(Error::Closed)), "{moment}");
            assert!(listener.channels().is_empty() && !listener.is_connected() && listener.status().is_final());
            if let Some(mut peer) = peer {
                peer.wait_for_close().await;
            }
            in_time(moment, listener.close()).await;
            until("the last event is Closed", async || event_log.kinds().last().is_some_and(|kind| kind == "closed"))
                .await;
            assert_eq!(event_log.count("closed"), 1);
            assert!(scripted.sees_no_dial(Duration::from_millis(50)).await || moment == "at once", "{moment}");
        }
    });
}

#[test]
fn drop_ends_it_at_any_moment() {
    on_one_and_two_threads(async || {
        for moment in MOMENTS {
            let (scripted, event_log) = (ScriptedServer::start().await, EventLog::default());
            let (listener, peer) = at(moment, &scripted, &event_log).await;
            let handle = listener.handle();
            drop(listener);
            assert!(matches!(handle.listen("a").await, Err(Error::Closed)), "{moment}");
            in_time(moment, handle.close()).await;
            if let Some(mut peer) = peer {
                peer.wait_for_close().await;
            }
        }
    });
}

#[test]
fn server_gets_the_final_message_when_no_query_is_pending() {
    on_one_and_two_threads(async || {
        let (scripted, event_log) = (ScriptedServer::start().await, EventLog::default());
        let (listener, peer) = at("connected", &scripted, &event_log).await;
        in_time("close", listener.close()).await;
        assert_eq!(in_time("the final message", peer.unwrap().read_message()).await, Some((b'X', vec![])));
    });
}

#[test]
fn stream_returns_its_error_once_and_ends() {
    on_one_and_two_threads(async || {
        let (scripted, event_log) = (ScriptedServer::start().await, EventLog::default());
        let (mut listener, _peer) = at("connected", &scripted, &event_log).await;
        in_time("close", listener.close()).await;
        assert!(matches!(in_time("the error", listener.next()).await, Some(Err(Error::Closed))));
        assert!(in_time("the end", listener.next()).await.is_none());
        assert!(in_time("the end", listener.next()).await.is_none());
    });
}

#[tokio::test]
async fn loop_over_calls_that_fail_at_once_yields_to_other_tasks() {
    let address = refused_address().await;
    let mut config = tokio_postgres::Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("nobody");
    for is_closed in [false, true] {
        let mut listener = quick(config.clone()).build().unwrap();
        let handle = listener.handle();
        if is_closed {
            in_time("close", listener.close()).await;
        }
        let calling = tokio::spawn(async move {
            loop {
                assert!(handle.ping().await.is_err());
                assert!(handle.listen("").await.is_err());
                assert!(handle.unlisten("nothing").await.is_err());
            }
        });
        let reading = tokio::spawn(async move {
            loop {
                assert!(listener.recv().await.is_err());
            }
        });
        // This sleep runs on the same single thread.
        tokio::time::sleep(Duration::from_millis(5)).await;
        for task in [calling, reading] {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
    }
}

#[test]
fn after_the_last_retry_the_reader_gets_what_was_received_and_then_the_error() {
    on_one_and_two_threads(async || {
        let mut scripted = Some(ScriptedServer::start().await);
        let event_log = EventLog::default();
        let server = scripted.as_ref().unwrap();
        let builder = quick(server.config()).max_retries(2).on_event(event_log.hook());
        let mut listener = builder.stable_after(Duration::from_secs(60)).build().unwrap();
        let peer = server.accept_login().await;
        until("connected", async || listener.is_connected()).await;
        scripted.take();
        drop(peer);
        let handle = listener.handle();
        until("given up", async || handle.status().is_final()).await;
        assert!(matches!(in_time("the loss", listener.recv()).await, Ok(Message::Lost { generation: 1, .. })));
        for _ in 0..2 {
            let error = in_time("the end", listener.recv()).await.unwrap_err();
            let Error::GaveUp { source: Some(source), .. } = &error else { panic!("{error:?}") };
            assert!(matches!(**source, Error::Connect { .. }), "{source:?}");
            assert!(error.is_final());
        }
        assert!(matches!(handle.listen("a").await, Err(Error::GaveUp { .. })));
        assert!(matches!(handle.ping().await, Err(Error::GaveUp { .. })));
        assert_eq!(event_log.kinds(), ["connected", "disconnected", "attempt", "attempt", "gave"]);
        in_time("close", listener.close()).await;
        assert!(matches!(listener.recv().await, Err(Error::Closed)));
    });
}

#[test]
fn runtime_shutdown_ends_the_listener_with_its_own_error() {
    for threads in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
        let (mut listener, _peer) = runtime.block_on(async {
            let scripted = ScriptedServer::start().await;
            let listener = quick(scripted.config()).build().unwrap();
            let peer = scripted.accept_login().await;
            until("connected", async || listener.is_connected()).await;
            (listener, peer)
        });
        let handle = listener.handle();
        runtime.shutdown_timeout(Duration::from_secs(10));
        on_one_thread(async {
            assert!(matches!(in_time("recv", listener.recv()).await, Err(Error::RuntimeShutdown)));
            assert!(matches!(in_time("listen", handle.listen("a")).await, Err(Error::RuntimeShutdown)));
            in_time("close", listener.close()).await;
            assert!(matches!(listener.recv().await, Err(Error::Closed)));
        });
    }
}

fn on_one_thread<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}
