//! A limit of dials that a listener shares with other connections. It needs no server: the dialers are the test's.

use std::future::pending;
use std::io;
use std::time::Duration;

use perconn::postgres::Listener;
use perconn::{Conn, DialLimit, dial_fn};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::support::in_time;

#[tokio::test]
async fn attempt_of_a_listener_waits_for_its_turn_and_a_close_ends_the_wait() {
    let limit = DialLimit::new(1, 10_000).unwrap();
    let hangs = dial_fn(pending::<io::Result<DuplexStream>>);
    let conn = Conn::builder("hangs").dialer(hangs).dial_limit(&limit).build().unwrap();
    in_time("it dials", async {
        while limit.dialing() == 0 {
            sleep(Duration::from_micros(100)).await;
        }
    })
    .await;
    let (sender, mut dials) = mpsc::unbounded_channel();
    let listener = |name: &'static str| {
        let sender = sender.clone();
        let dialer = dial_fn(move || {
            sender.send(name).unwrap();
            std::future::ready(Err::<DuplexStream, _>(io::ErrorKind::ConnectionRefused.into()))
        });
        let builder = Listener::builder("postgres://agent@db.example/orders").dialer(dialer).logger(|_| {});
        builder.dial_limit(&limit).dial_timeout(Duration::from_secs(1)).build().unwrap()
    };
    let waits = |count: usize| {
        let limit = limit.clone();
        in_time("it waits", async move {
            while limit.waiting() != count {
                sleep(Duration::from_micros(100)).await;
            }
        })
    };
    let closed = listener("closed");
    waits(1).await;
    let dials_later = listener("dials later");
    waits(2).await;
    in_time("a close", closed.close()).await;
    waits(1).await;
    assert!(dials.try_recv().is_err());
    in_time("a close", conn.close()).await;
    assert_eq!(in_time("a dial", dials.recv()).await, Some("dials later"));
    in_time("a close", dials_later.close()).await;
    waits(0).await;
}
