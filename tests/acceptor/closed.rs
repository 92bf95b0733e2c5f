//! The end of an acceptor: by a stop, or by itself.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use perconn::acceptor::{Acceptor, Error, Event, Overflow};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc};

use crate::common::{
    LONG, client, close_among_clients, counter, echo, figures, local, poll_once, rest, served, until_refused,
};
use crate::support::in_time;

/// A runtime with this many workers; 0 for one that runs on the calling thread.
fn runtime(workers: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    if workers == 0 {
        builder = Builder::new_current_thread();
    } else {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().unwrap()
}

/// Whether `closed` has to wait.
async fn is_open(acceptor: &Acceptor) -> bool {
    poll_once(acceptor.closed()).await.is_pending()
}

/// How often the acceptor has reported that it ended by itself.
#[derive(Clone, Default)]
struct Reports {
    events: Arc<Mutex<Vec<Arc<Error>>>>,
    logged: Arc<AtomicU64>,
}

impl Reports {
    fn acceptor(&self) -> Acceptor {
        let (events, logged) = (Arc::clone(&self.events), Arc::clone(&self.logged));
        let builder = local().handler(echo).on_event(move |event| {
            if let Event::Ended { cause, .. } = event {
                events.lock().unwrap().push(Arc::clone(cause));
            }
        });
        let logger = move |error: &Error| {
            assert!(matches!(error, Error::RuntimeShutdown), "{error}");
            logged.fetch_add(1, Ordering::SeqCst);
        };
        builder.logger(logger).build().unwrap()
    }

    fn count(&self) -> (usize, u64) {
        (self.events.lock().unwrap().len(), self.logged.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn closed_waits_for_the_stop_and_the_last_connection() {
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let reports = Reports::default();
    let events = Arc::clone(&reports.events);
    let acceptor = local()
        .on_event(move |event| {
            if let Event::Ended { cause, .. } = event {
                events.lock().unwrap().push(Arc::clone(cause));
            }
        })
        .handler(move |mut stream, _| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                stream.write_all(b"done").await
            }
        })
        .build()
        .unwrap();
    assert!(is_open(&acceptor).await);
    let mut stream = client(&acceptor).await;
    figures(&acceptor, "it is served", |stats| stats.busy == 1).await;
    assert!(is_open(&acceptor).await);
    let stop = acceptor.stop(LONG);
    let others = async {
        in_time("the port is free", async {
            while TcpStream::connect(acceptor.local_addr().unwrap()).await.is_ok() {}
        })
        .await;
        assert!(is_open(&acceptor).await, "a connection is open");
        let closed = async {
            acceptor.closed().await.unwrap();
            assert_eq!(acceptor.stats().busy, 0);
        };
        release.notify_one();
        let (text, ()) = tokio::join!(rest(&mut stream), closed);
        assert_eq!(text.unwrap(), "done");
    };
    in_time("the end", async { tokio::join!(stop, others) }).await;
    assert!(!is_open(&acceptor).await);
    acceptor.closed().await.unwrap();
    assert_eq!(reports.count(), (0, 0));
}

#[test]
fn runtime_that_shuts_down_is_reported_once_and_wakes_waiters() {
    let elsewhere = runtime(1);
    for workers in [0, 1, 2] {
        for round in 0..10 {
            let own = runtime(workers);
            let reports = Reports::default();
            let (acceptor, stream) = own.block_on(async {
                let acceptor = Arc::new(reports.acceptor());
                let stream = served(&acceptor).await;
                assert!(is_open(&acceptor).await);
                (acceptor, stream)
            });
            let waiters = [(); 3].map(|()| {
                let acceptor = Arc::clone(&acceptor);
                elsewhere.spawn(async move { acceptor.closed().await })
            });
            if round % 2 == 0 {
                // In the other rounds, some of them may begin to wait later.
                std::thread::sleep(Duration::from_millis(2));
            }
            drop(own);
            elsewhere.block_on(async {
                for waiter in waiters {
                    let cause = in_time("a waiter", waiter).await.unwrap().unwrap_err();
                    assert!(matches!(*cause, Error::RuntimeShutdown), "{cause:?}");
                    assert_eq!(acceptor.stats().busy, 0);
                    // The hooks were called before.
                    assert_eq!(reports.count(), (1, 1), "{workers} workers, round {round}");
                    assert!(Arc::ptr_eq(&cause, &reports.events.lock().unwrap()[0]));
                }
                let again = in_time("a later call", acceptor.closed()).await.unwrap_err();
                assert!(matches!(*again, Error::RuntimeShutdown));
                until_refused(acceptor.local_addr().unwrap()).await;
                // A stop has nothing to do, and does not change the cause.
                assert_eq!(in_time("stop", acceptor.stop(LONG)).await, Default::default());
                in_time("after the stop", acceptor.closed()).await.unwrap_err();
            });
            assert_eq!(reports.count(), (1, 1));
            drop(stream);
        }
    }
}

#[test]
fn runtime_that_shuts_down_after_a_stop_is_no_error() {
    let elsewhere = runtime(0);
    for workers in [0, 1, 2] {
        let own = runtime(workers);
        let reports = Reports::default();
        let (acceptor, _stream) = own.block_on(async {
            let acceptor = reports.acceptor();
            let stream = served(&acceptor).await;
            // The stop begins, and is dropped unless it is over at once.
            let _ = poll_once(acceptor.stop(LONG)).await;
            (acceptor, stream)
        });
        drop(own);
        elsewhere.block_on(in_time("the end", acceptor.closed())).unwrap();
        assert_eq!(reports.count(), (0, 0));
    }
}

#[tokio::test]
async fn dropped_waiters_change_nothing() {
    let acceptor = Arc::new(local().handler(echo).build().unwrap());
    let _stream = served(&acceptor).await;
    let kept = tokio::spawn({
        let acceptor = Arc::clone(&acceptor);
        async move { acceptor.closed().await }
    });
    let dropped = tokio::spawn({
        let acceptor = Arc::clone(&acceptor);
        async move { acceptor.closed().await }
    });
    for _ in 0..100 {
        assert!(is_open(&acceptor).await);
        let waiting = tokio::time::timeout(Duration::from_micros(10), acceptor.closed());
        assert!(waiting.await.is_err());
    }
    dropped.abort();
    assert_eq!(acceptor.stats().busy, 1);
    in_time("stop", acceptor.stop(LONG)).await;
    in_time("the waiter", kept).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_acceptor_serves_no_client_that_was_on_its_way() {
    for _ in 0..20 {
        let open = Arc::default();
        let acceptor = local().on_event(counter(&open)).handler(echo).build().unwrap();
        let address = acceptor.local_addr().unwrap();
        close_among_clients(acceptor, open, || async move {
            let Ok(mut stream) = TcpStream::connect(address).await else { return };
            // The kernel may have forgotten a client that connects in this moment without telling it. It learns so when it sends.
            let _ = stream.write_all(b"anybody there?").await;
            let _ = rest(&mut stream).await;
        })
        .await;
    }
}

/// Waits for the end of an acceptor and drops it, all within the call that wakes: no task of the acceptor can run in
/// between.
struct WaitsInItsWaker {
    /// The wait, which owns the acceptor.
    wait: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// The hook has a clone of it.
    token: Arc<()>,
    /// Gets the number of clones when the wait is over.
    seen: mpsc::UnboundedSender<usize>,
}

impl Wake for WaitsInItsWaker {
    fn wake(self: Arc<Self>) {
        let Some(mut wait) = self.wait.lock().unwrap().take() else { return };
        let waker = Arc::clone(&self).into();
        match wait.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => *self.wait.lock().unwrap() = Some(wait),
            Poll::Ready(()) => {
                drop(wait);
                let _ = self.seen.send(Arc::strong_count(&self.token));
            }
        }
    }
}

#[tokio::test]
async fn closed_acceptor_that_is_dropped_has_dropped_its_hooks() {
    for is_served in [false, true] {
        let token = Arc::new(());
        let hook_token = Arc::clone(&token);
        let hook = move |_: &Event| assert!(Arc::strong_count(&hook_token) > 0);
        let acceptor = Arc::new(local().on_event(hook).handler(echo).build().unwrap());
        let stream = if is_served { Some(served(&acceptor).await) } else { None };
        let (seen, mut counts) = mpsc::unbounded_channel();
        let owned = Arc::clone(&acceptor);
        let wait = Box::pin(async move { owned.closed().await.unwrap() });
        Arc::new(WaitsInItsWaker { wait: Mutex::new(Some(wait)), token, seen }).wake();
        let _ = poll_once(acceptor.stop(LONG)).await;
        drop(acceptor);
        assert_eq!(in_time("the end", counts.recv()).await, Some(1), "served: {is_served}");
        drop(stream);
    }
}

#[tokio::test]
async fn client_that_is_being_refused_does_not_keep_the_handler_of_a_closed_acceptor() {
    let token = Arc::new(());
    let handler_token = Arc::clone(&token);
    let acceptor = local()
        .acceptors(1)
        .overflow(Overflow::Refuse)
        .handler(move |stream, peer| {
            assert!(Arc::strong_count(&handler_token) > 0);
            echo(stream, peer)
        })
        .build()
        .unwrap();
    let _first = served(&acceptor).await;
    // It does not close, so that the acceptor waits for it for a second.
    let _refused = client(&acceptor).await;
    figures(&acceptor, "it is refused", |stats| stats.refused == 1).await;
    in_time("stop", acceptor.stop(LONG)).await;
    in_time("the end", acceptor.closed()).await.unwrap();
    assert_eq!(Arc::strong_count(&token), 1);
}
