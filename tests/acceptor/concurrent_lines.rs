//! Lines of one connection that are handled at the same time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use perconn::acceptor::{Acceptor, AcceptorBuilder, EndReason, Event, LineConn};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Semaphore, mpsc};
use tokio::time::sleep;

use crate::common::{LONG, client, event, figures, local, recorder, rest};
use crate::support::in_time;

/// A server whose handlers begin, wait for the test, and then answer.
struct Gated {
    acceptor: Acceptor,
    /// One permit for each line that may go on.
    gate: Arc<Semaphore>,
    /// The same for the lines that end the connection: `error`, `panic` and `close`.
    end_gate: Arc<Semaphore>,
    /// The lines whose handler has begun and is not dropped.
    at_work: Arc<AtomicUsize>,
    /// The lines whose handler has begun.
    begun: mpsc::UnboundedReceiver<String>,
}

impl Gated {
    fn start(lines: usize, change: impl FnOnce(AcceptorBuilder) -> AcceptorBuilder) -> Self {
        let (gate, end_gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let at_work = Arc::new(AtomicUsize::new(0));
        let (sender, begun) = mpsc::unbounded_channel();
        let own = (Arc::clone(&gate), Arc::clone(&end_gate), Arc::clone(&at_work));
        let handler = move |line: Vec<u8>, conn: LineConn| {
            let ((gate, end_gate, at_work), sender) = (own.clone(), sender.clone());
            async move {
                let working = Working::begin(at_work);
                let line = String::from_utf8(line).unwrap();
                sender.send(line.clone()).unwrap();
                let gate = if line.parse::<u32>().is_ok() { gate } else { end_gate };
                gate.acquire().await.unwrap().forget();
                drop(working);
                match line.as_str() {
                    "error" => Err(io::Error::other("on purpose")),
                    "panic" => panic!("on purpose"),
                    "close" => {
                        conn.close();
                        Ok(())
                    }
                    _ => conn.send(line).await,
                }
            }
        };
        let acceptor = change(local().concurrent_lines(lines)).line_handler(handler).build().unwrap();
        Self { acceptor, gate, end_gate, at_work, begun }
    }

    fn at_work(&self) -> usize {
        self.at_work.load(Ordering::SeqCst)
    }

    async fn begun(&mut self) -> String {
        in_time("a handler", self.begun.recv()).await.unwrap()
    }
}

/// Counts as a line at work until it is dropped.
struct Working(Arc<AtomicUsize>);

impl Working {
    fn begin(at_work: Arc<AtomicUsize>) -> Self {
        at_work.fetch_add(1, Ordering::SeqCst);
        Self(at_work)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(stream: &mut BufStream<TcpStream>) -> String {
    let mut line = String::new();
    in_time("an answer", stream.read_line(&mut line)).await.unwrap();
    line.trim_end().to_owned()
}

/// The next answers, sorted.
async fn answers(stream: &mut BufStream<TcpStream>, count: usize) -> Vec<String> {
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(answer(stream).await);
    }
    answers.sort();
    answers
}

/// How a connection has ended.
fn closed(event: &Event) -> Option<EndReason> {
    match event {
        Event::Closed { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

async fn send(stream: &mut BufStream<TcpStream>, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn lines_are_handled_at_the_same_time() {
    let barrier = Arc::new(Barrier::new(3));
    let acceptor = local()
        .concurrent_lines(3)
        .line_handler(move |line: Vec<u8>, conn: LineConn| {
            let barrier = Arc::clone(&barrier);
            async move {
                // None of them ends before all have begun.
                barrier.wait().await;
                conn.send(line).await
            }
        })
        .build()
        .unwrap();
    let mut stream = BufStream::new(client(&acceptor).await);
    for _ in 0..20 {
        send(&mut stream, "a\nb\nc\n").await;
        assert_eq!(answers(&mut stream, 3).await, ["a", "b", "c"]);
    }
}

#[tokio::test]
async fn no_more_than_set_are_at_work() {
    let mut server = Gated::start(2, |builder| builder);
    let mut stream = BufStream::new(client(&server.acceptor).await);
    send(&mut stream, "1\n2\n3\n4\n").await;
    assert_eq!((server.begun().await, server.begun().await), ("1".into(), "2".into()));
    sleep(Duration::from_millis(20)).await;
    assert!(server.begun.try_recv().is_err());
    assert_eq!(server.at_work(), 2);
    for expected in ["3", "4"] {
        server.gate.add_permits(1);
        assert_eq!(server.begun().await, expected);
        assert_eq!(server.at_work(), 2);
    }
    server.gate.add_permits(2);
    assert_eq!(answers(&mut stream, 4).await, ["1", "2", "3", "4"]);
}

/// The end of the stream, a close and an error: what is at work is answered, and what follows is not read.
#[tokio::test]
async fn lines_at_work_run_to_their_end() {
    for end in ["", "close\n", "error\n"] {
        let (hook, mut events) = recorder();
        let mut server = Gated::start(8, |builder| builder.on_event(hook));
        let mut stream = BufStream::new(client(&server.acceptor).await);
        send(&mut stream, &format!("{end}1\n2\n")).await;
        for _ in 0..2 + end.lines().count() {
            server.begun().await;
        }
        if end.is_empty() {
            stream.shutdown().await.unwrap();
        } else {
            server.end_gate.add_permits(1);
            in_time("its end", async {
                while server.at_work() > 2 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        sleep(Duration::from_millis(20)).await;
        assert_eq!(server.acceptor.stats().busy, 1);
        if !end.is_empty() {
            send(&mut stream, "3\n").await;
        }
        server.gate.add_permits(2);
        assert_eq!(answers(&mut stream, 2).await, ["1", "2"], "{end}");
        assert_eq!(answer(&mut stream).await, "", "{end}");
        drop(stream);
        let reason = event(&mut events, closed).await;
        assert_eq!(matches!(reason, EndReason::Failed(_)), end == "error\n", "{end} {reason}");
        assert!(server.begun.try_recv().is_err());
    }
}

/// An error is that of the connection, also after the end of the stream or a close, which are none.
#[tokio::test]
async fn error_of_a_line_counts_after_the_end_of_the_lines() {
    for (lines, closes) in [("error\n", true), ("close\nerror\n", false)] {
        let (hook, mut events) = recorder();
        let mut server = Gated::start(8, |builder| builder.on_event(hook));
        let mut stream = BufStream::new(client(&server.acceptor).await);
        send(&mut stream, lines).await;
        for _ in lines.lines() {
            server.begun().await;
        }
        if closes {
            stream.shutdown().await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
        server.end_gate.add_permits(2);
        assert_eq!(answer(&mut stream).await, "");
        drop(stream);
        let reason = event(&mut events, closed).await;
        assert!(matches!(&reason, EndReason::Failed(error) if error.to_string() == "on purpose"), "{reason}");
    }
}

/// A panic and a cut end all lines at work, and the connection counts as open until they have ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panic_and_cut_end_all_lines_at_work() {
    for panics in [true, false] {
        let (hook, mut events) = recorder();
        let mut server = Gated::start(8, |builder| builder.on_event(hook));
        let mut stream = BufStream::new(client(&server.acceptor).await);
        send(&mut stream, "panic\n1\n2\n").await;
        for _ in 0..3 {
            server.begun().await;
        }
        assert_eq!(server.at_work(), 3);
        if panics {
            server.end_gate.add_permits(1);
        } else {
            assert_eq!(in_time("the stop", server.acceptor.stop(Duration::from_millis(50))).await.cut, 1);
        }
        let at_work = Arc::clone(&server.at_work);
        let closed = event(&mut events, |event| closed(event).map(|reason| (reason, at_work.load(Ordering::SeqCst))));
        let (reason, left) = closed.await;
        assert_eq!(left, 0);
        match reason {
            EndReason::Panicked => assert!(panics),
            EndReason::Cut => assert!(!panics),
            other => panic!("{other}"),
        }
        if let Ok(text) = rest(&mut stream.into_inner()).await {
            assert_eq!(text, "");
        }
    }
}

#[tokio::test]
async fn stop_waits_for_all_lines_at_work() {
    let mut server = Gated::start(8, |builder| builder);
    let mut stream = BufStream::new(client(&server.acceptor).await);
    send(&mut stream, "1\n2\n3\n").await;
    for _ in 0..3 {
        server.begun().await;
    }
    let gate = Arc::clone(&server.gate);
    let answered = async {
        sleep(Duration::from_millis(20)).await;
        let mut all = Vec::new();
        for _ in 0..3 {
            gate.add_permits(1);
            all.push(answer(&mut stream).await);
        }
        all.push(answer(&mut stream).await);
        drop(stream);
        all
    };
    let stop = async { tokio::join!(server.acceptor.stop(LONG), answered) };
    let (stopped, all) = in_time("the stop", stop).await;
    assert_eq!((stopped.finished, stopped.cut), (1, 0), "{stopped:?}");
    assert_eq!(all, ["1", "2", "3", ""]);
}

/// A client that waits for its answers is not silent. After them it is.
#[tokio::test]
async fn time_limit_runs_only_while_no_line_is_at_work() {
    let limit = Duration::from_millis(100);
    let (hook, mut events) = recorder();
    let mut server = Gated::start(8, |builder| builder.idle_timeout(limit).first_byte_timeout(limit).on_event(hook));
    let mut stream = BufStream::new(client(&server.acceptor).await);
    for line in ["1\n", "2\n"] {
        send(&mut stream, line).await;
        server.begun().await;
        sleep(limit * 2).await;
    }
    assert_eq!(server.acceptor.stats().busy, 1);
    server.gate.add_permits(2);
    assert_eq!(answers(&mut stream, 2).await, ["1", "2"]);
    let reason = event(&mut events, closed).await;
    assert!(matches!(reason, EndReason::TimedOut), "{reason}");
    assert_eq!(answer(&mut stream).await, "");
}

/// A thousand lines at once: each is answered once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_is_answered_once() {
    let acceptor = local()
        .concurrent_lines(32)
        .line_handler(async |line: Vec<u8>, conn: LineConn| {
            tokio::task::yield_now().await;
            conn.send(line).await
        })
        .build()
        .unwrap();
    let (mut reader, mut writer) = client(&acceptor).await.into_split();
    let sending = async {
        let lines: String = (0..1000).map(|number| format!("{number}\n")).collect();
        writer.write_all(lines.as_bytes()).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut text = String::new();
    let (read, ()) = in_time("the answers", async { tokio::join!(reader.read_to_string(&mut text), sending) }).await;
    read.unwrap();
    let mut numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    drop((reader, writer));
    figures(&acceptor, "its end", |stats| stats.finished == 1).await;
}
