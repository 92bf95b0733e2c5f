//! Reads and writes that are given up while they wait: they leave no clock running, and no stop waits for them.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use perconn::acceptor::{Acceptor, LineConn, Stats, Stream};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::support::in_time;
use crate::world::{LONG, client, figures, local, rest};

const LIMIT: Duration = Duration::from_millis(200);

/// Begins it, or goes on with it.
async fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    let mut future = Some(future);
    poll_fn(move |cx| Poll::Ready(future.take().unwrap().poll(cx))).await
}

async fn give_up<F: Future>(operation: F) {
    assert!(poll_once(pin!(operation)).await.is_pending(), "it did not have to wait");
}

/// Writes until a write has to wait, and gives that up. How many bytes were taken.
pub async fn fill(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<usize> {
    let chunk = [7; 100_000];
    let mut taken = 0;
    loop {
        yield_now().await; // else, the runtime may say that it has to wait
        match poll_once(pin!(stream.write(&chunk))).await {
            Poll::Ready(written) => taken += written?,
            Poll::Pending => return Ok(taken),
        }
    }
}

/// How the only connection has ended.
async fn end(acceptor: &Acceptor) -> (u64, u64, u64) {
    let Stats { finished, timed_out, failed, .. } =
        figures(acceptor, "it is gone", |stats| stats.accepted == 1 && stats.busy == 0).await;
    (finished, timed_out, failed)
}

/// A handler that reads in vain, does `between`, is busy with something else, and reads again; with its client.
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
            give_up(stream.read(&mut byte)).await;
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
    // Without a word, if the read has failed already.
    if in_time("the second read", reads).await.is_ok() {
        stream.write_all(b"x").await.unwrap();
    }
    assert_eq!(end(&acceptor).await, (1, 0, 0));
}

#[tokio::test]
async fn read_after_one_that_was_given_up_has_the_whole_limit() {
    reads_again(|_| Box::pin(async { Ok(()) })).await;
}

#[tokio::test]
async fn answer_after_a_read_that_was_given_up_leaves_no_clock_running() {
    reads_again(|stream| Box::pin(stream.write_all(b"hello"))).await;
}

#[tokio::test]
async fn write_after_one_that_was_given_up_has_the_whole_limit() {
    let (sender, writes) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let acceptor = local().idle_timeout(LIMIT).handler(move |mut stream, _| {
        let sender = sender.lock().unwrap().take().unwrap();
        async move {
            fill(&mut stream).await?;
            sleep(LIMIT * 3).await;
            // (The kernel may have found room for a little more.)
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
async fn read_that_nobody_answers_is_timed_out_though_one_was_given_up_before() {
    let acceptor = local().idle_timeout(LIMIT).handler(async |mut stream: Stream, _| {
        let mut byte = [0];
        give_up(stream.read(&mut byte)).await;
        sleep(LIMIT * 3).await;
        stream.read(&mut byte).await.map(drop)
    });
    let acceptor = acceptor.build().unwrap();
    assert_eq!(rest(&mut client(&acceptor).await).await.unwrap(), "");
    assert_eq!(end(&acceptor).await, (0, 1, 0));
}

#[tokio::test]
async fn stop_does_not_wait_for_a_write_that_was_given_up() {
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
            let news = [7; 100_000];
            let mut buffer = [0; 16];
            // The end of what comes is the end of all.
            tokio::select! {
                outcome = writer.write_all(&news) => outcome?,
                outcome = reader.read(&mut buffer) => return outcome.map(drop),
            }
            writer.shutdown().await
        }
    });
    let acceptor = acceptor.build().unwrap();
    let mut stream = client(&acceptor).await;
    let taken = in_time("a write that waits", taken).await.unwrap();
    let reading = async {
        // Meanwhile, it is asked for more than once whether it is wanted.
        sleep(LIMIT).await;
        let mut bytes = Vec::new();
        in_time("everything", stream.read_to_end(&mut bytes)).await.unwrap();
        bytes.len()
    };
    let (stopped, read) = tokio::join!(in_time("stop", acceptor.stop(LONG)), reading);
    assert_eq!((read, stopped.cut), (taken + 100_000, 0));
}

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
async fn stop_sends_the_rest_of_a_line_whose_push_was_given_up() {
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
