//! Panics of the program's own code that a pool calls.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use perconn::pool::{Pool, Resource};
use perconn::{Dial, Error};
use tokio::io::DuplexStream;
use tokio::sync::Notify;
use tokio_test::task::spawn;

use crate::fixtures::assert_all_given_back;
use crate::support::in_time;

/// Panics without a message on the terminal.
fn quiet_panic(text: &'static str) -> ! {
    resume_unwind(Box::new(text))
}

fn number(pool: &Pool, name: &str) -> Resource<u8> {
    pool.resource_fn(name, || std::future::ready(Ok(1)))
}

/// A value that counts how many of its kind are open.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A dial that opens a connection, and panics when it is dropped.
struct PanickingDrop(Option<Counted>);

impl Future for PanickingDrop {
    type Output = io::Result<Counted>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(self.0.take().unwrap()))
    }
}

impl Drop for PanickingDrop {
    fn drop(&mut self) {
        quiet_panic("the drop of a dial");
    }
}

#[tokio::test]
async fn connection_of_a_dial_whose_drop_panics_is_closed() {
    for limit in [None, Some(Duration::from_secs(3600))] {
        let open = Arc::new(AtomicUsize::new(0));
        let pool = Pool::builder(1).dial_timeout(limit).build().unwrap();
        let resource = pool.resource_fn("a panicking drop", {
            let open = Arc::clone(&open);
            move || PanickingDrop(Some(Counted::new(&open)))
        });
        let error = in_time("get", resource.get()).await.map(drop).unwrap_err();
        let text = error.with_causes().to_string();
        assert!(text.ends_with("the dialer panicked: the drop of a dial"), "{text}");
        assert_all_given_back(&pool);
        assert_eq!((open.load(SeqCst), pool.stats().idle), (0, 0));
    }
}

/// A dialer that panics.
struct PanickingDialer;

impl Dial for PanickingDialer {
    type Stream = DuplexStream;

    async fn dial(&mut self) -> io::Result<DuplexStream> {
        quiet_panic("in a dialer")
    }
}

/// Whatever panics in a dial: its caller gets the error of a failed dial.
#[tokio::test]
async fn panic_of_a_dial_is_the_error_of_its_caller() {
    let pool = Pool::new(3).unwrap();
    let in_call = pool.resource_fn("call", || -> std::future::Ready<io::Result<u8>> { quiet_panic("in the closure") });
    let in_future = pool.resource_fn("future", || async { quiet_panic("in the future") });
    let own = pool.resource_with("own", PanickingDialer).unwrap();
    let texts = [
        in_call.get().await.map(drop).unwrap_err(),
        in_future.get().await.map(|guard: perconn::pool::Guard<u8>| drop(guard)).unwrap_err(),
        own.get().await.map(drop).unwrap_err(),
        own.get_with(&mut PanickingDialer).await.map(drop).unwrap_err(),
    ]
    .map(|error| error.with_causes().to_string());
    for (text, expected) in texts.iter().zip(["in the closure", "in the future", "in a dialer", "in a dialer"]) {
        assert!(text.ends_with(&format!("the dialer panicked: {expected}")), "{text}");
    }
    assert_eq!(pool.stats().dials_failed, 4);
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn panic_of_a_waker_does_not_stop_the_close_of_the_pool() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            quiet_panic("a waker");
        }
    }
    let pool = Pool::builder(3).dial_timeout(None).build().unwrap();
    let idle = number(&pool, "idle");
    drop(idle.get().await.unwrap());
    let [hung, other] = ["hung", "another"].map(|name| pool.resource_fn::<_, _, u8>(name, std::future::pending));
    let mut dials = Box::pin(hung.get());
    assert!(dials.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Panics)))).is_pending());
    let mut dials_too = spawn(other.get());
    assert!(dials_too.poll().is_pending());
    pool.close();
    assert_eq!(pool.stats().idle, 0);
    assert!(dials_too.is_woken());
    assert!(dials_too.poll().is_ready());
    assert!(in_time("the dial", dials).await.is_err());
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn panic_of_the_drop_of_a_dialer_does_not_reach_the_caller_that_evicts() {
    /// A connection that drops the last handle of its own resource.
    struct Last(Arc<Mutex<Option<Resource<Self>>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let handle = self.0.lock().unwrap().take();
            drop(handle);
        }
    }
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            quiet_panic("the drop of a dialer");
        }
    }
    let pool = Pool::new(1).unwrap();
    let (handle, bomb) = (Arc::new(Mutex::new(None)), Bomb);
    let resource = pool.resource_fn("a bomb", {
        let handle = Arc::clone(&handle);
        move || {
            let _held_by_the_closure = &bomb;
            std::future::ready(Ok(Last(Arc::clone(&handle))))
        }
    });
    drop(resource.get().await.unwrap());
    *handle.lock().unwrap() = Some(resource);
    let other = number(&pool, "other");
    drop(other.get().await.unwrap());
    assert!(handle.lock().unwrap().is_none(), "the eviction has dropped the connection");
    assert_eq!((pool.stats().evicted, pool.stats().idle), (1, 1));
    assert_all_given_back(&pool);
}

/// The logger panics on a line that contains this.
const UNLOGGABLE: &str = "unloggable";

/// The lines on which the logger panicked.
static LOGGED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Notified at each such line: they are logged on a thread of their own.
static LINE_LOGGED: Notify = Notify::const_new();

struct PanickingLogger;

impl log::Log for PanickingLogger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        if line.contains(UNLOGGABLE) {
            LOGGED.lock().unwrap().insert(line);
            LINE_LOGGED.notify_one();
            quiet_panic("the logger");
        }
    }

    fn flush(&self) {}
}

/// A pool has no logger of its own. The warning of a dialer goes where a panic of its hook goes.
struct WarningDialer;

impl Dial for WarningDialer {
    type Stream = DuplexStream;

    async fn dial(&mut self) -> io::Result<DuplexStream> {
        Ok(tokio::io::duplex(1).0)
    }

    fn take_warning(&mut self) -> Option<Error> {
        Some(Error::InvalidConfig(UNLOGGABLE.to_owned()))
    }
}

#[tokio::test]
async fn panic_of_the_logger_costs_no_slot() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            quiet_panic(UNLOGGABLE);
        }
    }
    log::set_logger(&PanickingLogger).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let pool = Pool::builder(1).on_event(|_| quiet_panic(UNLOGGABLE)).build().unwrap();
    let bomb = pool.resource_fn("a bomb", || std::future::ready(Ok(Bomb)));
    let other = number(&pool, "other");
    let warning = pool.resource_with("a warning", WarningDialer).unwrap();
    let used = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..2 {
            drop(spawn(bomb.get()).poll());
            drop(spawn(other.get()).poll());
        }
        drop(spawn(warning.get()).poll());
    }));
    assert!(used.is_ok(), "the panic of the logger reaches a caller");
    assert_eq!(pool.stats().opened, 5);
    assert_all_given_back(&pool);
    let expected = [
        "a bomb: the connection panicked when it was dropped: unloggable",
        "a warning: invalid configuration: unloggable",
        "the event hook of a pool panicked: unloggable",
    ];
    let expected = expected.map(String::from).into();
    let wait = async {
        while *LOGGED.lock().unwrap() != expected {
            LINE_LOGGED.notified().await;
        }
    };
    in_time("the lines", wait).await;
}
