//! Connecting: addresses, errors, socket options and traits.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use perconn::Conn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::comparison::bare_pair;
use crate::support::{Server, in_time, refused_address};

/// The kind of the error of a failed connect.
fn kind<T>(outcome: Result<T, impl Into<io::Error>>) -> ErrorKind {
    match outcome {
        Ok(_) => panic!("connected"),
        Err(error) => error.into().kind(),
    }
}

#[tokio::test]
async fn every_address_form_that_both_accept_connects() {
    let server = Server::start().await;
    let port = server.address.port();
    /// Connects both, accepts both, and compares the ends.
    macro_rules! both {
        ($address:expr) => {
            let ((bare, bare_peer), (conn, peer)) = (
                tokio::join!(TcpStream::connect($address), server.accept()),
                tokio::join!(Conn::connect($address), server.accept()),
            );
            let (bare, conn) = (bare.unwrap(), conn.unwrap());
            assert_eq!(conn.peer_addr().unwrap(), bare.peer_addr().unwrap());
            assert_eq!(conn.peer_addr().unwrap(), peer.local_addr().unwrap());
            assert_eq!(bare.local_addr().unwrap(), bare_peer.peer_addr().unwrap());
            assert_eq!(conn.local_addr().unwrap(), peer.peer_addr().unwrap());
        };
    }
    both!(server.address);
    both!(&server.address);
    both!((server.address.ip(), port));
    both!((Ipv4Addr::LOCALHOST, port));
    both!(match server.address {
        SocketAddr::V4(v4) => v4,
        SocketAddr::V6(_) => unreachable!("the server listens on IPv4"),
    });
    let text = server.address.to_string();
    both!(text.clone());
    both!(&text);
    both!(text.as_str());
    both!(("127.0.0.1", port));
    both!((String::from("127.0.0.1"), port));
    both!(("localhost", port));
    both!(format!("localhost:{port}"));
}

#[tokio::test]
async fn ipv6_connects_where_the_machine_has_it() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        println!("skipped: like_tcp_stream: no IPv6 on this machine");
        return;
    };
    let address = listener.local_addr().unwrap();
    let (bare, _) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (conn, accepted) = tokio::join!(Conn::connect(("::1", address.port())), listener.accept());
    assert_eq!(conn.unwrap().peer_addr().unwrap(), bare.unwrap().peer_addr().unwrap());
    assert_eq!(accepted.unwrap().0.local_addr().unwrap(), address);
}

#[tokio::test]
async fn refused_port_has_the_same_error_kind() {
    let address = refused_address().await;
    let (bare, conn) =
        in_time("connect", async { tokio::join!(TcpStream::connect(address), Conn::connect(address)) }).await;
    assert_eq!(kind(conn), ErrorKind::ConnectionRefused);
    assert_eq!(kind(bare), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn invalid_address_has_the_same_error_kind() {
    for address in ["", "localhost", "localhost:http", "localhost:65536", "localhost:-1"] {
        let (bare, conn) =
            in_time("connect", async { tokio::join!(TcpStream::connect(address), Conn::connect(address)) }).await;
        assert_eq!(kind(bare), ErrorKind::InvalidInput, "{address:?}");
        assert_eq!(kind(conn), ErrorKind::InvalidInput, "{address:?}");
    }
}

/// A function of the program that returns `io::Error`.
#[tokio::test]
async fn question_mark_converts_a_failed_connect_to_an_io_error() {
    async fn program(address: SocketAddr) -> io::Result<Conn> {
        Ok(Conn::connect(address).await?)
    }
    assert_eq!(program(refused_address().await).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn socket_has_the_options_of_a_bare_one_by_default() {
    let server = Server::start().await;
    let (bare, _bare_peer) = bare_pair(&server).await;
    let (conn, _peer) = server.pair().await;
    let options = |stream: &TcpStream| {
        let socket = socket2::SockRef::from(stream);
        (
            (stream.nodelay().unwrap(), stream.linger().unwrap(), stream.ttl().unwrap()),
            (socket.keepalive().unwrap(), socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap()),
            (socket.read_timeout().unwrap(), socket.write_timeout().unwrap(), socket.reuse_address().unwrap()),
        )
    };
    assert_eq!(options(conn.get_ref().unwrap()), options(&bare));
    // They are set through the same methods.
    for stream in [conn.get_ref().unwrap(), &bare] {
        stream.set_nodelay(true).unwrap();
        stream.set_ttl(42).unwrap();
    }
    assert_eq!(options(conn.get_ref().unwrap()), options(&bare));
    assert_eq!((bare.nodelay().unwrap(), bare.ttl().unwrap()), (true, 42));
}

#[tokio::test]
async fn halves_know_both_addresses() {
    let server = Server::start().await;
    let (conn, peer) = server.pair().await;
    let (read, write) = conn.into_split();
    assert_eq!(read.peer_addr().unwrap(), server.address);
    assert_eq!(write.peer_addr().unwrap(), server.address);
    assert_eq!(read.local_addr().unwrap(), peer.peer_addr().unwrap());
    assert_eq!(write.local_addr().unwrap(), peer.peer_addr().unwrap());
    assert_eq!(server.address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
}

#[tokio::test]
async fn addresses_are_known_after_a_local_shutdown() {
    let server = Server::start().await;
    let (mut bare, _bare_peer) = bare_pair(&server).await;
    let (mut conn, peer) = server.pair().await;
    bare.shutdown().await.unwrap();
    conn.shutdown().await.unwrap();
    assert_eq!(bare.peer_addr().unwrap(), server.address);
    assert_eq!(conn.peer_addr().unwrap(), server.address);
    assert_eq!(conn.local_addr().unwrap(), peer.peer_addr().unwrap());
}

#[tokio::test]
async fn types_have_the_traits_of_tokios_types() {
    fn stream<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug + 'static>(_: &T) {}
    fn reader<T: AsyncRead + Send + Sync + Unpin + std::fmt::Debug + 'static>(_: &T) {}
    fn writer<T: AsyncWrite + Send + Sync + Unpin + std::fmt::Debug + 'static>(_: &T) {}
    let server = Server::start().await;
    let (bare, _bare_peer) = bare_pair(&server).await;
    let (conn, _peer) = server.pair().await;
    stream(&bare);
    stream(&conn);
    let (bare_read, bare_write) = bare.into_split();
    let (read, write) = conn.into_split();
    reader(&bare_read);
    reader(&read);
    writer(&bare_write);
    writer(&write);
}

#[tokio::test]
async fn debug_text_names_the_type_and_the_address() {
    let server = Server::start().await;
    let (bare, _bare_peer) = bare_pair(&server).await;
    let (conn, _peer) = server.pair().await;
    let address = server.address.to_string();
    assert!(format!("{bare:?}").contains(&address));
    let text = format!("{conn:?}");
    assert!(text.starts_with("Conn {") && text.contains(&address), "{text}");
    let (read, write) = conn.into_split();
    for (text, name) in [(format!("{read:?}"), "ReadHalf {"), (format!("{write:?}"), "WriteHalf {")] {
        assert!(text.starts_with(name) && text.contains(&address), "{text}");
    }
}

/// A generic client over its stream.
struct Client<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn ask(&mut self) -> io::Result<u64> {
        self.0.write_u64(7).await?;
        self.0.flush().await?;
        self.0.read_u64().await
    }
}

#[tokio::test]
async fn conn_works_as_a_type_parameter_and_as_a_trait_object() {
    let server = Server::start().await;
    let answer = async |mut peer: TcpStream| {
        let question = peer.read_u64().await.unwrap();
        peer.write_u64(question + 1).await.unwrap();
    };
    let (bare, bare_peer) = bare_pair(&server).await;
    let (conn, peer) = server.pair().await;
    let (boxed, boxed_peer) = server.pair().await;
    let boxed: Box<dyn super::comparison::Stream> = Box::new(boxed);
    let (mut bare, mut conn, mut boxed) = (Client(bare), Client(conn), Client(boxed));
    let everything = async {
        tokio::join!(answer(bare_peer), answer(peer), answer(boxed_peer), bare.ask(), conn.ask(), boxed.ask())
    };
    let (.., of_bare, of_conn, of_boxed) = in_time("the answers", everything).await;
    assert_eq!((of_bare.unwrap(), of_conn.unwrap(), of_boxed.unwrap()), (8, 8, 8));
}
