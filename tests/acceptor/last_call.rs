//! What a stop lets through: requests that have arrived, answers under way, and what the handler itself ends.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perconn::acceptor::{Acceptor, LineConn, Stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::common::{LONG, client, echo, exchange, figures, local, rest};
use crate::support::in_time;

/// Answers each line, a number of milliseconds, after that time, and reads the next ones meanwhile.
async fn serve_several(stream: Stream) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    let mut work = JoinSet::new();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(millis) => {
                    let time = Duration::from_millis(millis.parse().unwrap());
                    work.spawn(async move {
                        sleep(time).await;
                        format!("{millis} done\n")
                    });
                }
                None if work.is_empty() => return Ok(()),
                None => return Err(io::Error::other("requests are given up")),
            },
            Some(done) = work.join_next() => write.write_all(done.unwrap().as_bytes()).await?,
        }
    }
}

#[tokio::test]
async fn answers_of_several_requests_at_once_are_waited_for() {
    let acceptor = local().handler(async |stream, _| serve_several(stream).await).build().unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"500\n20\n").await.unwrap();
    let mut first = [0; 8];
    in_time("the first answer", stream.read_exact(&mut first)).await.unwrap();
    let (stopped, text) = tokio::join!(acceptor.stop(LONG), rest(&mut stream));
    assert_eq!(text.unwrap(), "500 done\n");
    assert_eq!((stopped.idle + stopped.finished, stopped.cut), (1, 0));
}

/// Both directions of a proxy, whose copies read and write independently of each other.
#[tokio::test]
async fn answer_that_comes_in_pieces_through_a_proxy_is_waited_for() {
    let server = local()
        .handler(async |mut stream, _| {
            stream.read_u8().await?;
            for piece in 0..5 {
                stream.write_all(&[b'0' + piece]).await?;
                sleep(Duration::from_millis(100)).await;
            }
            // The client's half-close is the end of its requests.
            if stream.read(&mut [0]).await? == 0 { Ok(()) } else { Err(io::Error::other("more")) }
        })
        .build()
        .unwrap();
    let upstream = server.local_addr().unwrap();
    let proxy = local()
        .handler(move |mut stream: Stream, _| async move {
            let mut upstream = TcpStream::connect(upstream).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut upstream).await.map(drop)
        })
        .build()
        .unwrap();
    let mut stream = client(&proxy).await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(in_time("the first piece", stream.read_u8()).await.unwrap(), b'0');
    let (stopped, text) = tokio::join!(proxy.stop(LONG), rest(&mut stream));
    assert_eq!(text.unwrap(), "1234");
    assert_eq!(stopped.cut, 0);
}

/// A read does not end the connection before its requests are read, which the runtime may not know of yet.
#[tokio::test]
async fn requests_that_have_arrived_are_answered() {
    for _ in 0..20 {
        let acceptor = local().handler(echo).build().unwrap();
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut stream = client(&acceptor).await;
            exchange(&mut stream).await.unwrap();
            clients.push(stream);
        }
        for stream in &clients {
            assert_eq!(stream.try_write(b"last").unwrap(), 4);
        }
        let answers = async {
            for stream in &mut clients {
                assert_eq!(rest(stream).await.unwrap(), "last");
            }
        };
        let (stopped, ()) = tokio::join!(acceptor.stop(LONG), answers);
        assert_eq!((stopped.finished, stopped.idle, stopped.cut), (20, 0, 0));
    }
}

#[tokio::test]
async fn client_that_never_pauses_does_not_hold_up_the_stop() {
    let acceptor = local().handler(echo).build().unwrap();
    let mut stream = client(&acceptor).await;
    let busy = async {
        let mut rounds = 0;
        while exchange(&mut stream).await.is_ok() {
            rounds += 1;
        }
        rounds
    };
    let begin = Instant::now();
    let (stopped, rounds) = tokio::join!(
        async {
            sleep(Duration::from_millis(20)).await;
            acceptor.stop(LONG).await
        },
        busy
    );
    assert!(rounds > 1);
    assert_eq!(stopped.cut, 0);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn handler_that_waits_for_the_stop_ends_the_connection_itself() {
    let acceptor = local()
        .handler(async |mut stream, _| {
            let stopping = stream.stopping();
            let mut clone = stopping.clone();
            loop {
                let mut byte = [0];
                tokio::select! {
                    biased;
                    () = &mut clone => break,
                    outcome = stream.read(&mut byte) => assert_eq!(outcome.unwrap(), 1),
                }
                stream.write_all(&byte).await?;
            }
            assert!(stream.is_stopping());
            stopping.await;
            drop(clone);
            stream.write_all(b"goodbye, last question?").await?;
            // Without a mark, this would be the end of the stream.
            let kept = stream.stopping();
            assert_eq!(stream.read_u8().await?, b'!');
            drop(kept);
            stream.write_all(b".").await?;
            assert_eq!(stream.read(&mut [0]).await?, 0);
            Ok(())
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(in_time("an echo", stream.read_u8()).await.unwrap(), b'x');
    let talk = async {
        let mut text = [0; 23];
        in_time("goodbye", stream.read_exact(&mut text)).await.unwrap();
        assert_eq!(&text, b"goodbye, last question?");
        sleep(Duration::from_millis(50)).await;
        stream.write_all(b"!").await.unwrap();
        rest(&mut stream).await.unwrap()
    };
    let (stopped, text) = tokio::join!(acceptor.stop(LONG), talk);
    assert_eq!(text, ".");
    assert_eq!(stopped.cut, 0);
}

#[tokio::test]
async fn stop_ends_waits_for_it_in_other_tasks_and_a_later_wait_at_once() {
    let (sender, mut waits) = tokio::sync::mpsc::unbounded_channel();
    let acceptor = local()
        .handler(move |mut stream: Stream, _| {
            let _ = sender.send(tokio::spawn(stream.stopping()));
            async move {
                let _ = stream.read(&mut [0]).await;
                stream.stopping().await;
                Ok(())
            }
        })
        .build()
        .unwrap();
    let mut clients = JoinSet::new();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let mut stream = client(&acceptor).await;
        tasks.push(in_time("the handler", waits.recv()).await.unwrap());
        clients.spawn(async move { rest(&mut stream).await });
    }
    assert!(tasks.iter().all(|task| !task.is_finished()));
    let stopped = in_time("stop", acceptor.stop(LONG)).await;
    assert_eq!((stopped.idle, stopped.cut), (3, 0));
    for task in tasks {
        in_time("the wait", task).await.unwrap();
    }
    in_time("the clients", clients.join_all()).await;
}

#[tokio::test]
async fn busy_mark_holds_the_connection_open() {
    let (release, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (gate, started) = (Arc::clone(&release), Arc::clone(&begun));
    let acceptor = local()
        .handler(move |stream: Stream, _| {
            let (gate, started) = (Arc::clone(&gate), Arc::clone(&started));
            async move {
                let busy = stream.busy();
                let (mut read, mut write) = tokio::io::split(stream);
                let order = read.read_u8().await?;
                write.write_all(b"accepted;").await?;
                let work = tokio::spawn(async move {
                    started.notify_one();
                    gate.notified().await;
                    write.write_all(&[order]).await?;
                    drop(busy);
                    io::Result::Ok(())
                });
                assert_eq!(read.read(&mut [0]).await?, 0);
                work.await.unwrap()
            }
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"x").await.unwrap();
    in_time("the work", begun.notified()).await;
    let release = async {
        // Far beyond all that the acceptor could know by itself.
        sleep(Duration::from_millis(1_500)).await;
        release.notify_one();
        rest(&mut stream).await.unwrap()
    };
    let (stopped, text) = tokio::join!(acceptor.stop(LONG), release);
    assert_eq!(text, "accepted;x");
    assert_eq!((stopped.finished, stopped.idle, stopped.cut), (1, 0, 0));
}

#[tokio::test]
async fn deadline_cuts_what_is_held_open() {
    for is_busy in [true, false] {
        let acceptor = local()
            .handler(move |mut stream: Stream, _| {
                let (busy, stopping) = (is_busy.then(|| stream.busy()), (!is_busy).then(|| stream.stopping()));
                async move {
                    let _held = (busy, stopping);
                    stream.read(&mut [0]).await.map(drop)
                }
            })
            .build()
            .unwrap();
        let _stream = client(&acceptor).await;
        figures(&acceptor, "it is served", |stats| stats.busy == 1).await;
        let stopped = in_time("stop", acceptor.stop(Duration::from_millis(100))).await;
        assert_eq!((stopped.idle, stopped.finished, stopped.cut), (0, 0, 1));
    }
}

#[tokio::test]
async fn line_that_is_answered_later_is_waited_for() {
    let acceptor = local()
        .line_handler(async |line, conn| {
            let busy = conn.busy();
            tokio::spawn(async move {
                sleep(Duration::from_millis(1_200)).await;
                conn.send(line).await.unwrap();
                drop(busy);
            });
            Ok(())
        })
        .build()
        .unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"later\n").await.unwrap();
    figures(&acceptor, "it is served", |stats| stats.busy == 1).await;
    let (stopped, text) = tokio::join!(acceptor.stop(LONG), rest(&mut stream));
    assert_eq!(text.unwrap(), "later\n");
    assert_eq!((stopped.finished, stopped.cut), (1, 0));
}

/// The client of a line handler has a second to close, which a shorter stop does not wait for.
#[tokio::test]
async fn idle_line_clients_are_not_cut_by_a_short_stop() {
    let acceptor = local().line_handler(async |line, conn| conn.send(line).await).build().unwrap();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut stream = BufReader::new(client(&acceptor).await);
        stream.write_all(b"hello\n").await.unwrap();
        in_time("an answer", stream.read_line(&mut String::new())).await.unwrap();
        clients.push(stream);
    }
    let stopped = in_time("stop", acceptor.stop(Duration::from_millis(200))).await;
    assert_eq!((stopped.idle, stopped.finished, stopped.cut), (3, 0, 0));
    let stats = acceptor.stats();
    assert_eq!((stats.finished, stats.cut), (3, 0));
}

/// As above, for lines that have arrived and are not read yet.
#[tokio::test]
async fn lines_that_have_arrived_are_answered() {
    let acceptor: Acceptor = local().line_handler(async |line, conn| conn.send(line).await).build().unwrap();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut stream = client(&acceptor).await;
        stream.write_all(b"first\n").await.unwrap();
        in_time("an answer", stream.read_exact(&mut [0; 6])).await.unwrap();
        clients.push(stream);
    }
    for stream in &clients {
        assert_eq!(stream.try_write(b"one\ntwo\nthree").unwrap(), 13);
    }
    let answers = async {
        for stream in &mut clients {
            // The half of a line is waited for, until the client ends it.
            stream.write_all(b"\n").await.unwrap();
            let mut text = vec![0; 14];
            in_time("the answers", stream.read_exact(&mut text)).await.unwrap();
            assert_eq!(text, b"one\ntwo\nthree\n");
            assert_eq!(rest(stream).await.unwrap(), "");
        }
    };
    let (stopped, ()) = tokio::join!(acceptor.stop(LONG), answers);
    assert_eq!((stopped.finished, stopped.cut), (20, 0));
}

/// Also beyond the end of the stream: many clients send their lines and shut their side down.
#[tokio::test]
async fn busy_mark_of_a_line_holds_the_connection_open_after_the_end_of_the_stream() {
    let answer = Arc::new(Notify::new());
    let own = Arc::clone(&answer);
    let handler = move |line: Vec<u8>, conn: LineConn| {
        let answer = Arc::clone(&own);
        let busy = conn.busy();
        tokio::spawn(async move {
            answer.notified().await;
            conn.send(line).await.unwrap();
            drop(busy);
        });
        std::future::ready(Ok(()))
    };
    let acceptor = local().line_handler(handler).build().unwrap();
    let mut stream = client(&acceptor).await;
    stream.write_all(b"one\n").await.unwrap();
    stream.shutdown().await.unwrap();
    figures(&acceptor, "it is served", |stats| stats.busy == 1).await;
    sleep(Duration::from_millis(20)).await;
    assert_eq!(acceptor.stats().busy, 1);
    answer.notify_one();
    assert_eq!(rest(&mut stream).await.unwrap(), "one\n");
    drop(stream);
    figures(&acceptor, "it is gone", |stats| stats.finished == 1).await;
}
