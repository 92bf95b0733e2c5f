//! Methods of `TcpStream` that a `Conn` does not have, and what replaces them.
//!
//! A trait with a method of the same name proves that one is missing: an inherent method would take precedence, and the
//! test would not compile.

use std::io::ErrorKind;
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use perconn::{Conn, ReadHalf, WriteHalf, dial_fn};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};

use super::comparison::bare_pair;
use crate::support::{Server, in_time, quick, wait_for_break};

struct Missing;

/// Each name is a method of `TcpStream` that takes `&self`, or of a trait that it implements.
macro_rules! missing {
    ($($method:ident)*) => {
        trait Methods {
            $(fn $method(&self) -> Missing { Missing })*
        }
        impl Methods for Conn {}
        impl Methods for ReadHalf {}
        impl Methods for WriteHalf {}

        fn conn_lacks_them(conn: &Conn) {
            $(let Missing = conn.$method();)*
        }
        fn halves_lack_them(read: &ReadHalf, write: &WriteHalf) {
            $(let (Missing, Missing) = (read.$method(), write.$method());)*
        }
    };
}

missing! {
    peek poll_peek ready readable writable poll_read_ready poll_write_ready try_read try_read_buf try_read_vectored
    try_write try_write_vectored try_io async_io nodelay set_nodelay ttl set_ttl linger set_linger set_zero_linger
    take_error as_fd as_raw_fd
}

/// The missing methods that take `&mut self` or `self`.
trait OtherMethods: Sized {
    fn split(&mut self) -> Missing {
        Missing
    }
    #[allow(clippy::wrong_self_convention, reason = "`TcpStream` has this name")]
    fn into_std(self) -> Missing {
        Missing
    }
}

impl OtherMethods for Conn {}

#[tokio::test]
async fn socket_methods_are_reached_through_get_ref() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    conn_lacks_them(&conn);
    let Missing = conn.split();
    peer.write_all(b"abc").await.unwrap();
    let stream: &TcpStream = conn.get_ref().unwrap();
    let mut buf = [0; 8];
    assert_eq!(in_time("peek", stream.peek(&mut buf)).await.unwrap(), 3);
    in_time("readable", stream.readable()).await.unwrap();
    assert!(in_time("ready", stream.ready(Interest::WRITABLE)).await.unwrap().is_writable());
    assert!(stream.take_error().unwrap().is_none());
    #[cfg(unix)]
    assert_eq!(stream.as_fd().as_raw_fd(), stream.as_raw_fd());
    let (mut read, write) = conn.into_split();
    halves_lack_them(&read, &write);
    assert_eq!(in_time("peek", read.get_ref().unwrap().peek(&mut buf)).await.unwrap(), 3);
    assert!(write.get_ref().unwrap().nodelay().is_ok());
    // The peeked bytes are still there.
    assert_eq!(in_time("read", read.read(&mut buf)).await.unwrap(), 3);
    let Missing = read.reunite(write).unwrap().into_std();
}

#[tokio::test]
async fn get_ref_is_none_while_a_break_is_unreported_or_no_link_is_up() {
    let mut server = Server::start().await;
    let (bare, bare_peer) = bare_pair(&server).await;
    let (mut conn, peer) = server.pair().await;
    server.stop();
    drop((bare_peer, peer));
    wait_for_break(&conn).await;
    // After a clean close, the bare socket still has its addresses.
    assert_eq!(bare.peer_addr().unwrap(), server.address);
    let has_none = |conn: &Conn| {
        assert!(conn.get_ref().is_none());
        assert_eq!(conn.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(conn.local_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    };
    has_none(&conn);
    assert_eq!(in_time("the end", conn.read(&mut [0; 4])).await.unwrap(), 0);
    has_none(&conn);
}

#[tokio::test]
async fn local_address_and_options_are_those_of_the_link() {
    let server = Server::start().await;
    let (mut conn, peer) = server.pair().await;
    let first = conn.local_addr().unwrap();
    conn.get_ref().unwrap().set_ttl(42).unwrap();
    assert_eq!(first, peer.peer_addr().unwrap());
    drop(peer);
    assert_eq!(in_time("the end", conn.read(&mut [0; 4])).await.unwrap(), 0);
    let peer = server.accept().await;
    in_time("the next link", conn.connected()).await.unwrap();
    assert_eq!(conn.local_addr().unwrap(), peer.peer_addr().unwrap());
    assert_ne!(conn.local_addr().unwrap(), first);
    assert_ne!(conn.get_ref().unwrap().ttl().unwrap(), 42, "the option was set on the first link only");
}

/// Replaces `from_std`, a `TcpSocket` that is bound first, and a slice of addresses.
#[tokio::test]
async fn stream_made_in_another_way_comes_from_a_dialer() {
    let server = Server::start().await;
    let address = server.address;
    let from_std = dial_fn(move || async move {
        let stream = tokio::task::spawn_blocking(move || std::net::TcpStream::connect(address)).await??;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    });
    // Only Linux has more than one loopback address by default.
    let local = if cfg!(target_os = "linux") { [127, 0, 0, 2] } else { [127, 0, 0, 1] };
    let bound = dial_fn(move || async move {
        let socket = TcpSocket::new_v4()?;
        socket.bind((local, 0).into())?;
        socket.set_keepalive(true)?;
        socket.connect(address).await
    });
    let several = dial_fn(move || async move { TcpStream::connect(&[([127, 0, 0, 1], 1).into(), address][..]).await });
    let (conn, mut peer) = tokio::join!(quick(Conn::builder(address).dialer(from_std)).connect(), server.accept());
    in_time("write", conn.unwrap().write_all(b"a")).await.unwrap();
    assert_eq!(in_time("peer", peer.read_u8()).await.unwrap(), b'a');
    let (conn, peer) = tokio::join!(quick(Conn::builder(address).dialer(bound)).connect(), server.accept());
    assert_eq!(conn.unwrap().local_addr().unwrap().ip(), peer.peer_addr().unwrap().ip());
    assert_eq!(peer.peer_addr().unwrap().ip(), std::net::IpAddr::from(local));
    let (conn, _peer) = tokio::join!(quick(Conn::builder(address).dialer(several)).connect(), server.accept());
    assert_eq!(conn.unwrap().peer_addr().unwrap(), address);
}

/// With a linger of zero, the drop of a bare stream is a reset. A `Conn` shuts its stream down first.
#[tokio::test]
async fn zero_linger_does_not_make_a_dropped_conn_reset() {
    let server = Server::start().await;
    let (bare, mut bare_peer) = bare_pair(&server).await;
    SockRef::from(&bare).set_linger(Some(Duration::ZERO)).unwrap();
    drop(bare);
    let error = in_time("the peer", bare_peer.read(&mut [0; 4])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let (conn, mut peer) = server.pair().await;
    SockRef::from(conn.get_ref().unwrap()).set_linger(Some(Duration::ZERO)).unwrap();
    assert_eq!(conn.get_ref().unwrap().linger().unwrap(), Some(Duration::ZERO));
    drop(conn);
    assert_eq!(in_time("the peer", peer.read(&mut [0; 4])).await.unwrap(), 0);
}
