//! A server that refuses the client's certificate after the client's handshake, and a client that only writes.
//!
//! Next: [`closed`](crate::closed), the end of an acceptor during handshakes.

use std::io::{self, ErrorKind};
use std::time::Duration;

use perconn::tokio_rustls::client::TlsStream;
use perconn::tokio_rustls::server;
use perconn::{Conn, Error, RefusedCertificate, Retry, SharedConn, WriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::client::{Authority, accept, acceptor, server_config};
use crate::support::{Server, in_time, quick, reported_generation};

/// The stream of the links.
type Stream = TlsStream<TcpStream>;

/// The server's end of a link: an error if the server has refused the client.
type Peer = io::Result<server::TlsStream<TcpStream>>;

/// A connection, and the server's end of its only link.
async fn link(has_own_certificate: bool) -> (Conn<Stream>, Peer) {
    let (conn, peer, _) = logged_link(has_own_certificate).await;
    (conn, peer)
}

/// The same, with what the connection logs.
async fn logged_link(has_own_certificate: bool) -> (Conn<Stream>, Peer, UnboundedReceiver<String>) {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("localhost"), Some(&authority), &[]);
    let own = authority.issue("agent");
    let tls = match has_own_certificate {
        true => authority.trusted().client_certificate_pem(own.certificate, own.key),
        false => authority.trusted(),
    };
    let (log, lines) = unbounded_channel();
    let builder = quick(Conn::builder(("localhost", server.address.port()))).max_retries(0);
    let builder = builder.logger(move |error| drop(log.send(error.with_causes().to_string())));
    let (conn, peer) = tokio::join!(builder.tls(tls).unwrap().connect(), accept(&server, &acceptor));
    (conn.unwrap(), peer, lines)
}

/// Writes until the link breaks. Some writes may come before the server's refusal.
async fn write_until_it_breaks(mut write: impl AsyncFnMut() -> io::Result<()>) -> io::Error {
    in_time("the break", async {
        loop {
            if let Err(error) = write().await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// The server's reason is the cause of the break.
fn assert_refused(error: &io::Error, who: &str) {
    assert_eq!(reported_generation(error), 1);
    let text = Error::of(error).unwrap().with_causes().to_string();
    assert!(text.contains("CertificateRequired"), "{who}: {text}");
    assert_eq!(Error::of(error).unwrap().refused_certificate(), Some(RefusedCertificate::Client), "{who}");
}

async fn whole(mut conn: Conn<Stream>) -> io::Error {
    write_until_it_breaks(async || {
        conn.write_all(b"x").await?;
        conn.flush().await
    })
    .await
}

async fn half(write: &mut WriteHalf<Stream>) -> io::Error {
    write_until_it_breaks(async || {
        write.write_all(b"x").await?;
        write.flush().await
    })
    .await
}

async fn shared(conn: &SharedConn<Stream>) -> io::Error {
    write_until_it_breaks(async || conn.write_all(b"x").await).await
}

/// All kinds of writers, and what a reading half then reads.
async fn every_writer_learns_why() {
    let (conn, peer) = link(false).await;
    assert!(peer.is_err());
    assert_refused(&whole(conn).await, "a whole connection");

    let (mut read, mut write) = link(false).await.0.into_split();
    assert_refused(&half(&mut write).await, "a writing half");
    let error = in_time("read", read.read(&mut [0])).await.unwrap_err();
    assert_refused(&error, "the reading half");

    // A reader that waits all the time may be faster. Both get the reason.
    let (mut read, mut write) = link(false).await.0.into_split();
    let reader = tokio::spawn(async move { in_time("read", read.read(&mut [0])).await.unwrap_err() });
    assert_refused(&half(&mut write).await, "a writing half beside a reader");
    assert_refused(&in_time("the reader", reader).await.unwrap(), "a reader beside a writing half");

    // A job of a shared connection fails only if the break cuts it. The break is in the log and in the reads.
    let (conn, _, mut log) = logged_link(false).await;
    let conn = conn.into_shared();
    shared(&conn).await;
    let line = in_time("the log", log.recv()).await.unwrap();
    assert!(line.contains("on link 1") && line.contains("CertificateRequired"), "a shared connection: {line}");
    assert_refused(&in_time("read", conn.read(&mut [0])).await.unwrap_err(), "a read of a shared connection");
}

#[tokio::test]
async fn refusal_of_the_clients_certificate_is_the_error_of_a_program_that_only_writes() {
    for _ in 0..20 {
        every_writer_learns_why().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusal_races_with_writes_on_several_threads() {
    for _ in 0..20 {
        every_writer_learns_why().await;
    }
}

/// Looking for the reason takes nothing away from the reader: neither bytes nor the end of the session.
#[tokio::test]
async fn reader_gets_what_had_arrived_and_the_end_after_the_writer_has_found_the_close() {
    for is_clean in [true, false] {
        let (conn, peer) = link(true).await;
        let (mut read, mut write) = conn.into_split();
        let mut peer = peer.unwrap();
        peer.write_all(&[7; 9000]).await.unwrap();
        peer.flush().await.unwrap();
        if is_clean {
            peer.shutdown().await.unwrap();
        }
        drop(peer);
        let error = half(&mut write).await;
        assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::BrokenPipe, 1), "{error:?}");
        let mut bytes = Vec::new();
        let end = in_time("the end", read.read_to_end(&mut bytes)).await;
        assert_eq!(bytes, [7; 9000]);
        match end {
            Ok(_) => assert!(is_clean),
            Err(error) => assert!(!is_clean && error.kind() == ErrorKind::UnexpectedEof, "{error:?}"),
        }
    }
}

/// The same if the session ends with an error, which the writer reports first.
#[tokio::test]
async fn reader_gets_what_had_arrived_and_then_the_same_error_as_the_writer() {
    for sent in [1, 9000] {
        let (conn, peer) = link(true).await;
        let (mut read, mut write) = conn.into_split();
        let mut peer = peer.unwrap();
        peer.write_all(&vec![7; sent]).await.unwrap();
        peer.flush().await.unwrap();
        // A record that is not encrypted with the session's keys, and then the end.
        let socket = peer.get_mut().0;
        socket.write_all(&[0x17, 3, 3, 0, 20]).await.unwrap();
        socket.write_all(&[0; 20]).await.unwrap();
        drop(peer);
        let error = half(&mut write).await;
        assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::InvalidData, 1), "{error:?}");
        let mut bytes = vec![0; sent];
        in_time("what had arrived", read.read_exact(&mut bytes)).await.unwrap();
        assert!(bytes.iter().all(|byte| *byte == 7));
        let error = in_time("the error", read.read(&mut [0])).await.unwrap_err();
        assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::InvalidData, 1), "{error:?}");
    }
}

/// A refused writer does not wait: the reason is there or it is not.
#[tokio::test]
async fn close_without_a_reason_is_reported_as_before() {
    let (mut conn, peer) = link(true).await;
    drop(peer);
    let error = write_until_it_breaks(async || conn.write_all(b"x").await).await;
    assert_eq!((error.kind(), reported_generation(&error)), (ErrorKind::BrokenPipe, 1), "{error:?}");
}

/// A server that closes with unread bytes resets the connection, and its alert arrives before the reset. It is still
/// the reason that both halves report.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn refusal_is_found_beneath_the_reset_that_follows_it() {
    use perconn::tokio_rustls::rustls::ServerConnection;
    for is_written_before in [false, true] {
        for reads_first in [false, true] {
            let authority = Authority::new();
            let config = server_config(&authority.issue("localhost"), Some(&authority), &[]);
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (written, go_on) = std::sync::mpsc::channel();
            let server = std::thread::spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                let mut session = ServerConnection::new(std::sync::Arc::new(config)).unwrap();
                while !session.wants_write() {
                    session.read_tls(&mut socket).unwrap();
                    session.process_new_packets().unwrap();
                }
                while session.wants_write() {
                    session.write_tls(&mut socket).unwrap();
                }
                go_on.recv().unwrap();
                // Reads a part of what the client has sent, and closes with the rest unread.
                while session.process_new_packets().is_ok() {
                    session.read_tls(&mut io::Read::take(&mut socket, 200)).unwrap();
                }
                while session.wants_write() {
                    session.write_tls(&mut socket).unwrap();
                }
            });
            let builder = quick(Conn::builder(("localhost", address.port()))).max_retries(0);
            let conn = in_time("connect", builder.tls(authority.trusted()).unwrap().connect()).await.unwrap();
            let (mut read, mut write) = conn.into_split();
            if is_written_before {
                write.write_all(&[7; 100_000]).await.unwrap();
                in_time("flush", write.flush()).await.unwrap();
            }
            written.send(()).unwrap();
            let hang = tokio::task::spawn_blocking(move || server.join().unwrap());
            in_time("the server", hang).await.unwrap();
            if reads_first {
                let error = in_time("read", read.read(&mut [0])).await.unwrap_err();
                assert_refused(&error, "the reader");
                assert_refused(&half(&mut write).await, "the writer after the reader");
            } else {
                assert_refused(&half(&mut write).await, "the writer");
                let error = in_time("read", read.read(&mut [0])).await.unwrap_err();
                assert_refused(&error, "the reader after the writer");
            }
        }
    }
}

/// The program's verdict ends a connection whose server refuses its certificate, after the handshake.
#[tokio::test]
async fn program_stops_when_the_server_refuses_its_certificate() {
    let (server, authority) = (Server::start().await, Authority::new());
    let acceptor = acceptor(&authority.issue("localhost"), Some(&authority), &[]);
    let builder = quick(Conn::builder(("localhost", server.address.port()))).stable_after(Duration::from_secs(60));
    let builder = builder.retry_if(|error, _| match error.refused_certificate() {
        Some(RefusedCertificate::Client) => Retry::Stop,
        _ => Retry::Backoff,
    });
    let builder = builder.tls(authority.trusted()).unwrap();
    let (conn, peer) = tokio::join!(builder.connect(), accept(&server, &acceptor));
    assert!(peer.is_err());
    let mut conn = conn.unwrap();
    let error = in_time("the break", conn.read(&mut [0])).await.unwrap_err();
    assert_refused(&error, "the break");
    let error = in_time("the end", conn.read(&mut [0])).await.unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::GaveUp { attempts: 1, .. })), "{error:?}");
    assert_eq!(Error::of(&error).unwrap().refused_certificate(), Some(RefusedCertificate::Client));
}

/// A server whose certificate this program does not trust, or that has another name.
#[tokio::test]
async fn certificate_of_the_server_that_is_refused_is_recognisable() {
    let (server, authority, other) = (Server::start().await, Authority::new(), Authority::new());
    for (certificate, trusted) in [("localhost", &other), ("elsewhere", &authority)] {
        let acceptor = acceptor(&authority.issue(certificate), None, &[]);
        let builder = quick(Conn::builder(("localhost", server.address.port()))).tls(trusted.trusted()).unwrap();
        let (conn, peer) = tokio::join!(builder.connect(), accept(&server, &acceptor));
        assert!(peer.is_err());
        let error = conn.unwrap_err();
        assert_eq!(error.refused_certificate(), Some(RefusedCertificate::Server), "{error:?}");
    }
}
