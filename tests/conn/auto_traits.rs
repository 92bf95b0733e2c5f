//! The auto traits and common traits of every public type, checked by the compiler.

use std::marker::PhantomPinned;

use perconn::*;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn is_unpin<T: Unpin>() {}
fn is_static<T: 'static>() {}
fn is_debug<T: std::fmt::Debug>() {}
fn is_clone<T: Clone>() {}
fn is_error<T: std::error::Error + Send + Sync + 'static>() {}
fn is_stream<T: AsyncRead + AsyncWrite>() {}
fn value_is_send<T: Send>(_: &T) {}

/// A stream that is not `Sync`.
type NotSync = Box<dyn Stream>;
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

#[test]
fn types_have_the_traits_that_programs_rely_on() {
    is_send::<Conn>();
    is_sync::<Conn>();
    is_unpin::<Conn>();
    is_static::<Conn>();
    is_debug::<Conn>();
    is_stream::<Conn>();
    is_stream::<Conn<DuplexStream>>();
    is_send::<Conn<NotSync>>();
    is_send::<ReadHalf<NotSync>>();
    is_sync::<ReadHalf>();
    is_send::<WriteHalf<NotSync>>();
    is_sync::<WriteHalf>();
    is_debug::<ReadHalf>();
    is_debug::<WriteHalf>();
    is_error::<Error>();
    is_error::<ReuniteError>();
    is_send::<Event>();
    is_sync::<Event>();
    is_clone::<Event>();
    is_clone::<Status>();
    is_clone::<Address>();
    is_send::<Builder>();
    is_debug::<Builder>();
    is_debug::<Op>();
    is_debug::<WhenDown>();
    is_debug::<TcpDialer>();
    is_clone::<AndThen<TcpDialer, ()>>();
    is_send::<TcpStream>();
    // `PhantomPinned` is `Send` and not `Unpin`: the helpers check one trait each.
    is_send::<PhantomPinned>();
}

#[tokio::test]
async fn futures_can_be_spawned() {
    let conn = Conn::builder("127.0.0.1:9").logger(|_| {}).build().unwrap();
    value_is_send(&conn.connected());
    value_is_send(&conn.close());
    value_is_send(&Conn::connect("127.0.0.1:9"));
    value_is_send(&Conn::builder("127.0.0.1:9").connect());
}

#[cfg(feature = "blocking")]
#[test]
fn blocking_connection_can_be_shared_by_threads() {
    is_send::<blocking::Conn>();
    is_sync::<blocking::Conn>();
    is_unpin::<blocking::Conn>();
    is_debug::<blocking::Conn>();
    is_sync::<blocking::Conn<NotSync>>();
    fn is_std_stream<T: std::io::Read + std::io::Write>() {}
    is_std_stream::<blocking::Conn<NotSync>>();
    is_std_stream::<&blocking::Conn>();
}

#[cfg(feature = "session")]
#[tokio::test]
async fn sessions_have_the_traits_that_clients_ask_for() {
    is_send::<Session<NotSync>>();
    is_sync::<Session<NotSync>>();
    is_unpin::<Session>();
    is_static::<Session>();
    is_debug::<Session>();
    is_stream::<Session<DuplexStream>>();
    is_send::<Sessions<NotSync>>();
    is_debug::<Sessions>();
    let mut sessions = Sessions::new(Conn::builder("127.0.0.1:9").logger(|_| {}).build().unwrap());
    value_is_send(&sessions.close());
    value_is_send(&sessions.next());
}

#[cfg(feature = "acceptor")]
#[tokio::test]
async fn acceptor_can_be_shared_and_its_futures_spawned() {
    use perconn::acceptor::{Acceptor, AcceptorBuilder, Event, LineConn, Peer, Stats, Stream};

    is_send::<AcceptorBuilder>();
    is_debug::<AcceptorBuilder>();
    is_sync::<Acceptor>();
    is_debug::<Acceptor>();
    is_send::<Stream>();
    is_sync::<Stream>();
    is_unpin::<Stream>();
    is_stream::<Stream>();
    is_sync::<LineConn>();
    is_clone::<LineConn>();
    is_clone::<Event>();
    is_sync::<Event>();
    is_clone::<Peer>();
    is_clone::<Stats>();
    is_error::<acceptor::Error>();
    let acceptor = Acceptor::builder("127.0.0.1:0").handler(async |_, _| Ok(())).build().unwrap();
    value_is_send(&acceptor.stop(std::time::Duration::ZERO));
}

#[test]
fn shared_connection_can_be_shared_and_its_futures_spawned() {
    fn is_shared<T: Clone + Send + Sync + 'static>() {}
    fn is_send<T: Send>(_: T) {}
    is_shared::<SharedConn>();
    let _ = |conn: SharedConn<TcpStream>| {
        is_send(conn.write_all(b""));
        is_send(conn.close(std::time::Duration::ZERO));
        is_send(async move { conn.read(&mut [0; 8]).await });
    };
}
