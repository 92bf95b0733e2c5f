//! The proxy without a runtime.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use perconn::testing::{Cut, FaultProxy, Link};

#[test]
fn proxy_needs_no_runtime() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    let proxy = FaultProxy::start_blocking(server).unwrap();
    proxy.script([Link::pass().cut_after_from_server(2, Cut::Reset)]);
    let mut client = TcpStream::connect(proxy.addr()).unwrap();
    client.write_all(b"echo").unwrap();
    let mut all = Vec::new();
    assert_eq!(client.read_to_end(&mut all).unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.wait_for_ends(1).block();
    assert_eq!(proxy.ledger()[0].to_client, 2);
    assert!(!proxy.wait_for_links(2).block_within(Duration::from_millis(20)));
    let _second = TcpStream::connect(proxy.addr()).unwrap();
    assert!(proxy.wait_for_links(2).block_within(Duration::MAX));
}

#[tokio::test]
async fn blocking_calls_do_no_harm_in_a_runtime() {
    let proxy = FaultProxy::start_blocking("127.0.0.1:1").unwrap();
    let _client = TcpStream::connect(proxy.addr()).unwrap();
    proxy.wait_for_links(1).block();
}
