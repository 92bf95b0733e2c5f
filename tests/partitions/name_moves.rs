//! Names whose addresses change, or are not all of use.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use perconn::{Conn, Event};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::calls::echo;
use crate::in_a_lab::in_a_lab;
use crate::lab::{SERVER, SERVER_NAME};
use crate::net::{Net, PORT, T};
use crate::remote::Server;
use crate::server::Mode;
use crate::support::{Recorder, event, quick, soon};

#[test]
fn name_is_resolved_anew_at_each_dial() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Echo).await;
        // At first the name is that of this machine.
        net.name_points_to(&["127.0.0.1"]);
        let old = TcpListener::bind(("127.0.0.1", PORT)).await.unwrap();
        let (recorder, mut events) = Recorder::new();
        let builder = quick(Conn::builder((SERVER_NAME, PORT))).on_event(recorder.hook());
        let mut conn = builder.connect().await.unwrap();
        let (peer, _) = old.accept().await.unwrap();
        assert!(conn.peer_addr().unwrap().ip().is_loopback());
        // It goes away, and at first nobody has told the name.
        drop((old, peer));
        assert_eq!(soon("the end", conn.read(&mut [0])).await.unwrap(), 0);
        let refused = |event: &Event| match event {
            Event::DialFailed { cause, .. } => Some(cause.kind()),
            _ => None,
        };
        assert_eq!(event(&mut events, refused).await, io::ErrorKind::ConnectionRefused);
        net.name_points_to(&[&SERVER.to_string()]);
        echo(&mut conn).await;
        assert_eq!(conn.peer_addr().unwrap(), net.address(PORT));
        net.say(format_args!("followed from 127.0.0.1 to {SERVER}"));
    });
}

/// 127.0.0.1 takes connections, and is of no use; 127.0.0.2 serves.
async fn with_an_address_of_no_use(net: &Net, hangs: bool) {
    net.name_points_to(&["127.0.0.1", "127.0.0.2"]);
    let useless = TcpListener::bind(("127.0.0.1", PORT)).await.unwrap();
    let good = TcpListener::bind(("127.0.0.2", PORT)).await.unwrap();
    let set_up = move |stream: TcpStream| async move {
        match stream.peer_addr()?.ip() {
            IpAddr::V4(Ipv4Addr::LOCALHOST) if hangs => std::future::pending().await,
            IpAddr::V4(Ipv4Addr::LOCALHOST) => Err(io::Error::other("a standby")),
            _ => Ok(stream),
        }
    };
    let builder = quick(Conn::builder((SERVER_NAME, PORT))).dial_timeout(T / 10).and_then(set_up);
    let mut conn = builder.build().unwrap();
    soon("the good one", conn.connected()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap().ip(), Ipv4Addr::new(127, 0, 0, 2));
    // It stays the first choice.
    drop(good.accept().await.unwrap());
    assert_eq!(soon("the end", conn.read(&mut [0])).await.unwrap(), 0);
    soon("the good one", conn.connected()).await.unwrap();
    let mut dials = 0;
    while timeout(T / 100, useless.accept()).await.is_ok() {
        dials += 1;
    }
    assert_eq!(dials, 1);
    net.say(format_args!("up after a dial to the address of no use"));
}

#[test]
fn address_that_leads_a_set_up_into_the_dial_timeout_comes_last() {
    in_a_lab(async |net: &Net| with_an_address_of_no_use(net, true).await);
}

#[test]
fn address_whose_set_up_fails_comes_last() {
    in_a_lab(async |net: &Net| with_an_address_of_no_use(net, false).await);
}
