//! Where and how links are cut.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::Duration;

use perconn::testing::{Cut, Direction, Link, LinkEnd, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::in_time;
use crate::{dial, exchange, link, proxy, proxy_and_listener, read_to_end};

/// Asserts how the stream ends, behind these bytes.
async fn assert_end(stream: &mut TcpStream, bytes: &[u8], cut: Cut) {
    let (all, outcome) = read_to_end(stream).await;
    match cut {
        Cut::Reset => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset),
        _ => outcome.unwrap(),
    }
    assert_eq!(all, bytes);
}

#[tokio::test]
async fn link_is_cut_after_a_number_of_bytes_to_the_server() {
    for cut in [Cut::Close, Cut::Reset] {
        let (proxy, listener) = proxy_and_listener().await;
        proxy.script([Link::pass().cut_after(5, cut)]);
        let (mut client, mut server) = link(&proxy, &listener).await;
        client.write_all(b"hello world").await.unwrap();
        assert_end(&mut server, b"hello", cut).await;
        assert_end(&mut client, b"", cut).await;
        in_time("the end", proxy.wait_for_ends(1)).await;
        let [record] = &proxy.ledger()[..] else { panic!("one link") };
        assert!(matches!(record.end, Some(LinkEnd::Cut(by)) if by == cut), "{record}");
        assert_eq!((record.number, record.to_server, record.to_client), (1, 5, 0));
        assert!(record.accepted_at <= record.ended_at.unwrap());
    }
}

#[tokio::test]
async fn link_is_cut_after_a_number_of_bytes_from_the_server() {
    for cut in [Cut::Close, Cut::Reset] {
        let proxy = proxy().await;
        proxy.script([Link::pass().cut_after_from_server(70_000, cut)]);
        let mut client = dial(&proxy).await;
        let (mut read, mut write) = client.split();
        let sent = vec![7; 200_000];
        let mut received = Vec::new();
        // The cut ends the write, too, perhaps before it has sent everything.
        let (_, outcome) = tokio::join!(write.write_all(&sent), in_time("the end", read.read_to_end(&mut received)));
        if cut == Cut::Close {
            // Bytes that the proxy had not read can turn the close into a reset, but no byte is missing before it.
            assert!(outcome.is_ok() || received.len() == 70_000, "{outcome:?}");
        }
        assert!(received.len() <= 70_000);
        in_time("the end", proxy.wait_for_ends(1)).await;
        assert_eq!(proxy.ledger()[0].to_client, 70_000);
    }
}

#[tokio::test]
async fn link_is_cut_behind_a_pattern() {
    let (proxy, listener) = proxy_and_listener().await;
    proxy.script([
        Link::pass().cut_at(b"COMMIT", Cut::Close),
        Link::pass().cut_at_from_server("DONE", Cut::Close),
        Link::pass().cut_at("", Cut::Close),
    ]);
    let (mut client, mut server) = link(&proxy, &listener).await;
    for piece in [&b"BEGIN; COM"[..], b"MIT; more"] {
        client.write_all(piece).await.unwrap();
    }
    assert_end(&mut server, b"BEGIN; COMMIT", Cut::Close).await;
    assert_end(&mut client, b"", Cut::Close).await;

    let (mut client, mut server) = link(&proxy, &listener).await;
    server.write_all(b"DO NOT, DONE, more").await.unwrap();
    assert_end(&mut client, b"DO NOT, DONE", Cut::Close).await;
    assert_end(&mut server, b"", Cut::Close).await;

    let (mut client, mut server) = link(&proxy, &listener).await;
    assert_end(&mut server, b"", Cut::Close).await;
    assert_end(&mut client, b"", Cut::Close).await;
}

#[tokio::test]
async fn half_close_ends_the_direction_to_the_client_only() {
    let (proxy, listener) = proxy_and_listener().await;
    proxy.script([Link::pass().cut_after(2, Cut::HalfClose)]);
    let (mut client, mut server) = link(&proxy, &listener).await;
    client.write_all(b"ab").await.unwrap();
    assert_end(&mut client, b"", Cut::HalfClose).await;
    client.write_all(b"cd").await.unwrap();
    server.write_all(&vec![0; 1 << 20]).await.unwrap();
    in_time("it passes", server.read_exact(&mut [0; 4])).await.unwrap();
    drop((client, server));
    in_time("the end", proxy.wait_for_ends(1)).await;
    let record = &proxy.ledger()[0];
    assert!(matches!(record.end, Some(LinkEnd::Cut(Cut::HalfClose))), "{record}");
    assert_eq!((record.to_server, record.to_client), (4, 0));
}

/// Each of these bytes is on its way through the proxy when the direction to the client ends.
#[tokio::test]
async fn half_close_loses_nothing_that_the_client_sends() {
    let bytes: Vec<u8> = (0..1_000_000).map(|i| (i % 251) as u8).collect();
    for entry in [
        Link::pass().cut_after(100_001, Cut::HalfClose),
        Link::pass().cut_at([bytes[70], bytes[71], bytes[72]], Cut::HalfClose),
        Link::pass().cut_after_from_server(1, Cut::HalfClose),
        Link::pass(), // and `cut`, below
    ] {
        let (proxy, listener) = proxy_and_listener().await;
        proxy.script([entry.latency(Duration::from_millis(20), Duration::ZERO)]);
        let (client, mut server) = link(&proxy, &listener).await;
        let (mut read, mut write) = client.into_split();
        let sent = bytes.clone();
        let writer = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write
        });
        let mut received = vec![0; bytes.len()];
        in_time("a part", server.read_exact(&mut received[..300_000])).await.unwrap();
        server.write_all(b"x").await.unwrap();
        proxy.cut(Cut::HalfClose);
        in_time("the rest", server.read_exact(&mut received[300_000..])).await.unwrap();
        assert!(received == bytes);
        in_time("the end of the stream", read.read_to_end(&mut Vec::new())).await.unwrap();
        drop(writer.await.unwrap());
        assert_end(&mut server, b"", Cut::HalfClose).await;
        drop(server);
        in_time("the end", proxy.wait_for_ends(1)).await;
        let record = &proxy.ledger()[0];
        assert!(matches!(record.end, Some(LinkEnd::Cut(Cut::HalfClose))), "{record}");
        assert_eq!(record.to_server, bytes.len() as u64);
    }
}

/// What the server still sends is thrown away, and does not turn the end of the upload into a reset.
#[tokio::test]
async fn half_close_loses_nothing_if_the_server_sends_on() {
    for _ in 0..20 {
        let (proxy, listener) = proxy_and_listener().await;
        proxy.script([Link::pass().cut_after(1, Cut::HalfClose)]);
        let (mut client, server) = link(&proxy, &listener).await;
        let (mut read, mut write) = server.into_split();
        let writer = tokio::spawn(async move { while write.write_all(&[0; 1000]).await.is_ok() {} });
        client.write_all(&vec![7; 500_000]).await.unwrap();
        let mut tail = Vec::new();
        in_time("the end of the stream", client.read_to_end(&mut tail)).await.unwrap();
        drop(client);
        let mut received = Vec::new();
        in_time("the upload", read.read_to_end(&mut received)).await.unwrap();
        assert_eq!(received.len(), 500_000);
        writer.abort();
    }
}

/// The cut comes before the proxy has a link to the server.
#[tokio::test]
async fn half_close_before_the_server_is_dialed_lets_the_upload_pass() {
    let (proxy, listener) = proxy_and_listener().await;
    proxy.stall();
    let mut client = dial(&proxy).await;
    proxy.cut(Cut::HalfClose);
    assert_end(&mut client, b"", Cut::HalfClose).await;
    client.write_all(b"upload").await.unwrap();
    proxy.heal();
    let (mut server, _) = in_time("the server accepts", listener.accept()).await.unwrap();
    drop(client);
    assert_end(&mut server, b"upload", Cut::HalfClose).await;
    drop(server);
    in_time("the end", proxy.wait_for_ends(1)).await;
    assert!(matches!(proxy.ledger()[0].end, Some(LinkEnd::Cut(Cut::HalfClose))));
}

#[tokio::test]
async fn half_closed_link_can_be_cut_again() {
    for (by_script, cut) in [(true, Cut::Close), (true, Cut::Reset), (false, Cut::Close), (false, Cut::Reset)] {
        let (proxy, listener) = proxy_and_listener().await;
        let half_close = Link::pass().cut_after(2, Cut::HalfClose);
        proxy.script([if by_script { half_close.cut_after(4, cut) } else { half_close }]);
        let (mut client, mut server) = link(&proxy, &listener).await;
        client.write_all(b"abcd").await.unwrap();
        let mut received = [0; 4];
        in_time("it passes", server.read_exact(&mut received)).await.unwrap();
        if !by_script {
            proxy.cut(cut);
        }
        assert_end(&mut server, b"", cut).await;
        in_time("the end", proxy.wait_for_ends(1)).await;
        let record = &proxy.ledger()[0];
        assert!(matches!(record.end, Some(LinkEnd::Cut(by)) if by == cut), "{record}");
    }
}

#[tokio::test]
async fn one_link_is_cut_by_its_number_and_known_by_its_client() {
    let (proxy, listener) = proxy_and_listener().await;
    let mut links = Vec::new();
    for _ in 0..3 {
        links.push(link(&proxy, &listener).await);
    }
    let wanted = Some(links[1].0.local_addr().unwrap());
    let number = proxy.ledger().iter().find(|record| record.client == wanted).unwrap().number;
    assert_eq!(number, 2);
    for none in [0, 4, usize::MAX] {
        proxy.cut_link(none, Cut::Reset);
    }
    proxy.cut_link(number, Cut::Reset);
    proxy.cut_link(number, Cut::Close);
    for (index, (client, server)) in links.iter_mut().enumerate() {
        match index {
            1 => assert_end(client, b"", Cut::Reset).await,
            _ => exchange(client, server).await,
        }
    }
    assert_eq!(proxy.ledger().iter().filter(|record| record.end.is_some()).count(), 1);
}

#[tokio::test]
async fn stalled_link_stays_open_until_it_is_cut() {
    let (proxy, listener) = proxy_and_listener().await;
    proxy.script([Link::pass().cut_after(2, Cut::Stall)]);
    let (mut client, mut server) = link(&proxy, &listener).await;
    client.write_all(b"abc").await.unwrap();
    in_time("two bytes", server.read_exact(&mut [0; 2])).await.unwrap();
    server.write_all(b"x").await.unwrap();
    // Another link is not concerned.
    let (mut other, mut other_server) = link(&proxy, &listener).await;
    exchange(&mut other, &mut other_server).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), client.read_u8()).await.is_err());
    let record = &proxy.ledger()[0];
    assert!(record.end.is_none() && record.is_stalled, "{record}");
    proxy.cut(Cut::Reset);
    assert_end(&mut client, b"", Cut::Reset).await;
    assert_end(&mut server, b"", Cut::Reset).await;
    assert!(matches!(proxy.ledger()[0].end, Some(LinkEnd::Cut(Cut::Reset))));
}

/// The proxy throws away what has arrived, and does not wait until a client that only writes has had enough.
#[tokio::test]
async fn close_does_not_go_on_reading() {
    let (proxy, listener) = proxy_and_listener().await;
    let (client, _server) = link(&proxy, &listener).await;
    let client = client.into_std().unwrap();
    client.set_nonblocking(false).unwrap();
    let write_on = |mut client: std::net::TcpStream| {
        move || (0_u64..).find_map(|pieces| client.write_all(&[0; 1 << 16]).is_err().then_some(pieces << 16)).unwrap()
    };
    let writers: Vec<_> = (0..8).map(|_| thread::spawn(write_on(client.try_clone().unwrap()))).collect();
    in_time("the link is busy", proxy.wait_for_bytes(Direction::ToServer, 1)).await;
    proxy.cut(Cut::Close);
    let written: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    let passed = proxy.ledger()[0].to_server;
    // No more than the buffers of the kernels hold, and are emptied of once.
    assert!(written < passed + (32 << 20), "{passed} of {written} bytes had passed");
}

#[tokio::test]
async fn cut_finds_every_client_whose_dial_has_succeeded() {
    let proxy = proxy().await;
    for round in 1..=50 {
        let mut client = dial(&proxy).await;
        proxy.cut(if round % 2 == 0 { Cut::Close } else { Cut::Reset });
        let end = &proxy.ledger()[round - 1].end;
        assert!(matches!(end, Some(LinkEnd::Cut(_))), "round {round}: {end:?}");
        let (all, _) = read_to_end(&mut client).await;
        assert_eq!(all, b"");
    }
}

#[tokio::test]
async fn ends_of_the_peers_pass() {
    let (proxy, listener) = proxy_and_listener().await;
    // The client ends its side, gets the rest, and then the server ends.
    let (mut client, mut server) = link(&proxy, &listener).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_end(&mut server, b"question", Cut::Close).await;
    server.write_all(b"answer").await.unwrap();
    drop(server);
    assert_end(&mut client, b"answer", Cut::Close).await;
    in_time("the end", proxy.wait_for_ends(1)).await;
    assert!(matches!(proxy.ledger()[0].end, Some(LinkEnd::ClosedBy(Peer::Client))));
    // A reset passes as a reset, in both directions.
    for resets in [Peer::Client, Peer::Server] {
        let (mut client, mut server) = link(&proxy, &listener).await;
        exchange(&mut client, &mut server).await;
        let (one, mut other) = if resets == Peer::Client { (client, server) } else { (server, client) };
        crate::support::reset(one);
        assert_end(&mut other, b"", Cut::Reset).await;
        let ends = proxy.ledger().len();
        in_time("the end", proxy.wait_for_ends(ends)).await;
        assert!(matches!(proxy.ledger()[ends - 1].end, Some(LinkEnd::ResetBy(peer)) if peer == resets));
    }
}

#[tokio::test]
async fn waits_for_bytes_of_all_links_together() {
    let proxy = proxy().await;
    let (mut one, mut other) = (dial(&proxy).await, dial(&proxy).await);
    let ((), (), ()) = tokio::join!(
        async {
            one.write_all(b"abc").await.unwrap();
            other.write_all(b"de").await.unwrap();
        },
        in_time("the bytes", proxy.wait_for_bytes(Direction::ToClient, 5)),
        in_time("the records", proxy.wait_for(|records| records.iter().any(|record| record.to_server == 2))),
    );
    in_time("at once", proxy.wait_for_links(2)).await;
}
