//! The server comes back at another address, and its name follows it.

use std::io;

use perconn::{Conn, Event};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::calls::echo;
use crate::in_a_lab::in_a_lab;
use crate::lab::{SERVER, SERVER_NAME};
use crate::net::{Net, PORT};
use crate::remote::Server;
use crate::server::Mode;
use crate::support::{Recorder, event, quick, soon};

#[test]
fn name_is_resolved_anew_at_each_dial() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Echo).await;
        // At first the name is that of this machine.
        net.name_points_to([127, 0, 0, 1]);
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
        net.name_points_to(SERVER);
        echo(&mut conn).await;
        assert_eq!(conn.peer_addr().unwrap(), net.address(PORT));
        net.say(format_args!("followed from 127.0.0.1 to {SERVER}"));
    });
}
