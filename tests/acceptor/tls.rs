//! Sessions of TLS, and their ends.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use perconn::acceptor::{LineConn, Overflow};
use perconn::tokio_rustls::rustls::pki_types::ServerName;
use perconn::{Conn, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use crate::authority::{Authority, exchange, session_rest, with};
use crate::given_up::fill;
use crate::support::in_time;
use crate::world::{LONG, echo, local};

#[tokio::test]
async fn connection_of_the_core_talks_to_it() {
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
async fn lines_come_and_go_over_tls_and_the_end_is_orderly() {
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
async fn handler_that_just_returns_ends_the_session_as_it_should() {
    let authority = Authority::new();
    let acceptor = local().tls(authority.server()).handler(async |mut stream, _| {
        stream.write_all(b"goodbye").await?;
        stream.flush().await
    });
    let acceptor = acceptor.build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    // Without the session's own end, this would be an error.
    assert_eq!(session_rest(&mut session).await.unwrap(), "goodbye");
}

#[tokio::test]
async fn read_sends_what_a_write_without_a_flush_has_left() {
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
async fn read_sends_what_a_write_that_was_given_up_has_left() {
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
                yield_now().await; // it waits
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
async fn stop_lets_an_answer_arrive_that_the_session_has_taken() {
    let authority = Authority::new();
    let (sender, taken) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let acceptor = local().tls(authority.server()).handler(move |mut stream, _| {
        let sender = sender.lock().unwrap().take().unwrap();
        async move {
            // No write has to wait, but the last is not all with the kernel.
            let mut taken = 0;
            while !stream.tls().unwrap().wants_write() {
                yield_now().await; // else, the runtime may say that there is no room
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
        // The stop comes first.
        sleep(Duration::from_millis(100)).await;
        let mut bytes = Vec::new();
        in_time("the end of the session", session.read_to_end(&mut bytes)).await.unwrap();
        bytes.len()
    };
    let (stopped, read) = tokio::join!(in_time("stop", acceptor.stop(LONG)), reading);
    assert_eq!((read, stopped.cut), (taken, 0));
}

#[tokio::test]
async fn panic_does_not_look_like_the_end_of_the_session() {
    let authority = Authority::new();
    let acceptor = local().tls(authority.server()).handler(async |mut stream, _| {
        stream.write_all(b"half an ans").await?;
        stream.flush().await?;
        panic!("as it is told")
    });
    let acceptor = acceptor.build().unwrap();
    let mut session = authority.session(&acceptor).await.unwrap();
    let error = session_rest(&mut session).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
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
    // As they do not close, more are here at once than are seen off.
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
