//! Release actions, and connections that leave the pool.

use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::pool::{CloseReason, Event, GetError, Pool, PoolBuilder, Resource};
use tokio::sync::{Semaphore, mpsc};
use tokio_test::task::spawn;

use crate::fixtures::{CloseReasons, EchoServer, assert_all_given_back};
use crate::support::in_time;

const MS: Duration = Duration::from_millis(1);

/// Panics without a message on the terminal.
fn quiet_panic() -> ! {
    resume_unwind(Box::new("on purpose"))
}

fn number(pool: &Pool, name: &str) -> Resource<u8> {
    pool.resource_fn(name, || std::future::ready(Ok(1)))
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// A resource that notes when it is opened and when it is released.
    fn resource(&self, pool: &Pool, name: &'static str) -> Resource<u8> {
        let (opens, releases) = (self.clone(), self.clone());
        let resource = pool.resource_fn(name, move || {
            opens.note(format!("open {name}"));
            std::future::ready(Ok(1))
        });
        resource.release(move |_| {
            let releases = releases.clone();
            async move {
                releases.note(format!("release {name}"));
                tokio::task::yield_now().await;
                releases.note(format!("released {name}"));
                Ok(())
            }
        })
    }
}

/// Yields until no connection is being released.
async fn released(pool: &Pool) {
    let wait = async {
        while pool.stats().releasing > 0 {
            tokio::task::yield_now().await;
        }
    };
    in_time("the release", wait).await;
}

#[tokio::test]
async fn connection_is_released_before_its_slot_is_used_again() {
    let (pool, journal) = (Pool::new(1).unwrap(), Journal::default());
    let (a, b) = (journal.resource(&pool, "a"), journal.resource(&pool, "b"));
    drop(a.get().await.unwrap());
    // It needs the slot.
    drop(in_time("b", b.get()).await.unwrap());
    assert_eq!(journal.take(), ["open a", "release a", "released a", "open b"]);
    // The same resource.
    in_time("b", b.get()).await.unwrap().close();
    drop(in_time("b", b.get()).await.unwrap());
    assert_eq!(journal.take(), ["release b", "released b", "open b"]);
    // A slot without a connection.
    drop(in_time("a slot", pool.slot()).await.unwrap());
    assert_eq!(journal.take(), ["release b", "released b"]);
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn every_close_runs_the_release_action() {
    let journal = Journal::default();
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(4));
    let open = async |name| {
        let resource = journal.resource(&pool, name);
        drop(resource.get().await.unwrap());
        resource
    };
    let scheduled = open("scheduled").await;
    scheduled.schedule_close();
    released(&pool).await;
    let in_use = open("in use").await;
    let conn = in_use.get().await.unwrap();
    in_use.schedule_close();
    drop(conn);
    released(&pool).await;
    drop(open("dropped").await);
    released(&pool).await;
    let idle = open("idle").await;
    pool.close_idle();
    released(&pool).await;
    let dead = journal.resource(&pool, "dead").check(|_| false);
    drop(dead.get().await.unwrap());
    drop(in_time("dead", dead.get()).await.unwrap());
    pool.close();
    released(&pool).await;
    let notes = journal.take();
    let count = |what: &str| notes.iter().filter(|note| note.starts_with(what)).count();
    assert_eq!((count("open "), count("release "), count("released ")), (6, 6, 6), "{notes:?}");
    use CloseReason::*;
    assert_eq!(reasons.list(), [Scheduled, Scheduled, Gone, Requested, Dead, Gone]);
    assert_all_given_back(&pool);
    drop((scheduled, in_use, idle));
}

#[tokio::test(start_paused = true)]
async fn release_that_fails_panics_or_hangs_is_counted_and_costs_no_slot() {
    let (sender, mut events) = mpsc::unbounded_channel();
    let hook = move |event: &Event| {
        if let Event::ReleaseFailed { .. } = event {
            sender.send(event.to_string()).unwrap();
        }
    };
    let pool = Pool::builder(1).on_event(hook).build().unwrap();
    let calls = AtomicUsize::new(0);
    let resource = number(&pool, "bad").release(move |_| {
        let call = calls.fetch_add(1, SeqCst);
        async move {
            match call {
                0 => Err(io::Error::other("refused")),
                1 => quiet_panic(),
                _ => std::future::pending().await,
            }
        }
    });
    for text in ["refused", "release panicked: on purpose", "it took longer than 5s"] {
        resource.get().await.unwrap().close();
        assert_eq!(events.recv().await.unwrap(), format!("bad: release failed: {text}"));
        released(&pool).await;
        assert_all_given_back(&pool);
    }
    assert_eq!((pool.stats().opened, pool.stats().releases_failed), (3, 3));
    drop(pool.try_slot().unwrap());
}

/// A resource whose releases wait for the test.
fn gated(pool: &Pool, name: &str) -> (Resource<u8>, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let gates = Arc::clone(&gate);
    let resource = number(pool, name).release(move |_| {
        let gate = Arc::clone(&gates);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    (resource, gate)
}

#[tokio::test]
async fn caller_that_leaves_during_a_release_leaves_the_slot_to_the_next_and_not_before_its_end() {
    let pool = Pool::new(1).unwrap();
    let (resource, gate) = gated(&pool, "gated");
    let others = ["b", "c"].map(|name| number(&pool, name));
    drop(resource.get().await.unwrap());
    let mut leaves = spawn(others[0].get());
    assert!(leaves.poll().is_pending());
    let mut waits = spawn(others[1].get());
    assert!(waits.poll().is_pending());
    let mut same = spawn(resource.get());
    assert!(same.poll().is_pending());
    drop(leaves);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!waits.is_woken() && !same.is_woken());
    assert!(matches!(pool.try_slot(), Err(GetError::Busy { .. })));
    gate.add_permits(1);
    drop(in_time("the next", waits).await.unwrap());
    let conn = in_time("the same", same).await.unwrap();
    assert!(!conn.is_reused());
    drop(conn);
    gate.add_permits(1);
    pool.close_idle();
    released(&pool).await;
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn slot_without_a_wait_is_busy_while_a_connection_is_released() {
    let pool = Pool::new(1).unwrap();
    let (resource, gate) = gated(&pool, "gated");
    drop(resource.get().await.unwrap());
    for _ in 0..2 {
        assert!(matches!(pool.try_slot(), Err(GetError::Busy { .. })));
    }
    gate.add_permits(1);
    drop(in_time("a slot", pool.slot()).await.unwrap());
    drop(pool.try_slot().unwrap());
    assert_all_given_back(&pool);
}

#[test]
fn release_of_a_runtime_that_ends_frees_its_slot() {
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let (resource, _gate) = gated(&pool, "gated");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // It ends while the action runs, before the action has begun, and before the close.
    for closes in 0..3 {
        let first = runtime();
        let conn = first.block_on(resource.get()).unwrap();
        match closes {
            0 => first.block_on(async {
                conn.close();
                tokio::task::yield_now().await;
                assert_eq!(pool.stats().releasing, 1);
            }),
            1 => conn.close(),
            _ => {
                drop(first);
                conn.close();
                assert_all_given_back(&pool);
                continue;
            }
        }
        assert_eq!(pool.stats().releasing, 1);
        drop(first);
        assert_all_given_back(&pool);
    }
    assert_eq!(reasons.list(), [CloseReason::Requested; 3]);
    drop(pool.try_slot().unwrap());
}

// ===== a connection that leaves the pool =====

#[tokio::test]
async fn detached_connection_stays_open_and_its_slot_is_free() {
    let server = EchoServer::start().await;
    let reasons = CloseReasons::default();
    let pool: Pool = reasons.watch(Pool::builder(1));
    let resource = pool.resource(server.address).unwrap();
    let other = number(&pool, "other");
    let conn = in_time("get", resource.get()).await.unwrap();
    let mut waits = spawn(other.get());
    assert!(waits.poll().is_pending());
    let stream = conn.detach();
    drop(in_time("the other", waits).await.unwrap());
    assert_eq!(reasons.list(), [CloseReason::Detached]);
    let conn = in_time("get", resource.get()).await.unwrap();
    assert_ne!(conn.local_addr().unwrap(), stream.local_addr().unwrap());
    let (mut reader, mut writer) = stream.into_split();
    in_time("the echo", async {
        tokio::io::AsyncWriteExt::write_all(&mut writer, b"ping").await.unwrap();
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut [0; 4]).await.unwrap();
    })
    .await;
    drop(conn);
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn detached_connection_is_not_released() {
    let (pool, journal) = (Pool::new(1).unwrap(), Journal::default());
    let resource = journal.resource(&pool, "a");
    assert_eq!(resource.get().await.unwrap().detach(), 1);
    released(&pool).await;
    assert_eq!(journal.take(), ["open a"]);
    drop(pool.try_slot().unwrap());
}

// ===== all of it at once =====

/// A connection that counts how many are open.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Callers of a few resources with slow hooks and releases, some of which leave.
async fn crowd(builder: PoolBuilder, workers: usize) {
    let pool = builder.build().unwrap();
    let open = Arc::new(AtomicUsize::new(0));
    let resources: Vec<_> = (0..4)
        .map(|index| {
            let open = Arc::clone(&open);
            pool.resource_fn(&format!("{index}"), move || {
                let before = open.fetch_add(1, SeqCst);
                assert!(before < 2, "more connections than slots");
                let counted = Counted(Arc::clone(&open));
                async {
                    tokio::task::yield_now().await;
                    Ok(counted)
                }
            })
            .before_reuse(|counted| async {
                tokio::task::yield_now().await;
                Ok(counted)
            })
            .release(|counted| async {
                tokio::task::yield_now().await;
                drop(counted);
                Ok(())
            })
        })
        .collect();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..8 * workers {
        let resources = resources.clone();
        callers.spawn(async move {
            for round in 0..50 {
                let resource = &resources[(caller + round) % resources.len()];
                if (caller + round) % 5 == 0 {
                    // It leaves at some await.
                    let mut leaves = Box::pin(resource.get());
                    for _ in 0..round % 4 {
                        let polled =
                            std::future::poll_fn(|cx| std::task::Poll::Ready(leaves.as_mut().poll(cx).is_ready()))
                                .await;
                        if polled {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                    continue;
                }
                let conn = resource.get().await.unwrap();
                tokio::task::yield_now().await;
                if round % 7 == 0 {
                    conn.close();
                }
            }
        });
    }
    in_time("all callers", callers.join_all()).await;
    // Openings, releases and checks may still go on.
    pool.close();
    in_time("the end of all of them", async {
        while pool.stats().in_use + pool.stats().releasing > 0 {
            tokio::time::sleep(MS).await;
        }
    })
    .await;
    assert_eq!(open.load(SeqCst), 0);
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn crowd_with_hooks_and_releases_never_has_more_connections_than_slots() {
    crowd(Pool::builder(2), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crowd_with_hooks_and_releases_on_two_workers() {
    crowd(Pool::builder(2), 2).await;
    // With checks in the background.
    crowd(Pool::builder(2).check_idle_every(MS), 2).await;
}
