//! The program's own code that a pool calls, and what it may do: panic.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use perconn::pool::{Pool, Resource};
use tokio_test::task::spawn;

use crate::support::in_time;
use crate::world::nobody_has_anything;

/// A panic that prints nothing.
fn quiet_panic(text: &'static str) -> ! {
    resume_unwind(Box::new(text))
}

fn number(pool: &Pool, name: &str) -> Resource<u8> {
    pool.resource_fn(name, || std::future::ready(Ok(1)))
}

/// Counts what is open.
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

/// A dial that gives its connection, and panics when it is dropped.
struct BadEnd(Option<Counted>);

impl Future for BadEnd {
    type Output = io::Result<Counted>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(self.0.take().unwrap()))
    }
}

impl Drop for BadEnd {
    fn drop(&mut self) {
        quiet_panic("the end of a dial");
    }
}

#[tokio::test]
async fn connection_of_a_dial_whose_end_panics_is_closed() {
    for limit in [None, Some(Duration::from_secs(3600))] {
        let open = Arc::new(AtomicUsize::new(0));
        let pool = Pool::builder(1).dial_timeout(limit).build().unwrap();
        let resource = pool.resource_fn("a bad end", {
            let open = Arc::clone(&open);
            move || BadEnd(Some(Counted::new(&open)))
        });
        let user = tokio::spawn(async move { resource.get().await.map(drop) });
        assert!(in_time("the panic", user).await.unwrap_err().is_panic());
        nobody_has_anything(&pool);
        assert_eq!((open.load(SeqCst), pool.stats().idle), (0, 0));
    }
}

#[tokio::test]
async fn closed_pool_is_closed_though_a_waker_panics() {
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
    nobody_has_anything(&pool);
}

/// Panics when it is to log what speaks of this.
const UNLOGGABLE: &str = "unloggable";

struct BadLogger;

impl log::Log for BadLogger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains(UNLOGGABLE) {
            quiet_panic("the logger");
        }
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn logger_that_panics_costs_no_slot() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            quiet_panic(UNLOGGABLE);
        }
    }
    log::set_logger(&BadLogger).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let pool = Pool::builder(1).on_event(|_| quiet_panic(UNLOGGABLE)).build().unwrap();
    let bomb = pool.resource_fn("a bomb", || std::future::ready(Ok(Bomb)));
    let other = number(&pool, "other");
    let used = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..2 {
            drop(spawn(bomb.get()).poll());
            drop(spawn(other.get()).poll());
        }
    }));
    assert!(used.is_ok(), "the logger's panic concerns no user");
    assert_eq!(pool.stats().opened, 4);
    nobody_has_anything(&pool);
}
