//! The link to PostgreSQL is cut, and nobody says a word of it: only the heartbeat can know.

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

/// A server on the server's machine, and a client to which no partition matters.
async fn start(net: &Net) -> (Postgres, Plain) {
    let place = SocketAddr::from((SERVER, PORT));
    let server = Setup::of("partition").at(place, &net.names.server).start().unwrap();
    drop(server.client().await);
    let stream = UnixStream::connect(server.socket()).await.unwrap();
    let writer = Plain::over(stream, &server.unix_config()).await.unwrap();
    (server, writer)
}

/// A listener that asks after `T` of silence, and waits half as long for an answer.
fn client(server: &Postgres) -> ListenerBuilder {
    Listener::builder(server.config())
        .retry_min(T / 20)
        .retry_max(T / 10)
        .dial_timeout(T)
        .heartbeat(T)
        .ping_timeout(T / 2)
        .logger(|_| {})
}

/// One that listens on "news". (On a busy machine, the first dial may take too long.)
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

/// The next message, which is a notification.
async fn heard(listener: &mut Listener) -> String {
    match in_time("a notification", listener.recv()).await.unwrap() {
        Message::Notification(news) => format!("{}: {}", news.channel(), news.payload()),
        other => panic!("{other:?}"),
    }
}

/// The next message, which is `Lost`; gives the cause.
async fn lost(listener: &mut Listener) -> String {
    match in_time("Lost", listener.recv()).await.unwrap() {
        Message::Lost { generation: 1, cause, .. } => format!("{cause:?}"),
        other => panic!("{other:?}"),
    }
}

async fn resynced(listener: &mut Listener) -> Duration {
    match in_time("Resynced", listener.recv()).await.unwrap() {
        Message::Resynced { outage, .. } => outage,
        other => panic!("{other:?}"),
    }
}

/// The link of an idle listener, cut by `cut` and mended by `mend`.
async fn idle(net: &Net, cut: fn(&Net), mend: fn(&Net)) {
    let (server, writer) = start(net).await;
    let mut listener = listening(&server).await;
    writer.notify("news", "one").await.unwrap();
    assert_eq!(heard(&mut listener).await, "news: one");
    cut(net);
    let since = Instant::now();
    writer.notify("news", "into the void").await.unwrap();
    let cause = lost(&mut listener).await;
    let after = limits_since(since);
    net.print(format_args!("lost after {after:.2} T (1.5 T is set): {cause}"));
    assert!(1.0 < after && after < LATE, "{after}");
    // Nobody is let in meanwhile.
    let early = timeout(T, listener.recv()).await;
    assert!(early.is_err(), "{early:?}");
    mend(net);
    let healed = Instant::now();
    let outage = resynced(&mut listener).await;
    net.print(format_args!("back {:.2} T after the partition, an outage of {outage:.1?}", limits_since(healed)));
    writer.notify("news", "two").await.unwrap();
    assert_eq!(heard(&mut listener).await, "news: two");
    in_time("close", listener.close()).await;
}

#[test]
fn idle_listener_is_told_when_packets_vanish_both_ways_and_hears_again_after_it() {
    if is_installed("partition") {
        in_a_lab(async |net: &Net| idle(net, Net::partition, Net::heal).await);
    }
}

/// The heartbeat's question arrives, its answer does not.
#[test]
fn idle_listener_is_told_when_packets_of_the_server_vanish_and_hears_again_after_it() {
    if is_installed("partition") {
        in_a_lab(async |net: &Net| idle(net, Net::drop_to_client, Net::heal_to_client).await);
    }
}

#[test]
fn listener_that_writes_all_the_time_is_told_as_well_and_its_listen_ends_after_it() {
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
        assert!(!listening.is_finished(), "nobody can have acknowledged it");
        net.heal();
        resynced(&mut listener).await;
        in_time("the listen", listening).await.unwrap().unwrap();
        for channel in ["news", "more"] {
            writer.notify(channel, "two").await.unwrap();
            assert_eq!(heard(&mut listener).await, format!("{channel}: two"));
        }
        in_time("close", listener.close()).await;
        net.print(format_args!("{} pings ended", in_time("the pings", pinging).await.unwrap()));
    });
}

#[test]
fn listener_to_which_nothing_is_said_for_long_is_left_alone() {
    if !is_installed("partition") {
        return;
    }
    in_a_lab(async |net: &Net| {
        let (server, writer) = start(net).await;
        let mut listener = listening(&server).await;
        let since = Instant::now();
        let early = timeout(5 * T, listener.recv()).await;
        assert!(early.is_err(), "{early:?}");
        net.print(format_args!("idle for {:.2} T, and nobody was told", limits_since(since)));
        writer.notify("news", "one").await.unwrap();
        assert_eq!(heard(&mut listener).await, "news: one");
        assert_eq!((listener.generation(), listener.is_connected()), (1, true));
    });
}

/// No partition: its kernel acknowledges all that is sent.
#[tokio::test]
async fn frozen_server_is_a_loss_and_is_heard_again_when_it_goes_on() {
    let Some(server) = Postgres::start("frozen server") else { return };
    drop(server.client().await);
    let mut listener = listening(&server).await;
    server.freeze();
    let since = Instant::now();
    let cause = lost(&mut listener).await;
    println!("frozen: lost after {:.2} T: {cause}", limits_since(since));
    assert!(since.elapsed() > T);
    server.thaw();
    resynced(&mut listener).await;
    server.client().await.notify("news", "two").await.unwrap();
    assert_eq!(heard(&mut listener).await, "news: two");
}
