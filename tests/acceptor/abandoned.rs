//! Abandoned reads and writes, whose futures are dropped while they wait: no time limit counts them, and no stop waits for
//! them.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use perconn::acceptor::{Acceptor, LineConn, Stats, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::common::{LONG, client, figures, fill, local, poll_once, rest};
use crate::support::in_time;

const LIMIT: Duration = Duration::from_millis(200);

/// Begins an operation that has to wait, and drops it.
async fn abandon<F: Future>(operation: F) {
    assert!(poll_once(pin!(operation)).await.is_pending(), "the operation did not have to wait");
}

/// How the only connection has ended: `(finished, timed_out, failed)`.
async fn end(acceptor: &Acceptor) -> (u64, u64, u64) {
    let Stats { finished, timed_out, failed, .. } =
        figures(acceptor, "it is gone", |stats| stats.accepted == 1 && stats.busy == 0).await;
    (finished, timed_out, failed)
}

/// Runs a handler that abandons a read, does `between`, is busy for a while, and reads again. The second read must succeed.
async fn reads_again<F>(between: F)
where
    F: for<'a> Fn(&'a mut Stream) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>> + Send + Sync + 'static,
{
    let between = Arc::new(between);
    let (sender, reads) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let acceptor = local().idle_timeout(LIMIT).handler(move |mut stream, _| {
        let (between, sender) = (Arc::clone(&between), sender.lock().unwrap().take().unwrap());
        async move {
            let mut byte = [0];
            abandon(stream.read(&mut byte)).await;
            between(&mut stream).await?;
            sleep(LIMIT * 3).await;
            let mut read = pin!(stream.read(&mut byte));
            if let Poll::Ready(outcome) = poll_once(read.as_mut()).await {
                return outcome.map(drop);
            }
            let _ = sender.send(());
            read.await.map(drop)
        }
    });
    let acceptor = acceptor.build().unwrap();
    let mut stream = client(&acceptor).await;
    // The sender is dropped if the read has failed already.
    if in_time("the second read", reads).await.is_ok() {
        stream.write_all(b"x").await.unwrap();
    }
    assert_eq!(end(&acceptor).await, (1, 0, 0));
}

#[tokio::test]
async fn read_after_an_abandoned_one_has_the_whole_limit() {
    reads_again(|_| Box::pin(async { Ok(()) })).await;
}

#[tokio::test]
async fn answer_after_an_abandoned_read_leaves_no_clock_running() {
    reads_again(|stream| Box::pin(stream.write_all(b"hello"))).await;
}

#[tokio::test]
async fn write_after_an_abandoned_one_has_the_whole_limit() {
    let (sender, writes) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let acceptor = local().idle_timeout(LIMIT).handler(move |mut stream, _| {
        let sender = sender.lock().unwrap().take().unwrap();
        async move {
            fill(&mut stream).await?;
            sleep(LIMIT * 3).await;
            // The kernel may have room for a little more by now.
            fill(&mut stream).await?;
            let _ = sender.send(());
            stream.write_all(&[7; 100_000]).await
        }
    });
    let acceptor = acceptor.build().unwrap();
    let mut stream = client(&acceptor).await;
    let _ = in_time("the second write", writes).await;
    in_time("everything", stream.read_to_end(&mut Vec::new())).await.unwrap();
    assert_eq!(end(&acceptor).await, (1, 0, 0));
}

#[tokio::test]
async fn read_without_an_answer_times_out_after_an_abandoned_one() {
    let acceptor = local().idle_timeout(LIMIT).handler(async |mut stream: Stream, _| {
        let mut byte = [0];
        abandon(stream.read(&mut byte)).await;
        sleep(LIMIT * 3).await;
        stream.read(&mut byte).await.map(drop)
    });
    let acceptor = acceptor.build().unwrap();
    assert_eq!(rest(&mut client(&acceptor).await).await.unwrap(), "");
    assert_eq!(end(&acceptor).await, (0, 1, 0));
}

#[tokio::test]
async fn stop_does_not_wait_for_an_abandoned_write() {
    let (sender, taken) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let acceptor = local().handler(move |mut stream, _| {
        let sender = sender.lock().unwrap().take().unwrap();
        async move {
            let _ = sender.send(fill(&mut stream).await?);
            while stream.read(&mut [0; 16]).await? > 0 {}
            Ok(())
        }
    });
    let acceptor = acceptor.build().unwrap();
    let mut stream = client(&acceptor).await;
    let taken = in_time("a write that waits", taken).await.unwrap();
    let stopped = in_time("stop", acceptor.stop(LONG)).await;
    assert_eq!((stopped.idle, stopped.finished, stopped.cut), (1, 0, 0));
    let mut bytes = Vec::new();
    in_time("what was taken", stream.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes.len(), taken);
}

#[tokio::test]
async fn stop_waits_for_a_write_that_is_still_wanted() {
    let (sender, taken) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let acceptor = local().handler(move |mut stream, _| {
        let sender = sender.lock().unwrap().take().unwrap();
        async move {
            let taken = fill(&mut stream).await?;
            let (mut reader, mut writer) = tokio::io::split(stream);
            let _ = sender.send(taken);
            let data = [7; 100_000];
            let mut buffer = [0; 16];
            // A read that returned would end the connection.
            tokio::select! {
                outcome = writer.write_all(&data) => outcome?,
                outcome = reader.read(&mut buffer) => return outcome.map(drop),
            }
            writer.shutdown().await
        }
    });
    let acceptor = acceptor.build().unwrap();
    let mut stream = client(&acceptor).await;
    let taken = in_time("a write that waits", taken).await.unwrap();
    let reading = async {
        // Meanwhile, the stop probes the write more than once.
        sleep(LIMIT).await;
        let mut bytes = Vec::new();
        in_time("everything", stream.read_to_end(&mut bytes)).await.unwrap();
        bytes.len()
    };
    let (stopped, read) = tokio::join!(in_time("stop", acceptor.stop(LONG)), reading);
    assert_eq!((read, stopped.cut), (taken + 100_000, 0));
}

/// Sends lines until one has to wait, and drops that send. Returns how many were sent as a whole.
async fn push(conn: &LineConn) -> io::Result<usize> {
    let line = vec![b'x'; 99_999];
    let mut whole = 0;
    loop {
        yield_now().await; // as in `fill`
        match poll_once(pin!(conn.send(&line))).await {
            Poll::Ready(outcome) => outcome?,
            Poll::Pending => return Ok(whole),
        }
        whole += 1;
    }
}

#[tokio::test]
async fn stop_sends_the_rest_of_a_line_whose_send_was_abandoned() {
    let (sender, conn) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let acceptor = local().line_handler(move |_, conn| {
        let _ = sender.lock().unwrap().take().unwrap().send(conn);
        std::future::ready(Ok(()))
    });
    let acceptor = acceptor.build().unwrap();
    let mut stream: TcpStream = client(&acceptor).await;
    stream.write_all(b"hello\n").await.unwrap();
    let conn = in_time("a line", conn).await.unwrap();
    let whole = push(&conn).await.unwrap();
    let reading = async {
        let mut bytes = Vec::new();
        in_time("everything", stream.read_to_end(&mut bytes)).await.unwrap();
        bytes.len()
    };
    let (stopped, read) = tokio::join!(in_time("stop", acceptor.stop(LONG)), reading);
    assert_eq!((read, stopped.cut), ((whole + 1) * 100_000, 0));
}
