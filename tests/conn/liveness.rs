//! Keepalive, user timeout and idle timeout: a dead peer is detected, and a quiet one keeps its link.
//!
//! The idle timeout is implemented in this crate and tested here under paused time. `partitions` tests what the kernel does
//! when packets are dropped.

use std::io;
use std::time::Duration;

use crate::support::{Server, in_time, perconn_error, quick, reported_generation};
use perconn::{Conn, Error, Keepalive, dial_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(10);

/// A connection over pipes with an idle timeout, and the peer ends of its links.
async fn with_idle_timeout() -> (Conn<DuplexStream>, mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, peers) = mpsc::unbounded_channel();
    let dialer = dial_fn(move || {
        let (near, far) = tokio::io::duplex(1_000_000);
        sender.send(far).unwrap();
        std::future::ready(Ok(near))
    });
    let builder = quick(Conn::builder("memory").dialer(dialer)).idle_timeout(LIMIT);
    (in_time("connect", builder.connect()).await.unwrap(), peers)
}

fn assert_silent(error: &io::Error, generation: u64) {
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(reported_generation(error), generation);
    let cause = std::error::Error::source(perconn_error(error)).unwrap().to_string();
    assert_eq!(cause, "nothing was received for 10s");
}

#[tokio::test(start_paused = true)]
async fn read_that_receives_nothing_for_the_limit_breaks_the_link() {
    let (mut conn, mut peers) = with_idle_timeout().await;
    let _silent = peers.recv().await.unwrap();
    let began = Instant::now();
    let error = conn.read_u8().await.unwrap_err();
    assert_silent(&error, 1);
    assert_eq!(began.elapsed(), LIMIT);
    // The limit of the next link starts with that link.
    let mut peer = peers.recv().await.unwrap();
    let began = Instant::now();
    let (read, ()) = tokio::join!(conn.read_u8(), async {
        sleep(LIMIT * 9 / 10).await;
        peer.write_u8(7).await.unwrap();
    });
    assert_eq!((read.unwrap(), began.elapsed()), (7, LIMIT * 9 / 10));
    assert_silent(&conn.read_u8().await.unwrap_err(), 2);
    assert_eq!(began.elapsed(), LIMIT * 19 / 10, "the time starts over with each byte");
}

#[tokio::test(start_paused = true)]
async fn sent_bytes_do_not_hide_a_silent_peer() {
    let (mut conn, mut peers) = with_idle_timeout().await;
    let _silent = peers.recv().await.unwrap();
    let began = Instant::now();
    // This side sends heartbeats; each one cancels the read, which is called again.
    let error = loop {
        tokio::select! {
            read = conn.read_u8() => break read.unwrap_err(),
            () = sleep(LIMIT / 4 - Duration::from_millis(1)) => {}
        }
        conn.write_u8(1).await.unwrap();
    };
    assert_silent(&error, 1);
    assert_eq!(began.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn both_halves_report_the_timeout() {
    let (conn, mut peers) = with_idle_timeout().await;
    let _silent = peers.recv().await.unwrap();
    let (mut read, mut write) = conn.into_split();
    let writer = tokio::spawn(async move {
        loop {
            if let Err(error) = write.write_u8(1).await {
                break error;
            }
            sleep(LIMIT / 7).await;
        }
    });
    assert_silent(&read.read_u8().await.unwrap_err(), 1);
    assert_silent(&writer.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn link_does_not_break_while_no_read_waits() {
    let (mut conn, mut peers) = with_idle_timeout().await;
    let mut peer = peers.recv().await.unwrap();
    for _ in 0..20 {
        conn.write_u8(1).await.unwrap();
        sleep(LIMIT).await;
    }
    // The wait of a read that was cancelled long ago does not count for the next read.
    assert!(timeout(LIMIT / 2, conn.read_u8()).await.is_err());
    sleep(LIMIT * 2).await;
    let (read, ()) = tokio::join!(conn.read_u8(), async {
        sleep(LIMIT * 9 / 10).await;
        peer.write_u8(7).await.unwrap();
    });
    assert_eq!(read.unwrap(), 7);
    assert_eq!(conn.generation(), 1);
}

/// A request after a long pause: the read before it was cancelled, and its time has long run out.
#[tokio::test(start_paused = true)]
async fn read_after_the_time_has_run_out_gets_the_whole_time_again() {
    let (mut conn, mut peers) = with_idle_timeout().await;
    let mut peer = peers.recv().await.unwrap();
    for _ in 0..3 {
        assert!(timeout(LIMIT / 30, conn.read_u8()).await.is_err());
        sleep(LIMIT * 3 / 2).await;
        let (read, ()) = tokio::join!(conn.read_u8(), async {
            sleep(LIMIT * 9 / 10).await;
            peer.write_u8(7).await.unwrap();
        });
        assert_eq!(read.unwrap(), 7);
    }
    assert!(timeout(LIMIT / 30, conn.read_u8()).await.is_err());
    sleep(LIMIT * 3 / 2).await;
    let began = Instant::now();
    assert_silent(&conn.read_u8().await.unwrap_err(), 1);
    assert_eq!(began.elapsed(), LIMIT);
}

/// In real time.
#[tokio::test]
async fn runtime_that_is_blocked_repeatedly_does_not_hide_the_silence() {
    let server = Server::start().await;
    let limit = Duration::from_millis(40);
    let (conn, _silent) = tokio::join!(server.client().idle_timeout(limit).connect(), server.accept());
    let mut conn = conn.unwrap();
    let reading = tokio::spawn(async move { conn.read_u8().await });
    for _ in 0..50 {
        std::thread::sleep(limit * 5 / 2);
        tokio::task::yield_now().await;
        if reading.is_finished() {
            break;
        }
    }
    assert!(reading.is_finished(), "no timeout in 50 rounds");
    assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
}

/// An urgent byte makes a read end before the bytes after it, and the runtime then assumes that the socket is drained.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn urgent_data_hides_neither_bytes_nor_silence() {
    let server = Server::start().await;
    let limit = Duration::from_millis(100);
    let (conn, mut peer) = tokio::join!(server.client().idle_timeout(limit).connect(), server.accept());
    let mut conn = conn.unwrap();
    peer.write_all(b"abc").await.unwrap();
    socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    peer.write_all(b"def").await.unwrap();
    let mut text = [0; 6];
    in_time("read", conn.read_exact(&mut text)).await.unwrap();
    assert_eq!(&text, b"abcdef");
    assert_eq!(in_time("the timeout", conn.read_u8()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

/// Bytes that the peer had not received at the timeout must not reach it later, although an idle half holds the socket.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
#[tokio::test]
async fn link_is_aborted_at_the_timeout_although_the_other_half_holds_it() {
    let server = Server::start().await;
    let limit = Duration::from_millis(300);
    let (conn, mut peer) = tokio::join!(server.client().idle_timeout(limit).connect(), server.accept());
    let (mut read, mut write) = conn.unwrap().into_split();
    let mut written = 0;
    while let Ok(n) = timeout(Duration::from_millis(50), write.write(&[7; 100_000])).await {
        written += n.unwrap();
    }
    assert_eq!(in_time("the timeout", read.read_u8()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    // The write half has not been used since then.
    let mut received = Vec::new();
    let end = in_time("the peer's end", peer.read_to_end(&mut received)).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(received.len() < written, "all of {written} bytes have arrived");
}

#[tokio::test(start_paused = true)]
async fn slow_peer_keeps_its_link() {
    let (mut conn, mut peers) = with_idle_timeout().await;
    let mut peer = peers.recv().await.unwrap();
    let trickle = tokio::spawn(async move {
        for byte in 0..50 {
            sleep(LIMIT - Duration::from_millis(1)).await;
            peer.write_u8(byte).await.unwrap();
        }
        peer
    });
    for byte in 0..50 {
        assert_eq!(conn.read_u8().await.unwrap(), byte);
    }
    drop(trickle);
    assert_eq!(conn.generation(), 1);
}

#[tokio::test(start_paused = true)]
async fn limit_beyond_the_clock_is_no_limit() {
    let (mut conn, mut peers) = {
        let (sender, peers) = mpsc::unbounded_channel();
        let dialer = dial_fn(move || {
            let (near, far) = tokio::io::duplex(64);
            sender.send(far).unwrap();
            std::future::ready(Ok(near))
        });
        let builder = quick(Conn::builder("memory").dialer(dialer)).idle_timeout(Duration::MAX);
        (builder.connect().await.unwrap(), peers)
    };
    let _silent = peers.recv().await.unwrap();
    assert!(timeout(Duration::from_secs(100 * 365 * 86_400), conn.read_u8()).await.is_err());
    assert_eq!(conn.generation(), 1);
}

/// In real time: a runtime that could not poll its sockets must not mistake late bytes for silence.
#[tokio::test]
async fn byte_that_came_while_the_runtime_was_blocked_counts() {
    let server = Server::start().await;
    let limit = Duration::from_millis(100);
    let (conn, mut peer) = tokio::join!(server.client().idle_timeout(limit).connect(), server.accept());
    let mut conn = conn.unwrap();
    assert!(timeout(limit / 10, conn.read_u8()).await.is_err(), "the wait has begun");
    peer.write_u8(7).await.unwrap();
    // Blocks the only thread for longer than the limit.
    std::thread::sleep(limit * 3 / 2);
    assert_eq!(in_time("read", conn.read_u8()).await.unwrap(), 7);
    assert_eq!(conn.generation(), 1);
}

#[cfg(all(target_os = "linux", not(perconn_portable)))]
#[tokio::test]
async fn options_are_set_again_on_every_link() {
    let server = Server::start().await;
    let keepalive = Keepalive::new(Duration::from_millis(41_500)).interval(Duration::from_secs(7)).probes(5);
    let builder = server.client().keepalive(keepalive).user_timeout(Duration::from_millis(12_345));
    let (conn, mut peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    for generation in 1..4 {
        let socket = socket2::SockRef::from(conn.get_ref().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(42), "rounded up");
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 5);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(12_345)));
        conn.break_link(generation);
        peer = server.accept().await;
        crate::support::wait_for_generation(&conn, generation + 1).await;
        assert_eq!(reported_generation(&conn.read_u8().await.unwrap_err()), generation);
    }
    drop(peer);
}

// On Linux, the test above reads it back.
#[cfg(any(target_os = "macos", windows))]
#[tokio::test]
async fn user_timeout_is_an_option_of_the_systems_sockets() {
    let server = Server::start().await;
    let builder = server.client().user_timeout(Duration::from_millis(12_345));
    let (conn, _peer) = tokio::join!(in_time("connect", builder.connect()), server.accept());
    conn.unwrap();
}

#[tokio::test]
async fn invalid_settings_are_named() {
    let error = |builder: perconn::Builder| match builder.build() {
        Err(Error::InvalidConfig(text)) => text,
        other => panic!("{other:?}"),
    };
    let builder = || Conn::builder("localhost:1");
    let ms = Duration::from_millis;
    for (builder, text) in [
        (builder().idle_timeout(Duration::ZERO), "idle_timeout 0ns: expected more than zero, or None for no limit"),
        (builder().keepalive(ms(999)), "keepalive 999ms: expected 1s to 32767s"),
        (builder().keepalive(ms(32_767_001)), "keepalive 32767.001s: expected 1s to 32767s"),
        (
            builder().keepalive(Keepalive::new(ms(1_000)).interval(ms(0))),
            "keepalive interval 0ns: expected 1s to 32767s",
        ),
        (builder().keepalive(Keepalive::new(ms(1_000)).probes(0)), "keepalive probes 0: expected 1 to 127"),
        (builder().keepalive(Keepalive::new(ms(1_000)).probes(128)), "keepalive probes 128: expected 1 to 127"),
    ] {
        assert_eq!(error(builder), text);
    }
    #[cfg(any(all(target_os = "linux", not(perconn_portable)), target_os = "macos", windows))]
    for (limit, text) in [
        (Duration::from_micros(999), "user_timeout 999µs: expected 1ms to 2147483.647s"),
        (Duration::MAX, "user_timeout 18446744073709551615.999999999s: expected 1ms to 2147483.647s"),
    ] {
        assert_eq!(error(builder().user_timeout(limit)), text);
    }
    #[cfg(any(perconn_portable, target_os = "freebsd"))]
    assert_eq!(error(builder().user_timeout(ms(1_000))), "user_timeout 1s: this platform has no TCP_USER_TIMEOUT");
}
