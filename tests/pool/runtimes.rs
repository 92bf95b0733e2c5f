//! Pools that several runtimes use, and runtimes without time or I/O.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Once;
use std::time::Duration;

use perconn::pool::{GetError, Pool, Resource};
use tokio::runtime::{self, Runtime};
use tokio::task::coop;

use crate::support::in_time;

fn current_thread() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn number(pool: &Pool) -> Resource<u8> {
    pool.resource_fn("a number", || std::future::ready(Ok(1)))
}

#[test]
fn idle_connections_are_closed_although_another_runtime_has_ended_or_stands_still() {
    let second = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for ends in [false, true] {
        let pool = Pool::builder(2).idle_timeout(Duration::from_millis(20)).build().unwrap();
        let (one, other) = (number(&pool), number(&pool));
        let first = current_thread();
        first.block_on(async { drop(one.get().await.unwrap()) });
        second.block_on(async { drop(other.get().await.unwrap()) });
        // From now on nothing drives the first runtime.
        let first = (!ends).then_some(first);
        second.block_on(in_time("all are closed", async {
            while pool.stats().idle > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }));
        drop(first);
    }
}

#[test]
fn connection_of_a_runtime_that_is_gone_is_not_lent_to_a_task_without_budget() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The peers stay open in the listener's queue.
    for left in 0..4 {
        let pool = Pool::new(1).unwrap();
        let resource = pool.resource(address).unwrap();
        current_thread().block_on(async { drop(resource.get().await.unwrap()) });
        let conn = current_thread().block_on(async {
            let task = tokio::spawn(async move {
                // A task has a budget of 128.
                for _ in left..128 {
                    assert!(coop::has_budget_remaining());
                    coop::consume_budget().await;
                }
                resource.get().await.map(|conn| conn.is_reused())
            });
            in_time("get", task).await.unwrap()
        });
        assert!(!conn.unwrap(), "with {left} left");
    }
}

#[test]
fn runtime_without_time_has_one_task_for_the_idle_timeout() {
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    let pool = Pool::builder(1).dial_timeout(None).idle_timeout(Duration::from_secs(1)).build().unwrap();
    let number = number(&pool);
    runtime.block_on(async {
        for _ in 0..5 {
            drop(number.get().await.unwrap());
            tokio::task::yield_now().await;
            // If the task ended, the pool would start another one each time. The other one knows the runtime.
            assert_eq!(runtime.metrics().num_alive_tasks(), 2);
        }
    });
}

/// Counts the panics of each thread that reach the panic hook. There is one hook for all tests of this program.
fn panics_of_this_thread() -> usize {
    thread_local! {
        static PANICS: Cell<usize> = const { Cell::new(0) };
    }
    static IS_COUNTED: Once = Once::new();
    IS_COUNTED.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            former(info);
        }));
    });
    PANICS.get()
}

#[test]
fn runtime_without_time_is_found_out_with_one_panic_and_not_with_one_for_each_call() {
    let before = panics_of_this_thread();
    let pool = Pool::new(1).unwrap();
    let number = number(&pool);
    for round in 1..=2 {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for _ in 0..10 {
                assert_eq!(number.get().await.unwrap_err().kind(), ErrorKind::Unsupported);
                let limited = number.get_timeout(Duration::from_secs(1)).await;
                assert_eq!(limited.unwrap_err().kind(), ErrorKind::Unsupported);
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(panics_of_this_thread() - before, round);
    }
    current_thread().block_on(async { drop(number.get_timeout(Duration::from_secs(1)).await.unwrap()) });
    assert_eq!(panics_of_this_thread() - before, 2);
}

#[test]
fn time_limit_is_an_error_and_not_a_panic_in_a_runtime_without_time() {
    let runtime = runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let (limited, unlimited) = (Pool::new(1).unwrap(), Pool::builder(1).dial_timeout(None).build().unwrap());
    let (with_limit, without) = (number(&limited), number(&unlimited));
    runtime.block_on(async {
        for outcome in
            [with_limit.get().await, with_limit.try_get().await, without.get_timeout(Duration::from_secs(1)).await]
        {
            let error = outcome.unwrap_err();
            assert!(matches!(error, GetError::Dial { .. }), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
        drop(without.get().await.unwrap());
        assert!(without.get().await.unwrap().is_reused());
    });
}
