//! Checks of the program, and its hooks after a dial and before the next use.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use perconn::TcpDialer;
use perconn::pool::{CloseReason, GetError, Pool, Resource};
use perconn::testing::{Cut, FaultProxy};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_test::task::spawn;

use crate::fixtures::{CloseReasons, EchoServer, assert_all_given_back, echo};
use crate::support::in_time;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Panics without a message on the terminal.
fn quiet_panic() -> ! {
    resume_unwind(Box::new("on purpose"))
}

fn number(pool: &Pool, name: &str) -> Resource<u8> {
    pool.resource_fn(name, || std::future::ready(Ok(1)))
}

// ===== a check =====

/// A client with a socket inside.
struct Client(TcpStream);

impl Client {
    fn is_quiet(&self) -> bool {
        self.0.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

#[tokio::test]
async fn dead_client_of_the_program_is_not_lent_and_closed_in_the_background() {
    let proxy = FaultProxy::start(EchoServer::start().await.address).await.unwrap();
    let address = proxy.addr();
    for in_background in [false, true] {
        let period = if in_background { 5 * MS } else { Duration::from_secs(3600) };
        let pool = Pool::builder(1).check_idle_every(period).build().unwrap();
        let open = move || async move { Ok(Client(TcpStream::connect(address).await?)) };
        let resource = pool.resource_fn("client", open).check(|client| client.is_quiet());
        drop(in_time("a dial", resource.get()).await.unwrap());
        let client = in_time("get", resource.get()).await.unwrap();
        assert!(client.is_reused());
        proxy.cut(Cut::Close);
        in_time("the close", client.0.readable()).await.unwrap();
        drop(client);
        if in_background {
            in_time("the check", async {
                while pool.stats().idle > 0 {
                    tokio::time::sleep(MS).await;
                }
            })
            .await;
        }
        assert!(!in_time("get", resource.get()).await.unwrap().is_reused());
        assert_eq!((pool.stats().opened, pool.stats().found_dead), (2, 1));
        assert_all_given_back(&pool);
    }
}

#[tokio::test]
async fn panic_of_a_check_means_dead_and_costs_no_slot() {
    let pool = Pool::new(1).unwrap();
    let resource = number(&pool, "panics").check(|_| quiet_panic());
    for _ in 0..3 {
        assert!(!resource.get().await.unwrap().is_reused());
    }
    assert_eq!((pool.stats().opened, pool.stats().found_dead), (3, 2));
    assert_all_given_back(&pool);
}

#[tokio::test]
async fn hook_is_set_before_the_resource_is_cloned_or_used() {
    let pool = Pool::new(1).unwrap();
    let resource = number(&pool, "one");
    drop(resource.get().await.unwrap());
    let message = catch_unwind(AssertUnwindSafe(|| drop(resource.check(|_| true)))).unwrap_err();
    assert_eq!(message.downcast_ref(), Some(&"a hook of a resource is set before it is cloned or used"));
    assert_eq!(pool.stats().idle, 0);
    assert_all_given_back(&pool);
}

// ===== hooks after the dial and before the next use =====

#[tokio::test]
async fn set_up_is_a_part_of_the_dial_whichever_dialer_makes_it() {
    let server = EchoServer::start().await;
    let pool = Pool::builder(1).retry_min(MS).build().unwrap();
    let outcomes = Arc::new(AtomicUsize::new(0));
    let resource = pool.resource(server.address).unwrap().after_open(move |stream| {
        let outcome = outcomes.fetch_add(1, SeqCst);
        async move {
            match outcome {
                0 => Err(io::Error::other("refused by the set-up")),
                1 => quiet_panic(),
                _ => Ok(stream),
            }
        }
    });
    for text in ["refused by the set-up", "after_open panicked: on purpose"] {
        let error = in_time("get", resource.get_timeout(10 * S)).await.unwrap_err();
        assert_eq!(error.with_causes().to_string(), format!("dial to {} failed: {text}", server.address));
        assert_all_given_back(&pool);
    }
    let mut dialer = TcpDialer::new(server.address);
    echo(&mut in_time("get", resource.get_with(&mut dialer)).await.unwrap()).await;
    // It is not called again for the next use.
    echo(&mut in_time("get", resource.get()).await.unwrap()).await;
    assert_eq!((pool.stats().opened, pool.stats().dials_failed, pool.stats().reused), (1, 2, 1));
}

#[tokio::test]
async fn connection_that_its_hook_refuses_is_replaced() {
    let reasons = CloseReasons::default();
    let pool = reasons.watch(Pool::builder(1));
    let calls = Arc::new(AtomicUsize::new(0));
    let resource = number(&pool, "refused").before_reuse(move |value| {
        let call = calls.fetch_add(1, SeqCst);
        async move {
            match call {
                0 => Ok(value + 1),
                1 => Err(io::Error::other("on purpose")),
                _ => quiet_panic(),
            }
        }
    });
    for (value, is_reused) in [(1, false), (2, true), (1, false), (1, false)] {
        let conn = in_time("get", resource.get()).await.unwrap();
        assert_eq!((*conn, conn.is_reused()), (value, is_reused));
    }
    assert_eq!(reasons.list(), [CloseReason::Dead, CloseReason::Dead]);
    assert_eq!((pool.stats().opened, pool.stats().reused, pool.stats().found_dead), (3, 1, 2));
    assert_all_given_back(&pool);
}

#[tokio::test(start_paused = true)]
async fn hook_that_hangs_ends_at_the_dial_timeout_or_with_the_pool() {
    let pool = Pool::builder(1).dial_timeout(5 * S).build().unwrap();
    let resource = number(&pool, "hangs").before_reuse(|_| std::future::pending());
    drop(resource.get().await.unwrap());
    let began = Instant::now();
    assert!(!resource.get().await.unwrap().is_reused());
    assert_eq!(began.elapsed(), 5 * S);
    let mut hangs = spawn(resource.get());
    assert!(hangs.poll().is_pending());
    pool.close();
    assert!(matches!(hangs.await, Err(GetError::Closed)));
    assert_all_given_back(&pool);
    assert_eq!(pool.stats().idle, 0);
}

#[tokio::test(start_paused = true)]
async fn callers_that_are_more_impatient_than_a_hook_get_the_connection() {
    let pool = Pool::new(1).unwrap();
    let resource = number(&pool, "slow").before_reuse(|value| async move {
        tokio::time::sleep(150 * MS).await;
        Ok(value + 1)
    });
    drop(resource.get().await.unwrap());
    let mut timeouts = 0;
    let conn = loop {
        match resource.get_timeout(100 * MS).await {
            Ok(conn) => break conn,
            Err(_) => timeouts += 1,
        }
    };
    assert_eq!((timeouts, *conn, conn.is_reused()), (1, 2, true));
    drop(conn);
    assert_eq!((pool.stats().opened, pool.stats().reused), (1, 1));
    assert_all_given_back(&pool);
}
