//! Sends, closes and cancels that race.

use std::time::Duration;

use perconn::outbox::{Fate, Outbox, WhenFull};
use perconn::testing::{Cut, FaultProxy};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use crate::support::{Server, in_time, quick};

/// A server that reads everything.
fn read_all(server: Server) {
    tokio::spawn(async move {
        loop {
            let mut stream = server.accept_for_ever().await;
            tokio::spawn(async move { while let Ok(1..) = stream.read(&mut [0; 4096]).await {} });
        }
    });
}

/// Eight senders, some of whose futures are dropped, on a small queue; the link is cut, and then all is closed.
async fn round(number: usize) {
    let server = Server::start().await;
    let proxy = FaultProxy::start(server.address).await.unwrap();
    read_all(server);
    let when_full = [WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest][number % 3];
    let outbox =
        Outbox::builder(quick(perconn::Conn::builder(proxy.addr()))).capacity(7).when_full(when_full).start().unwrap();
    let mut senders = JoinSet::new();
    for sender in 0..8 {
        let outbox = outbox.clone();
        senders.spawn(async move {
            let (mut accepted, mut fates) = (0, 0);
            for message in 0..60 {
                match (message + sender) % 4 {
                    0 => {
                        let limit = Duration::from_micros(50 * sender);
                        match tokio::time::timeout(limit, outbox.send("0123456789")).await {
                            Ok(Ok(_)) => accepted += 1,
                            Ok(Err(_)) => return (accepted, fates),
                            Err(_) => {}
                        }
                    }
                    1 => match outbox.try_send("x") {
                        Ok(_) => accepted += 1,
                        Err(error) if error.is_final() => return (accepted, fates),
                        Err(_) => tokio::task::yield_now().await,
                    },
                    2 if message % 8 == 2 => match outbox.send_and_wait("y").await {
                        Ok(fate) => {
                            assert!(!matches!(fate, Fate::Answered | Fate::Expired | Fate::Rejected(_)), "{fate}");
                            (accepted, fates) = (accepted + 1, fates + 1);
                        }
                        Err(_) => return (accepted, fates),
                    },
                    _ => match outbox.send("z").await {
                        Ok(_) => accepted += 1,
                        Err(_) => return (accepted, fates),
                    },
                }
            }
            (accepted, fates)
        });
    }
    if number % 2 == 0 {
        proxy.cut(Cut::Reset);
    }
    if number % 5 == 0 {
        // In the middle of it.
        tokio::task::yield_now().await;
    } else if number % 5 == 1 {
        in_time("flush", outbox.flush()).await;
    } else {
        in_time("the senders", async {
            while outbox.tally().accepted < 300 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let (one, two) = in_time("close", async {
        tokio::join!(outbox.close(Duration::from_secs(5)), outbox.close(Duration::from_secs(4)))
    })
    .await;
    let mut accepted = 0;
    while let Some(sender) = in_time("the senders end", senders.join_next()).await {
        accepted += sender.unwrap().0;
    }
    assert_eq!(one, two);
    assert_eq!((one.accepted, one.settled(), one.waiting), (accepted, accepted, 0), "{one}");
}

#[tokio::test]
async fn senders_closes_and_cancels_race_on_one_worker() {
    for number in 0..200 {
        round(number).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_closes_and_cancels_race_on_two_workers() {
    for number in 0..200 {
        round(number).await;
    }
}
