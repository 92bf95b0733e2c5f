//! Peers that are quiet or slow, and well.

use std::time::Instant;

use perconn::{Builder, TcpDialer};
use tokio::io::AsyncWriteExt;

use crate::calls::call_once;
use crate::in_a_lab::in_a_lab;
use crate::net::{Net, PORT, T, limits_since};
use crate::remote::Server;
use crate::server::Mode;
use crate::support::soon;

#[test]
fn idle_listening_and_slow_peers_are_left_alone() {
    in_a_lab(async |net: &Net| {
        let mut silent = Server::start(net, Mode::Silent).await;
        let mut slow = Server::start_at(net, Mode::Slow, PORT + 1).await;
        let limited = |client: Builder<TcpDialer>, limit| client.keepalive(T).user_timeout(limit).connect();
        let idle = limited(net.client(), T).await.unwrap();
        let mut heard = limited(net.client(), T).await.unwrap();
        // Its window is shut time and again, the longer the busier this machine is.
        let mut pressed = limited(net.client_of(PORT + 1), 2 * T).await.unwrap();
        let began = Instant::now();
        let (mut words, mut calls) = (0, 0);
        let speaking = async {
            while limits_since(began) < 6.0 {
                soon("a word", heard.write_all(b"a word")).await.unwrap();
                words += 1;
                tokio::time::sleep(T / 4).await;
            }
        };
        let pressing = async {
            while limits_since(began) < 6.0 {
                call_once(&mut pressed, &mut calls).await;
            }
        };
        tokio::join!(speaking, pressing);
        for conn in [&idle, &heard, &pressed] {
            assert_eq!((conn.generation(), conn.is_connected()), (1, true));
        }
        net.say(format_args!(
            "left alone for {:.2} T: {words} words heard, {calls} calls taken slowly",
            limits_since(began)
        ));
        heard.shutdown().await.unwrap();
        assert_eq!(silent.ended(2).await.received, 6 * words);
        slow.began(1).await;
    });
}
