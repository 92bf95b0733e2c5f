//! How it ends: closed or dropped at any moment, by itself, with its runtime.

use std::future::pending;
use std::io::Read;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use perconn::dial_fn;
use perconn::postgres::{Error, Event, Listener, Message};
use tokio::net::TcpStream;

use crate::fake::Fake;
use crate::support::{HANG_LIMIT, in_time, refused_address};
use crate::world::{Diary, on_one_and_two_threads, quick, until};

/// Where the listener is when it is closed.
const MOMENTS: [&str; 7] = ["at once", "dialing", "waiting", "starting up", "listening", "asking", "connected"];

/// A listener at such a moment; and what must live as long as it.
async fn at(moment: &str, fake: &Fake, diary: &Diary) -> (Listener, Option<crate::fake::Talk>) {
    let builder = quick(fake.config()).on_event(diary.hook());
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
            let mut config = fake.config_without_host();
            let nobody = refused_address().await;
            config.host(nobody.ip().to_string()).port(nobody.port());
            let builder = quick(config).retry_min(slow).retry_max(slow).on_event(diary.hook());
            let listener = builder.build().unwrap();
            until("it waits", async || diary.count("attempt") == 1).await;
            (listener, None)
        }
        "starting up" => {
            let listener = builder.build().unwrap();
            let mut talk = fake.accept().await;
            talk.startup().await;
            (listener, Some(talk))
        }
        "listening" => {
            let listener = builder.build().unwrap();
            let mut talk = fake.welcome().await;
            let (listened, _) = tokio::join!(listener.listen("a"), talk.obey());
            listened.unwrap();
            drop(talk);
            let mut talk = fake.welcome().await;
            talk.query().await.unwrap();
            (listener, Some(talk))
        }
        "asking" => {
            let listener = builder.build().unwrap();
            let mut talk = fake.welcome().await;
            let handle = listener.handle();
            tokio::spawn(async move { handle.listen("a").await });
            talk.query().await.unwrap();
            (listener, Some(talk))
        }
        _ => {
            let listener = builder.build().unwrap();
            let talk = fake.welcome().await;
            until("connected", async || listener.is_connected()).await;
            (listener, Some(talk))
        }
    }
}

#[test]
fn close_is_prompt_at_any_moment() {
    on_one_and_two_threads(async || {
        for moment in MOMENTS {
            let (fake, diary) = (Fake::start().await, Diary::default());
            let (mut listener, talk) = at(moment, &fake, &diary).await;
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
            if let Some(mut talk) = talk {
                assert!(talk.is_over().await);
            }
            in_time(moment, listener.close()).await;
            until("the last event", async || diary.words().last().is_some_and(|word| word == "closed")).await;
            assert_eq!(diary.count("closed"), 1);
            assert!(fake.is_left_alone(Duration::from_millis(50)).await || moment == "at once", "{moment}");
        }
    });
}

#[test]
fn drop_ends_it_at_any_moment() {
    on_one_and_two_threads(async || {
        for moment in MOMENTS {
            let (fake, diary) = (Fake::start().await, Diary::default());
            let (listener, talk) = at(moment, &fake, &diary).await;
            let handle = listener.handle();
            drop(listener);
            assert!(matches!(handle.listen("a").await, Err(Error::Closed)), "{moment}");
            in_time(moment, handle.close()).await;
            if let Some(mut talk) = talk {
                assert!(talk.is_over().await);
            }
        }
    });
}

#[test]
fn server_is_told_goodbye_when_there_is_nothing_under_way() {
    on_one_and_two_threads(async || {
        let (fake, diary) = (Fake::start().await, Diary::default());
        let (listener, talk) = at("connected", &fake, &diary).await;
        in_time("close", listener.close()).await;
        assert_eq!(in_time("goodbye", talk.unwrap().message()).await, Some((b'X', vec![])));
    });
}

#[test]
fn stream_gives_its_error_once_and_ends() {
    on_one_and_two_threads(async || {
        let (fake, diary) = (Fake::start().await, Diary::default());
        let (mut listener, _talk) = at("connected", &fake, &diary).await;
        in_time("close", listener.close()).await;
        assert!(matches!(in_time("the error", listener.next()).await, Some(Err(Error::Closed))));
        assert!(in_time("the end", listener.next()).await.is_none());
        assert!(in_time("the end", listener.next()).await.is_none());
    });
}

#[tokio::test]
async fn loop_over_what_fails_at_once_leaves_time_to_others() {
    let address = refused_address().await;
    let mut config = tokio_postgres::Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("nobody");
    for is_closed in [false, true] {
        let mut listener = quick(config.clone()).build().unwrap();
        let handle = listener.handle();
        if is_closed {
            in_time("close", listener.close()).await;
        }
        let asking = tokio::spawn(async move {
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
        // On the only thread there is.
        tokio::time::sleep(Duration::from_millis(5)).await;
        for task in [asking, reading] {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
    }
}

#[test]
fn after_the_last_retry_what_was_received_is_handed_out_and_then_the_end() {
    on_one_and_two_threads(async || {
        let mut fake = Some(Fake::start().await);
        let diary = Diary::default();
        let server = fake.as_ref().unwrap();
        let builder = quick(server.config()).max_retries(2).on_event(diary.hook());
        let mut listener = builder.stable_after(Duration::from_secs(60)).build().unwrap();
        let talk = server.welcome().await;
        until("connected", async || listener.is_connected()).await;
        fake.take();
        drop(talk);
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
        assert_eq!(diary.words(), ["connected", "disconnected", "attempt", "attempt", "gave"]);
        in_time("close", listener.close()).await;
        assert!(matches!(listener.recv().await, Err(Error::Closed)));
    });
}

#[test]
fn hook_that_panics_does_no_harm() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let builder = quick(fake.config()).on_event(|_| panic!("an event")).logger(|_| panic!("an error"));
        let mut listener = builder.build().unwrap();
        for generation in 1..5 {
            // One attempt that fails, and one that does not.
            drop(fake.accept().await);
            let talk = fake.welcome().await;
            until("connected", async || listener.generation() == generation).await;
            drop(talk);
            if generation > 1 {
                assert!(matches!(in_time("the end of it", listener.recv()).await, Ok(Message::Resynced { .. })));
            }
            assert!(matches!(in_time("a loss", listener.recv()).await, Ok(Message::Lost { .. })));
        }
        in_time("close", listener.close()).await;
    });
}

#[test]
fn hook_that_blocks_does_not_keep_close_waiting() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let fake = Fake::start().await;
        let (release, released) = mpsc::channel::<()>();
        let (blocks, blocked) = mpsc::channel();
        let released = Mutex::new(released);
        let builder = quick(fake.config()).on_event(move |_| {
            let _ = blocks.send(());
            let _ = released.lock().unwrap().recv();
        });
        let listener = builder.build().unwrap();
        let _talk = fake.welcome().await;
        // A blocked worker may be the one that has the timers: no time limit of the runtime's would run out.
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
fn socket_is_closed_when_close_is_ready_whatever_the_hook_does_then() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let fake = Fake::start().await;
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let builder = quick(fake.config()).on_event(move |event| {
            if matches!(event, Event::Closed) {
                let _ = released.lock().unwrap().recv();
            }
        });
        let listener = builder.build().unwrap();
        let talk = fake.welcome().await;
        until("connected", async || listener.is_connected()).await;
        listener.close().await;
        // (Not by the runtime: the hook may have blocked the worker that looks after the sockets.)
        let mut peer = talk.0.into_std().unwrap();
        peer.set_nonblocking(false).unwrap();
        peer.set_read_timeout(Some(HANG_LIMIT)).unwrap();
        let mut goodbye = Vec::new();
        peer.read_to_end(&mut goodbye).expect("the socket is closed");
        drop(release);
    });
}

#[test]
fn runtime_that_shuts_down_takes_it_along_and_says_so() {
    for threads in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
        let (mut listener, _talk) = runtime.block_on(async {
            let fake = Fake::start().await;
            let listener = quick(fake.config()).build().unwrap();
            let talk = fake.welcome().await;
            until("connected", async || listener.is_connected()).await;
            (listener, talk)
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
