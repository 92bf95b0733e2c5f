//! Handlers of lines.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use perconn::acceptor::{AcceptorBuilder, EndReason, Event, LineConn};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Notify;
use tokio::time::{interval, sleep};

use crate::common::{LONG, client, event, figures, local, recorder, rest};
use crate::support::in_time;

fn echo() -> AcceptorBuilder {
    local().line_handler(async |line, conn: LineConn| {
        if line == b"quit" {
            conn.send("goodbye").await?;
            conn.close();
            return Ok(());
        }
        conn.send(line).await
    })
}

#[tokio::test]
async fn each_line_is_handled_in_order_however_it_is_split() {
    let acceptor = echo().build().unwrap();
    let mut stream = client(&acceptor).await;
    let text = b"one\ntwo\r\n\n\r\nfi\rve\n\xff\xfe\nhalf";
    for byte in text {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    in_time("all answers", stream.read_to_end(&mut answer)).await.unwrap();
    // Bytes without a line feed are not a line.
    assert_eq!(answer, b"one\ntwo\n\n\nfi\rve\n\xff\xfe\n");
    assert_eq!(figures(&acceptor, "it is gone", |stats| stats.busy == 0).await.finished, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_lines_at_once_are_answered_in_order() {
    let acceptor = echo().build().unwrap();
    let (reader, mut writer) = client(&acceptor).await.into_split();
    let requests = tokio::spawn(async move {
        let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        writer.write_all(text.as_bytes()).await.unwrap();
        writer
    });
    let mut lines = BufReader::new(reader).lines();
    for number in 0..20_000 {
        let line = in_time("a line", lines.next_line()).await.unwrap();
        assert_eq!(line, Some(format!("line {number}")));
    }
    requests.await.unwrap();
}

#[tokio::test]
async fn close_lets_the_answer_arrive_although_the_client_has_sent_more() {
    let acceptor = echo().build().unwrap();
    for _ in 0..20 {
        let mut stream = client(&acceptor).await;
        stream.write_all(b"quit\n").await.unwrap();
        stream.write_all(&b"and more\n".repeat(5_000)).await.unwrap();
        sleep(Duration::from_millis(2)).await;
        assert_eq!(rest(&mut stream).await.unwrap(), "goodbye\n");
    }
}

#[tokio::test]
async fn client_that_has_closed_its_side_gets_every_answer_however_late_it_reads() {
    let acceptor = echo().build().unwrap();
    let lines: String = (0..2_000).map(|number| format!("line {number}\n")).collect();
    let mut stream = client(&acceptor).await;
    stream.write_all(lines.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    // The kernel has all answers, and the connection has no task and no slot any more.
    figures(&acceptor, "it has ended", |stats| (stats.busy, stats.finished) == (0, 1)).await;
    assert!(rest(&mut stream).await.unwrap() == lines);
}

#[tokio::test]
async fn line_that_is_too_long_ends_the_connection_and_is_reported() {
    let (hook, mut events) = recorder();
    let acceptor = echo().max_line_length(10).on_event(hook).build().unwrap();
    for (text, expected) in
        [("0123456789\r\n01234567890\n", "0123456789\n"), ("0123456789x", ""), ("0123456789\rx", "")]
    {
        let mut stream = client(&acceptor).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await.unwrap(), expected);
        drop(stream);
        let reason = event(&mut events, |event| match event {
            Event::Closed { reason: EndReason::Failed(error), .. } => Some((error.kind(), error.to_string())),
            _ => None,
        });
        assert_eq!(reason.await, (io::ErrorKind::InvalidData, "line too long: expected at most 10 bytes".to_owned()));
    }
}

#[tokio::test]
async fn line_without_an_end_does_not_fill_the_memory() {
    let acceptor = echo().build().unwrap();
    let mut stream = client(&acceptor).await;
    let endless = async { while stream.write_all(&[b'x'; 65536]).await.is_ok() {} };
    in_time("the server closes", endless).await;
    assert_eq!(figures(&acceptor, "it is gone", |stats| stats.busy == 0).await.failed, 1);
}

#[tokio::test]
async fn only_whole_lines_reset_the_time_limits() {
    let limit = Duration::from_millis(300);
    for builder in [echo().idle_timeout(limit), echo().first_byte_timeout(limit)] {
        let acceptor = builder.build().unwrap();
        let (mut reader, mut writer) = client(&acceptor).await.into_split();
        let mut ticks = interval(limit / 20);
        let mut byte = [0];
        in_time("the server closes", async {
            loop {
                tokio::select! {
                    end = reader.read(&mut byte) => if !matches!(end, Ok(1..)) { return },
                    _ = ticks.tick() => drop(writer.write_all(b"xxxxxxxx").await),
                }
            }
        })
        .await;
        drop((reader, writer));
        assert_eq!(figures(&acceptor, "it is gone", |stats| stats.busy == 0).await.timed_out, 1);
    }
    // It is long enough for a machine that stalls for a moment.
    let limit = Duration::from_secs(1);
    let acceptor = echo().idle_timeout(limit).first_byte_timeout(limit).build().unwrap();
    let mut stream = BufReader::new(client(&acceptor).await);
    let mut line = String::new();
    for _ in 0..10 {
        stream.write_all(b"x\n").await.unwrap();
        in_time("an answer", stream.read_line(&mut line)).await.unwrap();
        sleep(limit / 5).await;
    }
    assert_eq!(line, "x\n".repeat(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_many_tasks_are_whole_also_when_sends_are_dropped() {
    let acceptor = local()
        .line_handler(async |_, conn: LineConn| {
            let mut tasks = tokio::task::JoinSet::new();
            for task in 0..8 {
                let conn = conn.clone();
                tasks.spawn(async move {
                    for number in 0..200 {
                        let line = format!("{task} {number} {}", "x".repeat(5_000));
                        // Some sends are dropped before they are done.
                        let limit = Duration::from_micros(if number % 3 == 0 { 20 } else { 60_000_000 });
                        if let Ok(outcome) = tokio::time::timeout(limit, conn.send(line)).await {
                            outcome.unwrap();
                        }
                    }
                });
            }
            tasks.join_all().await;
            conn.close();
            Ok(())
        })
        .build()
        .unwrap();
    let mut stream = BufReader::new(client(&acceptor).await);
    stream.write_all(b"go\n").await.unwrap();
    let mut seen = [0; 8];
    let mut line = String::new();
    while in_time("a line", stream.read_line(&mut line)).await.unwrap() > 0 {
        let (start, rest) = line.split_at(line.len() - 5_001);
        assert_eq!(rest.trim_end(), "x".repeat(5_000));
        seen[start[..1].parse::<usize>().unwrap()] += 1;
        line.clear();
    }
    // Every line whose send was not dropped has arrived.
    assert!(seen.iter().all(|count| (133..=200).contains(count)), "{seen:?}");
}

#[tokio::test]
async fn stop_lets_begun_lines_finish_and_no_others() {
    let handled = Arc::new(AtomicUsize::new(0));
    let release = Arc::new(Notify::new());
    let (count, gate) = (Arc::clone(&handled), Arc::clone(&release));
    let acceptor = local()
        .line_handler(move |line, conn| {
            count.fetch_add(1, Ordering::SeqCst);
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                conn.send(line).await
            }
        })
        .build()
        .unwrap();
    let mut idle = client(&acceptor).await;
    let mut busy = client(&acceptor).await;
    busy.write_all(b"one\ntwo\nhal").await.unwrap();
    figures(&acceptor, "both are served", |stats| stats.busy == 2).await;
    in_time("a line", async {
        while handled.load(Ordering::SeqCst) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let (stopped, ()) = tokio::join!(acceptor.stop(LONG), async {
        assert_eq!(rest(&mut idle).await.unwrap(), "");
        for _ in 0..2 {
            release.notify_one();
            in_time("an answer", busy.read_exact(&mut [0; 4])).await.unwrap();
        }
        // The line that has begun may be completed, and no line after it is handled.
        release.notify_one();
        busy.write_all(b"f\n").await.unwrap();
        assert_eq!(rest(&mut busy).await.unwrap(), "half\n");
    });
    assert_eq!((stopped.finished, stopped.idle, stopped.cut), (1, 1, 0));
    assert_eq!(handled.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn stop_does_not_wait_for_a_client_that_never_stops_sending() {
    let acceptor = echo().build().unwrap();
    let (mut reader, mut writer) = client(&acceptor).await.into_split();
    let sender = tokio::spawn(async move { while writer.write_all(b"a line\nand an").await.is_ok() {} });
    let reading = tokio::spawn(async move { while matches!(reader.read(&mut [0; 1000]).await, Ok(1..)) {} });
    figures(&acceptor, "it is served", |stats| stats.busy == 1).await;
    sleep(Duration::from_millis(20)).await;
    let stopped = in_time("stop", acceptor.stop(LONG)).await;
    assert_eq!(stopped.cut, 0);
    in_time("the client's end", async { tokio::join!(sender, reading) }).await.0.unwrap();
}

#[tokio::test]
async fn stop_counts_lines_that_are_empty_as_well() {
    for text in ["a\nb\nc\n", "a\n\nc\n", "a\n\n", "a\n\n\n\n"] {
        let (begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let gates = (Arc::clone(&begun), Arc::clone(&release));
        let acceptor = local().line_handler(move |line, conn| {
            let (begun, release) = gates.clone();
            async move {
                if line == b"a" {
                    begun.notify_one();
                    release.notified().await;
                }
                conn.send(line).await
            }
        });
        let acceptor = acceptor.build().unwrap();
        let mut stream = client(&acceptor).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        in_time("the first line", begun.notified()).await;
        let (stopped, answer) = tokio::join!(acceptor.stop(LONG), async {
            release.notify_one();
            rest(&mut stream).await.unwrap()
        });
        assert_eq!((answer.as_str(), stopped.cut), (text, 0));
    }
}

#[tokio::test]
async fn answer_to_a_line_that_is_too_long_arrives_before_the_close() {
    let acceptor = echo().max_line_length(10).too_long_answer("too long\n").build().unwrap();
    for text in ["short\n0123456789x\nmore\n".to_owned(), format!("short\n{}", "x".repeat(100_000))] {
        let mut stream = client(&acceptor).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await.unwrap(), "short\ntoo long\n");
    }
    figures(&acceptor, "they have failed", |stats| stats.busy == 0 && stats.failed == 2).await;
    // The answer is for this error only.
    let acceptor =
        local().too_long_answer("too long\n").line_handler(async |_, _| Err(io::ErrorKind::InvalidData.into()));
    let acceptor = acceptor.build().unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"line\n").await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), "");
}

#[tokio::test]
async fn last_line_without_its_end_is_a_line_if_that_is_set() {
    for (is_a_line, text, answer) in [
        (false, "one\ntwo", "one\n"),
        (true, "one\ntwo", "one\ntwo\n"),
        (true, "two\r", "two\r\n"),
        (true, "one\n", "one\n"),
        (true, "", ""),
        (true, "0123456789", "0123456789\n"),
        (true, "0123456789\r", ""),
    ] {
        let acceptor = echo().max_line_length(10).last_line_without_end(is_a_line).build().unwrap();
        let mut stream = client(&acceptor).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await.unwrap(), answer, "{text:?}");
        let stats = figures(&acceptor, "it is gone", |stats| stats.accepted == 1 && stats.busy == 0).await;
        assert_eq!(stats.failed, u64::from(text.len() > 10), "{text:?}");
    }
}

/// How long it takes to handle a long line and then `short` short ones.
#[cfg(target_os = "linux")]
async fn time_for(short: usize) -> Duration {
    const LENGTH: usize = 1 << 20;
    let acceptor = local().max_line_length(LENGTH).line_handler(async |_, _| Ok(())).build().unwrap();
    let (mut reader, mut writer) = client(&acceptor).await.into_split();
    let mut text = vec![b'x'; LENGTH];
    text.push(b'\n');
    text.extend(b"ab\n".repeat(short));
    let start = thread_time();
    let writing = tokio::spawn(async move {
        writer.write_all(&text).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    in_time("the end of the stream", reader.read_to_end(&mut Vec::new())).await.unwrap();
    writing.await.unwrap();
    thread_time() - start
}

/// The processor time of this thread. It runs nothing but the test, and other processes do not count.
#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn short_line_costs_the_same_however_many_follow_it() {
    const LINES: usize = 60_000;
    // Other processes still disturb the caches, so that the least of several runs counts.
    let mut least = [Duration::MAX; 2];
    for _ in 0..4 {
        least[0] = least[0].min(time_for(LINES).await);
        least[1] = least[1].min(time_for(LINES * 4).await);
        if least[1] < least[0] * 8 {
            return;
        }
    }
    panic!("{LINES} lines took {:?}, four times as many {:?}", least[0], least[1]);
}
