//! The network to PostgreSQL silently drops packets: only the heartbeat can find out.
//!
//! Next: `silence`, for the same with a scripted server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use perconn::postgres::{Error, Listener, ListenerBuilder, Message};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::in_a_lab::in_a_lab;
use crate::lab::SERVER;
use crate::net::{LATE, Net, T, limits_since};
use crate::server::{Plain, Postgres, Setup, is_installed};
use crate::support::in_time;

const PORT: u16 = 5432;

/// A server on the server's machine, and a client over its Unix socket, which no partition affects.
async fn start(net: &Net) -> (Postgres, Plain) {
    let place = SocketAddr::from((SERVER, PORT));
    let server = Setup::of("partition").at(place, &net.names.server).start().unwrap();
    drop(server.client().await);
    let stream = UnixStream::connect(server.socket()).await.unwrap();
    let writer = Plain::over(stream, &server.unix_config()).await.unwrap();
    (server, writer)
}

/// A listener that sends a heartbeat after `T` of silence, and waits half as long for an answer.
fn client(server: &Postgres) -> ListenerBuilder {
    Listener::builder(server.config())
        .retry_min(T / 20)
        .retry_max(T / 10)
        .dial_timeout(T)
        .heartbeat(T)
        .ping_timeout(T / 2)
        .logger(|_| {})
}

/// A listener on "news". On a busy machine, the first dial may take too long, so it is repeated.
async fn listening(server: &Postgres) -> Listener {
    let connect = async {
        loop {
            if let Ok(listener) = client(server).connect().await {
                return listener;
            }
        }
    };
    let listener = in_time("connect", connect).await;
    in_time("listen", listener.listen("news")).await.unwrap();
    listener
}

/// The next message, which must be a notification.
async fn received(listener: &mut Listener) -> String {
    match in_time("a notification", listener.recv()).await.unwrap() {
        Message::Notification(news) => format!("{}: {}", news.channel(), news.payload()),
        other => panic!("{other:?}"),
    }
}

/// Takes the next message, which must be `Lost`. Returns the cause.
async fn lost(listener: &mut Listener) -> String {
    match in_time("Lost", listener.recv()).await.unwrap() {
        Message::Lost { generation: 1, cause, .. } => format!("{cause:?}"),
        other => panic!("{other:?}"),
    }
}

/// Takes the next message, which must be `Resynced`. Returns the length of the outage.
async fn resynced(listener: &mut Listener) -> Duration {
    match in_time("Resynced", listener.recv()).await.unwrap() {
        Message::Resynced { outage, .. } => outage,
        other => panic!("{other:?}"),
    }
}

/// The network of an idle listener is cut by `cut` and repaired by `repair`.
async fn idle(net: &Net, cut: fn(&Net), repair: fn(&Net)) {
    let (server, writer) = start(net).await;
    let mut listener = listening(&server).await;
    writer.notify("news", "one").await.unwrap();
    assert_eq!(received(&mut listener).await, "news: one");
    cut(net);
    let since = Instant::now();
    writer.notify("news", "not delivered").await.unwrap();
    let cause = lost(&mut listener).await;
    let after = limits_since(since);
    net.print(format_args!("lost after {after:.2} T (1.5 T is set): {cause}"));
    assert!(1.0 < after && after < LATE, "{after}");
    // No connection is possible meanwhile.
    let early = timeout(T, listener.recv()).await;
    assert!(early.is_err(), "{early:?}");
    repair(net);
    let healed = Instant::now();
    let outage = resynced(&mut listener).await;
    net.print(format_args!("back {:.2} T after the partition, an outage of {outage:.1?}", limits_since(healed)));
    writer.notify("news", "two").await.unwrap();
    assert_eq!(received(&mut listener).await, "news: two");
    in_time("close", listener.close()).await;
}

#[test]
fn idle_listener_finds_a_partition_in_both_directions_and_recovers_after_it() {
    if is_installed("partition") {
        in_a_lab(async |net: &Net| idle(net, Net::partition, Net::heal).await);
    }
}

/// The heartbeat arrives at the server, its answer does not arrive here.
#[test]
fn idle_listener_finds_a_partition_in_one_direction_and_recovers_after_it() {
    if is_installed("partition") {
        in_a_lab(async |net: &Net| idle(net, Net::drop_to_client, Net::heal_to_client).await);
    }
}

#[test]
fn listener_that_keeps_writing_finds_a_partition_and_its_listen_returns_after_it() {
    if !is_installed("partition") {
        return;
    }
    in_a_lab(async |net: &Net| {
        let (server, writer) = start(net).await;
        let mut listener = listening(&server).await;
        net.partition();
        let since = Instant::now();
        let (pinging, listening) = (listener.handle(), listener.handle());
        let pinging = tokio::spawn(async move {
            let mut failed = 0;
            while !matches!(timeout(T / 10, pinging.ping()).await, Ok(Err(Error::Closed))) {
                failed += 1;
                tokio::time::sleep(T / 20).await;
            }
            failed
        });
        let listening = tokio::spawn(async move { listening.listen("more").await });
        let cause = lost(&mut listener).await;
        let after = limits_since(since);
        net.print(format_args!("lost after {after:.2} T (1.5 T is set): {cause}"));
        assert!(after < LATE, "{after}");
        assert!(!listening.is_finished(), "nothing can have acknowledged it");
        net.heal();
        resynced(&mut listener).await;
        in_time("the listen", listening).await.unwrap().unwrap();
        for channel in ["news", "more"] {
            writer.notify(channel, "two").await.unwrap();
            assert_eq!(received(&mut listener).await, format!("{channel}: two"));
        }
        in_time("close", listener.close()).await;
        net.print(format_args!("{} pings ended", in_time("the pings", pinging).await.unwrap()));
    });
}

#[test]
fn listener_without_notifications_keeps_its_connection() {
    if !is_installed("partition") {
        return;
    }
    in_a_lab(async |net: &Net| {
        let (server, writer) = start(net).await;
        let mut listener = listening(&server).await;
        let since = Instant::now();
        let early = timeout(5 * T, listener.recv()).await;
        assert!(early.is_err(), "{early:?}");
        net.print(format_args!("idle for {:.2} T, and no loss was reported", limits_since(since)));
        writer.notify("news", "one").await.unwrap();
        assert_eq!(received(&mut listener).await, "news: one");
        assert_eq!((listener.generation(), listener.is_connected()), (1, true));
    });
}

/// This is no partition: the server's kernel acknowledges everything that is sent.
#[tokio::test]
async fn frozen_server_is_a_loss_and_is_back_when_it_continues() {
    let Some(server) = Postgres::start("frozen server") else { return };
    drop(server.client().await);
    // The last that this side sends before the silence is sent after this moment.
    let before = Instant::now();
    let mut listener = listening(&server).await;
    server.freeze();
    let since = Instant::now();
    let cause = lost(&mut listener).await;
    println!("frozen: lost after {:.2} T: {cause}", limits_since(since));
    // A heartbeat after `T`, and half of that for its answer. On a busy machine, the server may have frozen late.
    assert!(before.elapsed() > T + T / 2);
    server.thaw();
    resynced(&mut listener).await;
    server.client().await.notify("news", "two").await.unwrap();
    assert_eq!(received(&mut listener).await, "news: two");
}
