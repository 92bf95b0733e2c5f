//! TLS sessions, and how they end.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use perconn::acceptor::{Acceptor, Event, LineConn, Overflow, Stream};
use perconn::tokio_rustls::rustls::pki_types::pem::PemObject;
use perconn::tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use perconn::{Conn, Tls};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, split};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use crate::authority::{Authority, exchange, session_rest, with};
use crate::common::{LONG, echo, event, figures, fill, local, recorder};
use crate::support::in_time;

#[tokio::test]
async fn conn_of_this_crate_connects() {
    let authority = Authority::new();
    let acceptor = local().tls(authority.server().alpn(["echo"])).handler(async |stream, peer| {
        let session = stream.tls().expect("it is TLS");
        assert_eq!(session.alpn_protocol(), Some(&b"echo"[..]));
        assert!(stream.tcp().is_some());
        echo(stream, peer).await
    });
    let acceptor = acceptor.build().unwrap();
    let tls = Tls::new().roots_pem(authority.certificate.as_str()).server_name("localhost").alpn(["echo"]);
    let conn = Conn::builder(acceptor.local_addr().unwrap()).tls(tls).unwrap().logger(|_| {}).connect();
    let mut conn = in_time("connect", conn).await.unwrap();
    for _ in 0..3 {
        conn.write_all(b"hello").await.unwrap();
        conn.flush().await.unwrap();
        let mut answer = [0; 5];
        in_time("an echo", conn.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"hello");
    }
}

#[tokio::test]
async fn lines_work_over_tls_and_the_session_ends_cleanly() {
    let authority = Authority::new();
    let acceptor = local().tls(authority.server()).line_handler(async |line, conn: LineConn| {
        conn.send(line).await?;
        conn.close();
        Ok(())
    });
    let acceptor = acceptor.build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    session.write_all(b"a line\nand more\n").await.unwrap();
    session.flush().await.unwrap();
    assert_eq!(session_rest(&mut session).await.unwrap(), "a line\n");
}

#[tokio::test]
async fn handler_that_returns_ends_the_session_cleanly() {
    let authority = Authority::new();
    let acceptor = local().tls(authority.server()).handler(async |mut stream, _| {
        stream.write_all(b"goodbye").await?;
        stream.flush().await
    });
    let acceptor = acceptor.build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    // Without a close_notify, this is an error.
    assert_eq!(session_rest(&mut session).await.unwrap(), "goodbye");
}

#[tokio::test]
async fn read_sends_the_rest_of_a_write_without_a_flush() {
    let authority = Authority::new();
    const SIZE: usize = 4 << 20;
    let acceptor = local().tls(authority.server()).handler(async |mut stream, _| {
        stream.write_all(&vec![7; SIZE]).await?;
        stream.read_u8().await.map(|_| ())
    });
    let acceptor = acceptor.build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    let mut bytes = vec![0; SIZE];
    in_time("all of it", session.read_exact(&mut bytes)).await.unwrap();
    session.write_all(b"x").await.unwrap();
    session.flush().await.unwrap();
    assert_eq!(session_rest(&mut session).await.unwrap(), "");
}

#[tokio::test]
async fn read_sends_the_rest_of_an_abandoned_write() {
    let authority = Authority::new();
    for in_another_task in [false, true] {
        let (sender, taken) = oneshot::channel();
        let sender = Mutex::new(Some(sender));
        let acceptor = local().tls(authority.server()).handler(move |mut stream, _| {
            let sender = sender.lock().unwrap().take().unwrap();
            async move {
                if !in_another_task {
                    let _ = sender.send(fill(&mut stream).await?);
                    return stream.read_u8().await.map(drop);
                }
                let (mut reader, mut writer) = split(stream);
                let reading = tokio::spawn(async move { reader.read_u8().await });
                yield_now().await; // the read waits
                let _ = sender.send(fill(&mut writer).await?);
                reading.await?.map(drop)
            }
        });
        let acceptor = acceptor.build().unwrap();
        let mut session = authority.session(&acceptor).await.unwrap();
        let mut bytes = vec![0; in_time("a write that waits", taken).await.unwrap()];
        in_time("what was taken", session.read_exact(&mut bytes)).await.unwrap();
        session.write_all(b"x").await.unwrap();
        session.flush().await.unwrap();
        assert_eq!(session_rest(&mut session).await.unwrap(), "");
    }
}

#[tokio::test]
async fn stop_lets_an_answer_arrive_that_the_session_has_buffered() {
    let authority = Authority::new();
    let (sender, taken) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let acceptor = local().tls(authority.server()).handler(move |mut stream, _| {
        let sender = sender.lock().unwrap().take().unwrap();
        async move {
            // No write has to wait, but the session buffers a part of the last one.
            let mut taken = 0;
            while !stream.tls().unwrap().wants_write() {
                yield_now().await; // otherwise the cooperative budget may run out, which looks like a full socket
                taken += stream.write(&[7; 10_000]).await?;
            }
            let _ = sender.send(taken);
            while stream.read(&mut [0; 16]).await? > 0 {}
            Ok(())
        }
    });
    let acceptor = acceptor.build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    let taken = in_time("the answer", taken).await.unwrap();
    let reading = async {
        // The stop begins first.
        sleep(Duration::from_millis(100)).await;
        let mut bytes = Vec::new();
        in_time("the end of the session", session.read_to_end(&mut bytes)).await.unwrap();
        bytes.len()
    };
    let (stopped, read) = tokio::join!(in_time("stop", acceptor.stop(LONG)), reading);
    assert_eq!((read, stopped.cut), (taken, 0));
}

#[tokio::test]
async fn panic_does_not_look_like_a_clean_end() {
    let authority = Authority::new();
    let acceptor = local().tls(authority.server()).handler(async |mut stream, _| {
        stream.write_all(b"half an ans").await?;
        stream.flush().await?;
        panic!("on purpose")
    });
    let acceptor = acceptor.build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    let error = session_rest(&mut session).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// Sends these bytes, reads `answer` bytes, and leaves without a close_notify.
async fn leave(authority: &Authority, acceptor: &Acceptor, bytes: &[u8], answer: usize) {
    let mut session = authority.session(acceptor).await.unwrap();
    session.write_all(bytes).await.unwrap();
    session.flush().await.unwrap();
    in_time("the answer", session.read_exact(&mut vec![0; answer])).await.unwrap();
    drop(session);
}

#[tokio::test]
async fn client_that_leaves_without_a_close_notify_has_finished_if_nothing_was_under_way() {
    let authority = Authority::new();
    let (hook, mut events) = recorder();
    // It echoes what ends with a full stop, and waits for the rest of what does not.
    let handler = async |mut stream: Stream, _| {
        let mut buffer = [0; 100];
        loop {
            let outcome = stream.read(&mut buffer).await;
            let truncated = outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
            assert!(truncated || matches!(outcome, Ok(1..)), "{outcome:?}");
            let bytes = &buffer[..outcome?];
            if bytes.ends_with(b".") {
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
        }
    };
    let acceptor = local().tls(authority.server()).on_event(hook).handler(handler).build().unwrap();
    let mut reason = async || {
        event(&mut events, |event| match event {
            Event::Closed { reason, .. } => Some(reason.to_string()),
            _ => None,
        })
        .await
    };
    leave(&authority, &acceptor, b"", 0).await;
    assert_eq!(reason().await, "finished");
    leave(&authority, &acceptor, b"a whole request.", 16).await;
    assert_eq!(reason().await, "finished");
    leave(&authority, &acceptor, b"half a requ", 0).await;
    let text = reason().await;
    assert!(text.starts_with("failed: ") && text.contains("close_notify"), "{text}");
    let stats = acceptor.stats();
    assert_eq!((stats.finished, stats.failed), (2, 1));
}

#[tokio::test]
async fn client_of_lines_that_leaves_without_a_close_notify_has_finished_after_a_whole_line() {
    let authority = Authority::new();
    let handler = async |line, conn: LineConn| conn.send(line).await;
    let acceptor = local().tls(authority.server()).line_handler(handler).build().unwrap();
    leave(&authority, &acceptor, b"a line\n", 7).await;
    figures(&acceptor, "it is gone", |stats| stats.busy == 0 && stats.finished == 1).await;
    leave(&authority, &acceptor, b"a line\nhalf a li", 7).await;
    figures(&acceptor, "it is gone", |stats| stats.busy == 0 && stats.failed == 1).await;
}

#[tokio::test]
async fn lines_without_an_end_are_dropped_if_the_client_leaves_without_a_close_notify() {
    let authority = Authority::new();
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let acceptor = local().tls(authority.server()).last_line_without_end(true).line_handler(move |line, conn| {
        let _ = sender.send(line.clone());
        async move { conn.send(line).await }
    });
    let acceptor = acceptor.build().unwrap();
    leave(&authority, &acceptor, b"a line\nhalf a li", 7).await;
    let mut session = authority.session(&acceptor).await.unwrap();
    session.write_all(b"a last line").await.unwrap();
    session.shutdown().await.unwrap();
    assert_eq!(session_rest(&mut session).await.unwrap(), "a last line\n");
    drop(acceptor);
    let mut handled = Vec::new();
    while let Some(line) = in_time("a line", lines.recv()).await {
        handled.push(String::from_utf8(line).unwrap());
    }
    assert_eq!(handled, ["a line", "a last line"]);
}

#[tokio::test]
async fn lines_know_the_protocol_and_the_certificates_of_their_client() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let roots = clients.file("roots.pem", &clients.certificate);
    let handler = async |_, conn: LineConn| {
        let certificates = conn.peer_certificates().map(|chain| (chain.len(), chain[0].to_vec()));
        conn.send(format!("{:?} {certificates:?}", conn.alpn_protocol().map(String::from_utf8_lossy))).await
    };
    let (certificate, key) = clients.issue();
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap().to_vec();
    let own = Tls::new().roots_pem(authority.certificate.as_str()).server_name("localhost");
    let with_all = own.clone().alpn(["chat"]).client_certificate_pem(certificate, key);
    let server = || authority.server();
    for (server, client, expected) in [
        (server().alpn(["chat"]).client_roots_file(roots), with_all, format!("Some(\"chat\") {:?}", Some((1, der)))),
        (server(), own, "None None".to_owned()),
    ] {
        let acceptor = local().tls(server).line_handler(handler).build().unwrap();
        let conn = Conn::builder(acceptor.local_addr().unwrap()).tls(client).unwrap().logger(|_| {}).connect();
        let mut conn = BufReader::new(in_time("connect", conn).await.unwrap());
        conn.write_all(b"who am I\n").await.unwrap();
        conn.flush().await.unwrap();
        let mut answer = String::new();
        in_time("the answer", conn.read_line(&mut answer)).await.unwrap();
        assert_eq!(answer.trim_end(), expected);
    }
}

#[tokio::test]
async fn refusal_arrives_within_the_session() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).acceptors(1).overflow(Overflow::Refuse).refusal("busy\n").build().unwrap();
    let mut first = authority.session(&acceptor).await.unwrap();
    exchange(&mut first).await;
    for _ in 0..3 {
        let mut refused = authority.session(&acceptor).await.unwrap();
        refused.write_all(b"me first").await.unwrap();
        refused.flush().await.unwrap();
        assert_eq!(session_rest(&mut refused).await.unwrap(), "busy\n");
    }
    exchange(&mut first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusal_arrives_however_many_are_refused() {
    let authority = Authority::new();
    let builder = with(authority.server()).acceptors(1).max_handshakes(1000);
    let acceptor = builder.overflow(Overflow::Refuse).refusal("busy\n").build().unwrap();
    let mut first = authority.session(&acceptor).await.unwrap();
    exchange(&mut first).await;
    // They do not close, so that more of them are here at once than the acceptor waits for.
    let connector = authority.connector();
    let address = acceptor.local_addr().unwrap();
    let mut clients = JoinSet::new();
    for _ in 0..500 {
        let connector = connector.clone();
        clients.spawn(async move {
            let socket = TcpStream::connect(address).await.unwrap();
            let mut session = connector.connect(ServerName::try_from("localhost").unwrap(), socket).await.unwrap();
            let text = session_rest(&mut session).await.unwrap();
            (text, session)
        });
    }
    for (text, _session) in in_time("all of them", clients.join_all()).await {
        assert_eq!(text, "busy\n");
    }
    exchange(&mut first).await;
}
