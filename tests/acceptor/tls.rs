//! Sessions of TLS, and their ends.

use std::io;

use perconn::acceptor::{LineConn, Overflow};
use perconn::{Conn, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::authority::{Authority, exchange, session_rest, with};
use crate::support::soon;
use crate::world::{echo, local};

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
    let mut conn = soon("connect", conn).await.unwrap();
    for _ in 0..3 {
        conn.write_all(b"hello").await.unwrap();
        conn.flush().await.unwrap();
        let mut answer = [0; 5];
        soon("an echo", conn.read_exact(&mut answer)).await.unwrap();
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
    soon("all of it", session.read_exact(&mut bytes)).await.unwrap();
    session.write_all(b"x").await.unwrap();
    session.flush().await.unwrap();
    assert_eq!(session_rest(&mut session).await.unwrap(), "");
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
