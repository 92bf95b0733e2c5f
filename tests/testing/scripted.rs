//! The scripted dialer and stream, with a `Conn` on them.

use std::io::ErrorKind;
use std::time::Duration;

use perconn::testing::{ScriptedDialer, ScriptedStream, errors, events};
use perconn::{Conn, Error, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_test::task::spawn;

use crate::support::in_time;

const SECOND: Duration = Duration::from_secs(1);

fn conn(dialer: ScriptedDialer) -> Conn<ScriptedStream> {
    Conn::builder("server.test:1").dialer(dialer).logger(|_| {}).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn dials_fail_wait_and_succeed_in_order() {
    let dialer = ScriptedDialer::new()
        .fails(ErrorKind::ConnectionRefused)
        .fails(std::io::Error::other("a reason of its own"))
        .waits(3 * SECOND)
        .connects(ScriptedStream::new().sends("x"));
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let builder = Conn::builder("server.test:1").dialer(dialer).logger(|_| {});
    let mut conn = builder.on_event(move |event| sender.send(event.clone()).unwrap()).build().unwrap();
    let began = Instant::now();
    assert_eq!(conn.read_u8().await.unwrap(), b'x');
    // Two delays of a second at least, and the wait.
    assert!(began.elapsed() >= 5 * SECOND, "{:?}", began.elapsed());
    let mut texts = Vec::new();
    while let Ok(event) = events.try_recv() {
        texts.push(event.to_string());
    }
    assert!(texts[0].contains("connection refused"), "{texts:?}");
    assert!(texts[1].contains("a reason of its own"), "{texts:?}");
    assert_eq!(texts[2..], ["connected: generation 1, dial 3"]);
}

#[tokio::test(start_paused = true)]
async fn dial_behind_the_script_never_ends() {
    let mut conn = conn(ScriptedDialer::new().connects(ScriptedStream::new().closes()));
    assert_eq!(conn.read(&mut [0]).await.unwrap(), 0);
    let day = tokio::time::timeout(86_400 * SECOND, conn.connected()).await;
    assert!(day.is_err());
}

#[tokio::test(start_paused = true)]
async fn wait_that_a_dial_timeout_ends_is_used_up() {
    let dialer = ScriptedDialer::new().waits(86_400 * SECOND).connects(ScriptedStream::new().sends("x"));
    let builder = Conn::builder("server.test:1").dialer(dialer).logger(|_| {});
    let mut conn = builder.dial_timeout(SECOND).build().unwrap();
    assert_eq!(conn.read_u8().await.unwrap(), b'x');
}

#[tokio::test(start_paused = true)]
async fn reads_wait_for_the_writes_before_them() {
    let mut stream =
        ScriptedStream::new().expects("ab").sends("c").waits(SECOND).sends("d").read_fails(ErrorKind::TimedOut);
    let mut buf = [0; 8];
    {
        let mut read = spawn(stream.read(&mut buf));
        assert!(read.poll().is_pending());
    }
    stream.write_all(b"a").await.unwrap();
    {
        let mut read = spawn(stream.read(&mut buf));
        assert!(read.poll().is_pending());
    }
    stream.write_all(b"b").await.unwrap();
    assert_eq!(stream.read(&mut buf).await.unwrap(), 1);
    let began = Instant::now();
    assert_eq!(stream.read(&mut buf).await.unwrap(), 1);
    assert_eq!(began.elapsed(), SECOND);
    assert_eq!(stream.read(&mut buf).await.unwrap_err().kind(), ErrorKind::TimedOut);
    // Behind the script, the peer is silent.
    assert!(spawn(stream.read(&mut buf)).poll().is_pending());
}

#[tokio::test]
async fn reader_in_another_task_is_woken_by_the_write() {
    let stream = ScriptedStream::new().expects("question").sends("answer");
    let (mut read, mut write) = tokio::io::split(stream);
    let reader = tokio::spawn(async move {
        let mut answer = [0; 6];
        read.read_exact(&mut answer).await.map(|_| answer)
    });
    tokio::task::yield_now().await;
    write.write_all(b"question").await.unwrap();
    assert_eq!(&in_time("the answer", reader).await.unwrap().unwrap(), b"answer");
}

#[tokio::test]
async fn write_that_differs_is_an_error_that_names_both() {
    for (wrote, expected) in [
        (&b"HELLO\n"[..], r#"the script expects "LOGIN\n", and the program wrote "HELLO\n""#),
        (b"LOGIN\nmore", r#"the script ends here, and the program wrote "more""#),
        (
            &[b'x'; 50],
            &format!(r#"the script expects "LOGIN\n", and the program wrote "{}" and 10 bytes more"#, "x".repeat(40)),
        ),
    ] {
        let mut stream = ScriptedStream::new().sends("not read yet").expects("LOGIN\n");
        let error = stream.write_all(wrote).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidData, expected));
    }
}

#[tokio::test]
async fn write_that_differs_breaks_the_stream_for_good() {
    let stream = ScriptedStream::new().expects(b"right").sends(b"answer");
    let (mut read, mut write) = tokio::io::split(stream);
    let reader = tokio::spawn(async move { read.read_u8().await });
    tokio::task::yield_now().await;
    let text = write.write_all(b"wrong").await.unwrap_err().to_string();
    assert_eq!(write.write_all(b"right").await.unwrap_err().to_string(), text);
    assert_eq!(in_time("the reader is woken", reader).await.unwrap().unwrap_err().to_string(), text);
}

#[tokio::test]
async fn writes_fail_or_take_anything() {
    let stream =
        ScriptedStream::new().expects("").sends("").write_fails(ErrorKind::BrokenPipe).sends("x").expects_anything();
    let mut stream = stream.sends("y").closes();
    assert_eq!(stream.write(b"").await.unwrap(), 0);
    assert!(spawn(stream.read_u8()).poll().is_pending());
    assert_eq!(stream.write_all(b"a").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    stream.write_all(b"anything").await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"xy");
    stream.write_all(b"at all").await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn broken_link_is_reported_with_the_scripts_own_error() {
    let mut conn = conn(ScriptedDialer::new().connects(ScriptedStream::new().expects("right")));
    let error = conn.write_all(b"wrong").await.unwrap_err();
    let text = Error::of(&error).unwrap().with_causes().to_string();
    assert!(text.contains(r#"the script expects "right", and the program wrote "wrong""#), "{text}");
}

#[test]
fn events_and_errors_look_as_those_of_a_connection() {
    let refused = ErrorKind::ConnectionRefused;
    let texts = [
        events::connected(1),
        events::disconnected(1, ErrorKind::ConnectionReset, SECOND),
        events::dial_failed(1, refused, None),
        events::reconnected(2, 2),
        events::gave_up(7),
    ]
    .map(|event: Event| event.to_string());
    let expected = [
        "connected: generation 1, dial 1",
        "disconnected: generation 1 after 3600.0s: connection reset, next dial in 1.0s",
        "dial 1 failed: connection refused, no further dial",
        "reconnected: generation 2, dial 2",
        "gave up after 7 dials: connection refused",
    ];
    assert_eq!(texts, expected);
    let generations = [
        errors::io_error(perconn::Op::Write, 3, refused).generation(),
        errors::short_link(4, refused).generation(),
        errors::dial_failure(1, refused).generation(),
        errors::down().generation(),
        errors::wait_timeout(SECOND).generation(),
    ];
    assert_eq!(generations, [Some(3), Some(4), None, None, None]);
    assert!(errors::gave_up(1).is_final());
    assert_eq!(errors::wait_timeout(SECOND).to_string(), "no link to server.test:1 within 1s");
}
