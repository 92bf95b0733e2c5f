//! Peers that are quiet or slow, and alive: their links must not break.

use std::time::Instant;

use perconn::{Builder, TcpDialer};
use tokio::io::AsyncWriteExt;

use crate::calls::call_once;
use crate::in_a_lab::in_a_lab;
use crate::net::{Net, PORT, T, limits_since};
use crate::server::Mode;
use crate::server_process::Server;
use crate::support::in_time;

#[test]
fn links_to_idle_listening_and_slow_peers_are_not_broken() {
    in_a_lab(async |net: &Net| {
        let mut silent = Server::start(net, Mode::Silent).await;
        let mut slow = Server::start_at(net, Mode::Slow, PORT + 1).await;
        let limited = |client: Builder<TcpDialer>, limit| client.keepalive(T).user_timeout(limit).connect();
        let idle = limited(net.client(), T).await.unwrap();
        let mut active = limited(net.client(), T).await.unwrap();
        // Its window closes again and again, for longer on a busy machine.
        let mut slow_read = limited(net.client_of(PORT + 1), 2 * T).await.unwrap();
        let began = Instant::now();
        let (mut messages, mut calls) = (0, 0);
        let sending = async {
            while limits_since(began) < 6.0 {
                in_time("a message", active.write_all(b"a word")).await.unwrap();
                messages += 1;
                tokio::time::sleep(T / 4).await;
            }
        };
        let filling = async {
            while limits_since(began) < 6.0 {
                call_once(&mut slow_read, &mut calls).await;
            }
        };
        tokio::join!(sending, filling);
        for conn in [&idle, &active, &slow_read] {
            assert_eq!((conn.generation(), conn.is_connected()), (1, true));
        }
        net.print(format_args!(
            "unbroken for {:.2} T: {messages} messages, {calls} calls read slowly",
            limits_since(began)
        ));
        active.shutdown().await.unwrap();
        assert_eq!(silent.ended(2).await.received, 6 * messages);
        slow.began(1).await;
    });
}
