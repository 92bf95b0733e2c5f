//! Wakers and errors of the program that panic, or that use the listener while they are dropped.
//!
//! Next: `custom_streams`, for streams of the program that do.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Wake, Waker};

use perconn::dial_fn;
use perconn::postgres::{Error, ListenerHandle};
use tokio::net::TcpStream;
use tokio_test::task::spawn;

use crate::helpers::{EventLog, on_one_and_two_threads, quick, until};
use crate::scripted_server::ScriptedServer;
use crate::support::{HANG_LIMIT, in_time};

/// A waker that panics without a message on the terminal.
fn panicking_waker() -> Waker {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            resume_unwind(Box::new("a waker"));
        }
    }

    Waker::from(Arc::new(Panics))
}

/// Takes the lock of a listener when it is dropped, as any method of a handle does.
struct AsksOnDrop(Arc<OnceLock<ListenerHandle>>);

impl AsksOnDrop {
    fn new(handle: ListenerHandle) -> Self {
        Self(Arc::new(OnceLock::from(handle)))
    }

    fn waker(handle: ListenerHandle) -> Waker {
        Waker::from(Arc::new(Self::new(handle)))
    }
}

impl Drop for AsksOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = self.0.get() {
            let _ = handle.is_connected();
        }
    }
}

impl Wake for AsksOnDrop {
    fn wake(self: Arc<Self>) {}
}

impl fmt::Debug for AsksOnDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsksOnDrop")
    }
}

impl fmt::Display for AsksOnDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the dialer's own error")
    }
}

impl StdError for AsksOnDrop {}

/// Runs a test that blocks its thread if it fails.
fn must_not_block(test: impl Future<Output = ()> + Send + 'static) {
    let (sender, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
        sender.send(()).unwrap();
    });
    match is_done.recv_timeout(HANG_LIMIT) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the thread is blocked"),
        _ => thread.join().unwrap(),
    }
}

#[test]
fn panic_of_a_waker_in_close_keeps_neither_the_task_nor_another_close() {
    on_one_and_two_threads(async || {
        let (scripted, event_log) = (ScriptedServer::start().await, EventLog::default());
        let listener = quick(scripted.config()).on_event(event_log.hook()).build().unwrap();
        let _peer = scripted.accept_login().await;
        until("up", async || listener.is_connected()).await;
        let handles = [(); 3].map(|()| listener.handle());
        let mut panics = Box::pin(listener.close());
        let is_closed = panics.as_mut().poll(&mut Context::from_waker(&panicking_waker())).is_ready();
        let others = handles.map(|handle| tokio::spawn(async move { handle.close().await }));
        for other in others {
            in_time("another close", other).await.unwrap();
        }
        if !is_closed {
            in_time("the close itself", panics).await;
        }
        until("closed is reported", async || event_log.count("closed") == 1).await;
    });
}

#[test]
fn panics_of_the_wakers_of_waiting_calls_do_not_keep_the_end_from_the_others() {
    on_one_and_two_threads(async || {
        let scripted = ScriptedServer::start().await;
        let dialer = dial_fn(std::future::pending::<io::Result<TcpStream>>);
        let listener = quick(scripted.config_without_host()).dialer(dialer).build().unwrap();
        let handle = listener.handle();
        let channels: Vec<_> = (0..40).map(|number| format!("channel {number}")).collect();
        let mut panic = Vec::new();
        let mut others = Vec::new();
        for (number, channel) in channels.iter().enumerate() {
            if number % 2 == 0 {
                let mut call = Box::pin(handle.listen(channel));
                assert!(call.as_mut().poll(&mut Context::from_waker(&panicking_waker())).is_pending());
                panic.push(call);
            } else {
                let mut call = spawn(handle.listen(channel));
                assert!(call.poll().is_pending());
                others.push(call);
            }
        }
        in_time("close", listener.close()).await;
        for mut call in others {
            assert!(call.is_woken());
            assert!(matches!(in_time("a call", &mut call).await, Err(Error::Closed)));
        }
    });
}

#[test]
fn error_of_a_dialer_is_dropped_without_the_lock() {
    must_not_block(async {
        let scripted = ScriptedServer::start().await;
        let (sender, mut dials) = tokio::sync::mpsc::unbounded_channel();
        let handle = Arc::new(OnceLock::new());
        let dialer = dial_fn({
            let handle = Arc::clone(&handle);
            move || {
                sender.send(()).unwrap();
                let error = io::Error::other(AsksOnDrop(Arc::clone(&handle)));
                async { Err::<TcpStream, _>(error) }
            }
        });
        let listener = quick(scripted.config_without_host()).dialer(dialer).build().unwrap();
        assert!(handle.set(listener.handle()).is_ok());
        for _ in 0..20 {
            in_time("a dial", dials.recv()).await.unwrap();
        }
        in_time("close", listener.close()).await;
    });
}

#[test]
fn waker_of_the_reader_is_dropped_without_the_lock() {
    must_not_block(async {
        let scripted = ScriptedServer::start().await;
        let mut listener = quick(scripted.config()).build().unwrap();
        let waker = AsksOnDrop::waker(listener.handle());
        {
            let mut receives = pin!(listener.recv());
            assert!(receives.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            assert!(receives.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        in_time("close", listener.close()).await;
    });
}
