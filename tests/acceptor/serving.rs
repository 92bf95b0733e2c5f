//! A handler for each connection, and what its failures do to others: nothing.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use perconn::acceptor::{EndReason, Error, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::support::in_time;
use crate::world::{client, echo, event, exchange, figures, local, recorder, rest, served};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_are_served_at_the_same_time() {
    let acceptor = Arc::new(local().handler(echo).build().unwrap());
    let mut clients = JoinSet::new();
    for _ in 0..200 {
        let acceptor = Arc::clone(&acceptor);
        clients.spawn(async move {
            let mut stream = served(&acceptor).await;
            for _ in 0..10 {
                exchange(&mut stream).await.unwrap();
            }
            stream
        });
    }
    let streams = in_time("all clients", clients.join_all()).await;
    assert_eq!(acceptor.stats().busy, 200);
    drop(streams);
    let stats = figures(&acceptor, "all are gone", |stats| stats.busy == 0).await;
    assert_eq!((stats.accepted, stats.finished), (200, 200));
}

#[tokio::test]
async fn handler_knows_its_peer_and_its_socket() {
    let acceptor = local()
        .nodelay(true)
        .handler(async |mut stream, peer| {
            let socket = stream.tcp().expect("it is TCP");
            assert_eq!(Some(socket.peer_addr()?), peer.addr());
            let text = format!("{} {peer} {}", stream.id(), socket.nodelay()?);
            stream.write_all(text.as_bytes()).await
        })
        .build()
        .unwrap();
    for id in 1..=2 {
        let mut stream = client(&acceptor).await;
        let expected = format!("{id} {} true", stream.local_addr().unwrap());
        assert_eq!(rest(&mut stream).await.unwrap(), expected);
    }
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("in a drop");
    }
}

#[tokio::test]
async fn panic_takes_down_its_own_connection_only() {
    let (sender, panics) = std::sync::mpsc::channel();
    let sender = Mutex::new(sender);
    let acceptor = local()
        .acceptors(4)
        .logger(move |error| sender.lock().unwrap().send(error.to_string()).unwrap())
        .handler(|mut stream, peer| {
            // The second and the third.
            assert!(stream.id() != 2, "in the closure");
            async move {
                match stream.id() {
                    3 => {
                        stream.read_u8().await?;
                        panic!("in the future");
                    }
                    4 => {
                        let _guard = PanicsOnDrop;
                        Ok(())
                    }
                    _ => echo(stream, peer).await,
                }
            }
        })
        .build()
        .unwrap();
    let mut first = served(&acceptor).await;
    for message in ["in the closure", "in the future", "in a drop"] {
        let mut stream = client(&acceptor).await;
        let peer = stream.local_addr().unwrap();
        stream.write_all(b"x").await.unwrap();
        // The end, or a reset as the byte lay unread.
        let _ = rest(&mut stream).await;
        figures(&acceptor, "it is gone", |stats| stats.busy == 1).await;
        assert_eq!(panics.try_recv().unwrap(), format!("the handler of {peer} panicked: {message}"));
        exchange(&mut first).await.unwrap();
    }
    // All acceptors are there still.
    let more = [served(&acceptor).await, served(&acceptor).await, served(&acceptor).await];
    let stats = acceptor.stats();
    assert_eq!((stats.busy, stats.panicked, stats.failed), (4, 3, 0));
    drop(more);
}

#[tokio::test]
async fn error_of_a_handler_is_told_with_the_connection_it_ended() {
    let (hook, mut events) = recorder();
    let acceptor = local()
        .on_event(hook)
        .handler(async |mut stream, _| {
            let mut bytes = [0; 3];
            stream.read_exact(&mut bytes).await?;
            stream.write_all(b"no").await?;
            Err(io::Error::new(io::ErrorKind::InvalidData, "not my protocol"))
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"abc").await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), "no");
    let address = stream.local_addr().unwrap();
    let told = event(&mut events, |event| match event {
        Event::Closed { reason: EndReason::Failed(error), peer, id, bytes_read, bytes_written, .. } => {
            Some((error.kind(), peer.addr(), *id, *bytes_read, *bytes_written))
        }
        _ => None,
    });
    assert_eq!(told.await, (io::ErrorKind::InvalidData, Some(address), 1, 3, 2));
    assert_eq!(figures(&acceptor, "it is gone", |stats| stats.busy == 0).await.failed, 1);
}

#[tokio::test]
async fn events_of_a_connection_come_in_order_and_a_panicking_hook_harms_nothing() {
    let count = Arc::new(AtomicUsize::new(0));
    let (errors, calls) = (Arc::clone(&count), Arc::clone(&count));
    let acceptor = local()
        .logger(move |error| {
            assert!(matches!(error, Error::HookPanicked { hook: "event", .. }), "{error}");
            errors.fetch_add(100, Ordering::SeqCst);
            panic!("the logger, too");
        })
        .on_event(move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            panic!("the hook");
        })
        .handler(echo)
        .build()
        .unwrap();
    drop(served(&acceptor).await);
    figures(&acceptor, "it is gone", |stats| stats.finished == 1 && stats.busy == 0).await;
    assert_eq!(count.load(Ordering::SeqCst), 202);
}

#[tokio::test]
async fn stream_in_another_task_keeps_its_acceptor() {
    let (sender, receiver) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let acceptor = local()
        .handler(move |stream, _| {
            let _ = sender.lock().unwrap().take().unwrap().send(stream);
            std::future::ready(Ok(()))
        })
        .build()
        .unwrap();
    let mut peer = client(&acceptor).await;
    let mut stream = in_time("the stream", receiver).await.unwrap();
    peer.write_all(b"x").await.unwrap();
    assert_eq!(in_time("a byte", stream.read_u8()).await.unwrap(), b'x');
    assert_eq!(acceptor.stats().busy, 1);
    drop(stream);
    assert_eq!(figures(&acceptor, "it is gone", |stats| stats.busy == 0).await.finished, 1);
}

#[tokio::test]
async fn connection_that_is_reset_before_it_is_accepted_harms_nobody() {
    let acceptor = local().handler(echo).build().unwrap();
    let mut first = served(&acceptor).await;
    for _ in 0..100 {
        crate::support::reset(client(&acceptor).await);
    }
    exchange(&mut first).await.unwrap();
    served(&acceptor).await;
    figures(&acceptor, "the resets are gone", |stats| stats.busy == 1 && stats.accepted >= 2).await;
}
