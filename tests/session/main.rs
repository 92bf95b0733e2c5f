//! Tests of `Sessions`: a session lives and dies with one link, and the connection outlives it.

#[path = "../support/mod.rs"]
mod support;

mod links;
mod next_and_close;
mod other_streams;
mod patterns;

use perconn::{Session, Sessions};
use support::{Server, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The sessions of a connection whose first link is up, the first session, and the server's end.
async fn start(server: &Server) -> (Sessions, Session, TcpStream) {
    let (conn, peer) = server.pair().await;
    let mut sessions = Sessions::new(conn);
    let session = in_time("the first session", sessions.next()).await.unwrap();
    (sessions, session, peer)
}

/// Asserts that the session and the peer reach each other.
async fn exchange(session: &mut Session, peer: &mut TcpStream) {
    let mut byte = [0];
    in_time("write", session.write_all(b"?")).await.unwrap();
    in_time("the peer's read", peer.read_exact(&mut byte)).await.unwrap();
    in_time("the peer's write", peer.write_all(b"!")).await.unwrap();
    in_time("read", session.read_exact(&mut byte)).await.unwrap();
    assert_eq!(&byte, b"!");
}
