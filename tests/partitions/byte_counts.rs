//! The counts of a break: written = acknowledged + unacknowledged, and the server has at least the acknowledged bytes.

use perconn::{Conn, Error, Event};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::calls::{BreakReport, CALL, call_until_break, fill};
use crate::in_a_lab::in_a_lab;
use crate::net::{Net, T};
use crate::server::Mode;
use crate::server_process::Server;
use crate::support::{Recorder, in_time, next_event};

/// The client's counts of a broken link.
#[derive(Debug)]
struct Counts {
    written: u64,
    unacknowledged: u64,
}

impl Counts {
    fn acknowledged(&self) -> u64 {
        self.written - self.unacknowledged
    }
}

async fn connect(net: &Net) -> (Conn, mpsc::UnboundedReceiver<Event>) {
    let (recorder, events) = Recorder::new();
    (net.client().user_timeout(T).on_event(recorder.hook()).connect().await.unwrap(), events)
}

/// Writes calls until the break, and compares the counts of the event with that of the error.
async fn stream(mut conn: Conn, mut events: mpsc::UnboundedReceiver<Event>) -> Counts {
    let report: BreakReport = call_until_break(&mut conn, &mut 0).await;
    report.assert_timeout();
    let counts = next_event(&mut events, |event| match event {
        Event::Disconnected { generation: 1, bytes_written, cause, .. } => match **cause {
            Error::IoError { unacknowledged, .. } => {
                Some(Counts { written: *bytes_written, unacknowledged: unacknowledged.unwrap() })
            }
            ref other => panic!("{other:?}"),
        },
        _ => None,
    })
    .await;
    assert_eq!(report.unacknowledged, Some(counts.unacknowledged));
    counts
}

#[test]
fn server_that_stopped_has_what_its_kernel_acknowledged() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Silent).await;
        let (conn, events) = connect(net).await;
        server.stop().await;
        let counts = stream(conn, events).await;
        server.resume().await;
        let ended = server.ended(1).await;
        net.print(format_args!("{counts:?}, {ended:?}"));
        assert_eq!(ended.received, counts.acknowledged());
        assert!(counts.unacknowledged > 0);
    });
}

#[test]
fn server_that_does_not_read_and_is_cut_off_has_what_its_kernel_acknowledged() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Hoard).await;
        let (mut conn, events) = connect(net).await;
        // As many bytes as it has room for arrive, and are acknowledged.
        fill(&mut conn).await;
        net.partition();
        let counts = stream(conn, events).await;
        net.heal();
        server.open().await;
        server.poke().await;
        let ended = server.ended(1).await;
        net.print(format_args!("{counts:?}, {ended:?}"));
        assert_eq!(ended.received, counts.acknowledged());
        assert!(counts.unacknowledged > 0);
    });
}

#[test]
fn server_that_became_unreachable_has_what_it_acknowledged() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Silent).await;
        let (conn, events) = connect(net).await;
        let streaming = tokio::spawn(stream(conn, events));
        server.began(1).await;
        net.drop_to_server();
        let counts = streaming.await.unwrap();
        net.heal_to_server();
        server.poke().await;
        let ended = server.ended(1).await;
        net.print(format_args!("{counts:?}, {ended:?}"));
        assert_eq!(ended.received, counts.acknowledged());
        assert!(counts.unacknowledged > 0 && counts.written > CALL as u64);
    });
}

#[test]
fn server_whose_acknowledgements_were_lost_has_more_than_the_client_counts() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Silent).await;
        let (conn, events) = connect(net).await;
        let streaming = tokio::spawn(stream(conn, events));
        server.began(1).await;
        net.drop_to_client();
        let counts = streaming.await.unwrap();
        net.heal_to_client();
        server.poke().await;
        let ended = server.ended(1).await;
        net.print(format_args!("{counts:?}, {ended:?}"));
        assert!(counts.acknowledged() < ended.received && ended.received <= counts.written);
    });
}

/// `idle_timeout` is a decision of this program, and the kernel would keep sending what it holds. When the peer is
/// back, bytes of the old link must not arrive after those of the new one.
#[test]
fn unacknowledged_bytes_do_not_arrive_after_an_idle_timeout() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Silent).await;
        let mut conn = net.client().idle_timeout(T).connect().await.unwrap();
        conn.write_all(b"link one").await.unwrap();
        server.began(1).await;
        net.drop_to_server();
        conn.write_all(&[b'.'; 100]).await.unwrap();
        let report = BreakReport::reading(&mut conn).await;
        report.assert_timeout();
        assert_eq!(report.unacknowledged, Some(100));
        net.heal_to_server();
        in_time("a write", conn.write_all(b"link two")).await.unwrap();
        server.began(2).await;
        // The reset of the old link was lost. A byte from the server causes another.
        server.poke().await;
        let ended = server.ended(1).await;
        net.print(format_args!("the old link: {ended:?}"));
        assert_eq!(ended.received, 8);
    });
}
