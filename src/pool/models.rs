//! Models of a pool: its callers on threads of their own, in every order of their steps.
//!
//! They use the public API. The connections are of a type of their own, and each model counts them.
//!
//! Next: [`crate::sync::modelled`], which says how a model is played.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::state::{IdleResource, PoolInner};
use super::{GetError, Guard, Pool, PoolBuilder, Resource};
use crate::sync::modelled::{AtomicBool, Mutex, check, check_up_to, thread, wait};

/// An open connection.
struct Connection(Arc<Counts>);

/// What a model counts. It is no step of the model.
#[derive(Default)]
struct Counts {
    /// Connections that are open.
    open: AtomicUsize,
    /// Connections that were opened.
    opened: AtomicUsize,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A pool of one slot, and what is counted of it.
struct Model {
    pool: Pool,
    counts: Arc<Counts>,
}

impl Model {
    /// A pool without connections.
    fn new() -> Self {
        Self { pool: settings().build().unwrap(), counts: Arc::default() }
    }

    /// A resource whose dials end at once.
    fn resource(&self, name: &str) -> Resource<Connection> {
        let counts = Arc::clone(&self.counts);
        self.pool.resource_fn(name, move || std::future::ready(Ok(Connection::open(&counts))))
    }

    /// How many connections were opened.
    fn opened(&self) -> usize {
        self.counts.opened.load(Ordering::Relaxed)
    }

    /// How many of them are open.
    fn open(&self) -> usize {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// Asserts that all callers have gone and left nothing behind.
    fn check_at_rest(&self) {
        let stats = self.pool.stats();
        assert_eq!((stats.in_use, stats.releasing, stats.waiting), (0, 0, 0), "{stats:?}");
        assert_eq!(stats.idle, self.open(), "{stats:?}");
    }
}

impl Connection {
    fn open(counts: &Arc<Counts>) -> Self {
        counts.opened.fetch_add(1, Ordering::Relaxed);
        let before = counts.open.fetch_add(1, Ordering::Relaxed);
        assert_eq!(before, 0, "two connections in one slot");
        Self(Arc::clone(counts))
    }
}

/// A pool of one slot without limits: nothing drives a timer here.
fn settings() -> PoolBuilder {
    Pool::builder(1).dial_timeout(None).check_idle_every(None)
}

/// Gets a connection, and waits for it if need be.
fn get(resource: &Resource<Connection>) -> Result<Guard<Connection>, GetError> {
    wait(Box::pin(resource.get()))
}

/// Runs a caller on a thread of its own.
fn spawn<R: 'static>(
    resource: &Resource<Connection>,
    caller: impl FnOnce(&Resource<Connection>) -> R + 'static,
) -> thread::JoinHandle<R> {
    let resource = resource.clone();
    thread::spawn(move || caller(&resource))
}

/// Runs a caller that gets a connection and gives it back. Returns whether it was open before.
fn spawn_get(resource: &Resource<Connection>) -> thread::JoinHandle<Result<bool, GetError>> {
    spawn(resource, |resource| get(resource).map(|guard| guard.is_reused()))
}

/// Runs a caller that asks for a connection and does not wait.
fn spawn_leaving(resource: &Resource<Connection>) -> thread::JoinHandle<()> {
    spawn(resource, |resource| {
        poll_once(&mut (Box::pin(resource.get()) as Get<'_>));
    })
}

/// A caller's call.
type Get<'a> = Pin<Box<dyn Future<Output = Result<Guard<Connection>, GetError>> + 'a>>;

/// Polls a call once. Returns whether it is done. Its waker wakes nobody any more after that.
fn poll_once(get: &mut Get<'_>) -> bool {
    wait(poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx).is_ready())))
}

// ===== a caller that leaves =====

/// Two callers wait for the one slot. One is dropped, perhaps when it was granted the slot: the other one gets it.
#[test]
fn slot_of_a_caller_that_leaves_goes_to_the_next() {
    check_up_to(3, || {
        let model = Model::new();
        let (held, left, wanted) = (model.resource("held"), model.resource("left"), model.resource("wanted"));
        let guard = get(&held).unwrap();
        let leaves = spawn_leaving(&left);
        let waits = spawn_get(&wanted);
        drop(guard);
        leaves.join().unwrap();
        assert!(!waits.join().unwrap().unwrap());
        model.check_at_rest();
    });
}

/// The same for the connection of one resource, for which both wait.
#[test]
fn connection_of_a_caller_that_leaves_goes_to_the_next() {
    check_up_to(3, || {
        let model = Model::new();
        let resource = model.resource("a");
        let guard = get(&resource).unwrap();
        let leaves = spawn_leaving(&resource);
        let waits = spawn_get(&resource);
        drop(guard);
        leaves.join().unwrap();
        assert!(waits.join().unwrap().unwrap());
        model.check_at_rest();
        assert_eq!(model.opened(), 1);
    });
}

/// A caller is polled by another task, with another waker, while its turn comes.
#[test]
fn caller_that_moves_to_another_task_is_woken_there() {
    check(|| {
        let model = Model::new();
        let resource = model.resource("a");
        let guard = get(&resource).unwrap();
        let moves = spawn(&resource, |resource| {
            let mut get: Get<'_> = Box::pin(resource.get());
            if !poll_once(&mut get) {
                assert!(wait(get).unwrap().is_reused());
            }
        });
        drop(guard);
        moves.join().unwrap();
        model.check_at_rest();
        assert_eq!(model.opened(), 1);
    });
}

// ===== a connection that comes back =====

/// A newcomer asks for the connection while it is given back.
#[test]
fn newcomer_gets_the_connection_that_is_given_back() {
    check(|| {
        let model = Model::new();
        let resource = model.resource("a");
        let guard = get(&resource).unwrap();
        let newcomer = spawn_get(&resource);
        drop(guard);
        assert!(newcomer.join().unwrap().unwrap());
        model.check_at_rest();
        assert_eq!((model.opened(), model.open()), (1, 1));
    });
}

/// A newcomer asks for another resource, and so for the slot.
#[test]
fn newcomer_gets_the_slot_of_the_connection_that_is_given_back() {
    check(|| {
        let model = Model::new();
        let (held, wanted) = (model.resource("held"), model.resource("wanted"));
        let guard = get(&held).unwrap();
        let newcomer = spawn_get(&wanted);
        drop(guard);
        assert!(!newcomer.join().unwrap().unwrap());
        model.check_at_rest();
        assert_eq!((model.opened(), model.open()), (2, 1));
    });
}

/// A newcomer asks for an idle connection while it is checked in the background.
#[test]
fn newcomer_gets_the_connection_that_is_checked() {
    check(|| {
        let model = Model::new();
        let resource = model.resource("a");
        drop(get(&resource).unwrap());
        let checks = spawn(&resource, |resource| Arc::clone(resource.inner()).check_idle(true));
        assert!(get(&resource).unwrap().is_reused());
        checks.join().unwrap();
        model.check_at_rest();
        assert_eq!((model.opened(), model.open()), (1, 1));
    });
}

/// A caller needs the slot of an idle connection, for which another caller asks.
#[test]
fn caller_of_a_connection_that_makes_room_waits_for_its_close() {
    check(|| {
        let model = Model::new();
        let (idle, wanted) = (model.resource("idle"), model.resource("wanted"));
        drop(get(&idle).unwrap());
        let makes_room = spawn_get(&wanted);
        drop(get(&idle).unwrap());
        makes_room.join().unwrap().unwrap();
        model.check_at_rest();
    });
}

/// A close is scheduled while a caller gets the connection and gives it back. It is closed exactly once.
#[test]
fn scheduled_close_reaches_the_connection_wherever_it_is() {
    check(|| {
        let model = Model::new();
        let resource = model.resource("a");
        drop(get(&resource).unwrap());
        let schedules = spawn(&resource, Resource::schedule_close);
        drop(get(&resource).unwrap());
        schedules.join().unwrap();
        drop(get(&resource).unwrap());
        model.check_at_rest();
        assert_eq!(model.opened(), 2);
    });
}

/// The last handle of a resource is dropped while its connection is given back.
#[test]
fn connection_of_a_dropped_resource_is_closed() {
    check(|| {
        let model = Model::new();
        let resource = model.resource("a");
        let guard = get(&resource).unwrap();
        let gives_back = thread::spawn(move || drop(guard));
        drop(resource);
        gives_back.join().unwrap();
        model.check_at_rest();
        assert_eq!(model.open(), 0);
    });
}

/// A dial fails while another caller asks for the same resource. That one gets the same error, or dials as well.
#[test]
fn failed_dial_leaves_entry_and_dialer_to_the_next() {
    check(|| {
        let model = Model::new();
        let mut settings = settings();
        // The next dial follows at once.
        (settings.retry_min, settings.retry_max) = (Duration::ZERO, Duration::ZERO);
        let model = Model { pool: Pool { inner: PoolInner::new(settings) }, ..model };
        let failed = || std::future::ready(Err::<Connection, _>(io::ErrorKind::ConnectionRefused.into()));
        let resource = model.pool.resource_fn("a", failed);
        let other = spawn_get(&resource);
        for got in [get(&resource).map(|guard| guard.is_reused()), other.join().unwrap()] {
            assert!(matches!(got, Err(GetError::Dial { .. })), "{got:?}");
        }
        model.check_at_rest();
    });
}

/// A caller leaves its dial, for which another caller waits, and which ends meanwhile. There is one dial, and the other
/// caller gets its connection.
#[test]
fn dial_of_a_caller_that_leaves_serves_the_next() {
    check_up_to(2, || {
        let model = Model::new();
        let (dial, begun) = (Arc::new(Dial::default()), Arc::new(AtomicUsize::new(0)));
        let resource = {
            let (dial, begun, counts) = (Arc::clone(&dial), Arc::clone(&begun), Arc::clone(&model.counts));
            model.pool.resource_fn("a", move || {
                begun.fetch_add(1, Ordering::Relaxed);
                let (dial, counts) = (Arc::clone(&dial), Arc::clone(&counts));
                async move {
                    dial.ended().await;
                    Ok(Connection::open(&counts))
                }
            })
        };
        let mut dials: Get<'_> = Box::pin(resource.get());
        assert!(!poll_once(&mut dials));
        let waits = spawn_get(&resource);
        drop(dials);
        dial.end();
        waits.join().unwrap().unwrap();
        model.check_at_rest();
        assert_eq!((begun.load(Ordering::Relaxed), model.opened(), model.open()), (1, 1, 1));
    });
}

// ===== the close of the pool =====

/// The pool is closed while one caller waits for the connection and another one for the slot. Nothing is given back.
#[test]
fn close_fails_every_waiter() {
    check_up_to(3, || {
        let model = Model::new();
        let (held, wanted) = (model.resource("held"), model.resource("wanted"));
        let guard = get(&held).unwrap();
        let waiters = [&held, &wanted].map(spawn_get);
        model.pool.close();
        for waiter in waiters {
            let got = waiter.join().unwrap();
            assert!(matches!(got, Err(GetError::Closed)), "{got:?}");
        }
        drop(guard);
        model.check_at_rest();
        assert_eq!(model.open(), 0);
    });
}

/// The pool is closed while a connection is given back, for which another caller waits.
#[test]
fn close_leaves_no_connection_open() {
    check_up_to(3, || {
        let model = Model::new();
        let resource = model.resource("a");
        let guard = get(&resource).unwrap();
        let waiter = spawn_get(&resource);
        let gives_back = thread::spawn(move || drop(guard));
        model.pool.close();
        gives_back.join().unwrap();
        let got = waiter.join().unwrap();
        assert!(matches!(got, Ok(true) | Err(GetError::Closed)), "{got:?}");
        model.check_at_rest();
        assert_eq!(model.open(), 0);
    });
}

/// A dial that does not end is ended by the close of the pool, whenever it began.
#[test]
fn close_ends_a_dial() {
    check(|| {
        let model = Model::new();
        let resource = model.pool.resource_fn("a", std::future::pending::<io::Result<Connection>>);
        let dials = spawn_get(&resource);
        model.pool.close();
        let got = dials.join().unwrap();
        assert!(matches!(got, Err(GetError::Closed)), "{got:?}");
        model.check_at_rest();
    });
}

/// A dial ends just after the pool was closed. Its connection is not lent.
#[test]
fn dial_that_ends_after_the_close_lends_nothing() {
    check(|| {
        let model = Model::new();
        let dial = Arc::new(Dial::default());
        let resource = {
            let (dial, counts) = (Arc::clone(&dial), Arc::clone(&model.counts));
            model.pool.resource_fn("a", move || {
                let (dial, counts) = (Arc::clone(&dial), Arc::clone(&counts));
                async move {
                    dial.ended().await;
                    Ok(Connection::open(&counts))
                }
            })
        };
        let dials = spawn_get(&resource);
        model.pool.close();
        dial.end();
        let got = dials.join().unwrap();
        assert!(matches!(got, Err(GetError::Closed)), "{got:?}");
        model.check_at_rest();
        assert_eq!(model.open(), 0);
    });
}

/// A dial that the model ends.
#[derive(Default)]
struct Dial {
    has_ended: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Dial {
    /// Waits for the end.
    async fn ended(&self) {
        poll_fn(|cx| {
            let _replaced = self.waker.lock().replace(cx.waker().clone());
            if self.has_ended.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Ends it.
    fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        let waker = self.waker.lock().take();
        waker.into_iter().for_each(Waker::wake);
    }
}
