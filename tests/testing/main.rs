//! Tests of `testing`: the proxy between plain sockets, and the scripted dialer.

#[path = "../support/mod.rs"]
mod support;

mod blocking;
mod conditions;
mod cuts;
mod dials;
mod endings;
mod scripted;
#[cfg(unix)]
mod unix;

use std::net::SocketAddr;

use perconn::testing::FaultProxy;
use support::in_time;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that sends back what it receives.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

/// A proxy in front of an echo server.
async fn proxy() -> FaultProxy {
    FaultProxy::start(echo_server().await).await.unwrap()
}

/// A proxy, and the listener of the server behind it.
async fn proxy_and_listener() -> (FaultProxy, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (FaultProxy::start(listener.local_addr().unwrap()).await.unwrap(), listener)
}

/// Both ends of a link through the proxy.
async fn link(proxy: &FaultProxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = dial(proxy).await;
    let (server, _) = in_time("the server accepts", listener.accept()).await.unwrap();
    (client, server)
}

async fn dial(proxy: &FaultProxy) -> TcpStream {
    in_time("dial", TcpStream::connect(proxy.addr())).await.unwrap()
}

/// Asserts that bytes pass in both directions.
async fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    in_time("write", client.write_all(b">")).await.unwrap();
    assert_eq!(in_time("read", server.read_u8()).await.unwrap(), b'>');
    in_time("write", server.write_all(b"<")).await.unwrap();
    assert_eq!(in_time("read", client.read_u8()).await.unwrap(), b'<');
}

/// Reads until the end of the stream, or until an error.
async fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, std::io::Result<()>) {
    let mut all = Vec::new();
    let outcome = in_time("the end of the stream", stream.read_to_end(&mut all)).await;
    (all, outcome.map(drop))
}
